//! The privacy loss of one step as a function of the released value.
//!
//! Values are in noise deviations, and `m`, the shift, is one contribution in that unit. Each direction has a first
//! distribution `P`, a second `Q` and a loss `L(y) = ln P(y)/Q(y)` that increases in `y`:
//!
//! | direction | P | Q | loss |
//! |---|---|---|---|
//! | `Remove` | `(1-q) N(0,1) + q N(m,1)` | `N(0,1)` | `r(y)` |
//! | `Add` | `N(0,1)` | `(1-q) N(0,1) + q N(-m,1)` | `-r(-y)` |
//! | `Replace` | `(1-q) N(0,1) + q N(m,1)` | `(1-q) N(0,1) + q N(-m,1)` | `r(y) - r(-y)` |
//!
//! with `r(y) = ln(1 - q + q e^(my - m²/2))`.

use crate::{accountant::composition::Part, normal::Tail, params::NeighboringRelation};

/// `ln(1 - q + q e^x)` with `x = my - m²/2` for shift `m`: log-density of the sampled mixture over that of pure noise.
///
/// Its error is at most `10 |x|` roundoffs, also where the result is near zero: 4 from the exponent, and at most 6 from
/// the form in use, both relative to a result that is not larger than `|x|`.
pub(in crate::accountant) fn log_ratio(shift: f64, probability: f64, y: f64) -> f64 {
    let exponent = shift * (y - 0.5 * shift);
    if exponent > 500.0 {
        return exponent + probability.ln();
    }
    if probability >= 1.0 {
        return exponent;
    }
    let excess = probability * exponent.exp_m1();
    if excess > -0.5 {
        excess.ln_1p()
    } else {
        // That form would cancel where the sum is small.
        (1.0 - probability + probability * exponent.exp()).ln()
    }
}

/// Which distribution of the dominating pair is the true one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Direction {
    /// The unit is present, the alternative is that it is absent.
    Remove,
    /// The unit is absent, the alternative is that it is present.
    Add,
    /// The unit has one value, the alternative is the opposite one.
    Replace,
}

impl Direction {
    /// The directions whose larger epsilon is that of a relation.
    pub(super) fn all(relation: NeighboringRelation) -> &'static [Self] {
        match relation {
            NeighboringRelation::Replace => &[Self::Replace],
            NeighboringRelation::ZeroOut => &[Self::Remove, Self::Add],
        }
    }
}

/// The dominating pair of one step.
#[derive(Debug, Clone, Copy)]
pub(super) struct DominatingPair {
    direction: Direction,
    shift: f64,
    probability: f64,
}

/// The two distributions' masses above or between points, seen from one point.
#[derive(Debug, Clone, Copy)]
pub(super) struct Edge {
    center: Tail,
    raised: Tail,
    lowered: Tail,
}

/// A probability and a bound on its error.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mass {
    pub(super) value: f64,
    pub(super) uncertainty: f64,
}

impl DominatingPair {
    pub(super) fn new(part: &Part, direction: Direction) -> Self {
        Self { direction, shift: part.shift, probability: part.probability }
    }

    /// The privacy loss at `y`.
    pub(super) fn loss(&self, y: f64) -> f64 {
        let ratio = |y| log_ratio(self.shift, self.probability, y);
        match self.direction {
            Direction::Remove => ratio(y),
            Direction::Add => -ratio(-y),
            Direction::Replace => ratio(y) - ratio(-y),
        }
    }

    /// The value at which the loss is `loss`; infinite where no value has it.
    pub(super) fn value_at(&self, loss: f64) -> f64 {
        match self.direction {
            Direction::Remove => self.value_at_ratio(loss),
            Direction::Add => -self.value_at_ratio(-loss),
            Direction::Replace => self.value_at_difference(loss),
        }
    }

    /// Inverse of `r`: `m y = ln((e^loss - 1 + q) / q) + m²/2`.
    fn value_at_ratio(&self, loss: f64) -> f64 {
        let rest = 1.0 - self.probability;
        let log_numerator = if loss > 1.0 {
            loss + (-rest * (-loss).exp()).ln_1p()
        } else if rest == 0.0 {
            loss
        } else if rest < 0.5 {
            (loss.exp() - rest).max(0.0).ln()
        } else {
            // Not positive at or below the least loss ln(1 - q).
            (loss.exp_m1() + self.probability).max(0.0).ln()
        };
        (log_numerator - self.probability.ln()) / self.shift + 0.5 * self.shift
    }

    /// Inverse of `r(y) - r(-y)`: `m y = loss/2 + asinh((1-q)/q e^(m²/2) sinh(loss/2))`, a quadratic equation in `e^(my)`.
    fn value_at_difference(&self, loss: f64) -> f64 {
        let half = 0.5 * loss.abs();
        let log_sinh = if half > 300.0 { half - std::f64::consts::LN_2 } else { half.sinh().ln() };
        let odds = (1.0 - self.probability) / self.probability;
        let log_argument = odds.ln() + 0.5 * self.shift * self.shift + log_sinh;
        let asinh = if log_argument > 300.0 {
            log_argument + std::f64::consts::LN_2
        } else {
            log_argument.exp().asinh()
        };
        ((half + asinh) / self.shift).copysign(loss)
    }

    /// Bound on the error of the loss at the computed edges of a grid whose largest loss is `largest` in magnitude.
    pub(super) fn loss_uncertainty(&self, largest: f64) -> f64 {
        let magnitude = 1.0 + largest + self.shift * self.shift - self.probability.ln();
        16.0 * f64::EPSILON * magnitude
    }

    /// Upper bound on the total variation distance of the pair, `delta` at `epsilon = 0`.
    pub(super) fn total_variation(&self) -> f64 {
        let distance = if self.direction == Direction::Replace { 2.0 * self.shift } else { self.shift };
        self.probability * libm::erf(0.5 * distance * std::f64::consts::FRAC_1_SQRT_2) * (1.0 + 1e-12)
    }

    /// Least and greatest mean of the components of the first distribution.
    pub(super) fn means(&self) -> (f64, f64) {
        match self.direction {
            Direction::Add => (0.0, 0.0),
            Direction::Remove | Direction::Replace => (0.0, self.shift),
        }
    }

    /// Tails of all components at `y`.
    pub(super) fn edge(&self, y: f64) -> Edge {
        // A component that the direction does not use costs no evaluation.
        let unused = Tail::at(f64::INFINITY);
        let raised = if self.direction == Direction::Add { unused } else { Tail::at(y - self.shift) };
        let lowered = if self.direction == Direction::Remove { unused } else { Tail::at(y + self.shift) };
        Edge { center: Tail::at(y), raised, lowered }
    }

    /// Mass of the first distribution between two edges.
    pub(super) fn first_mass(&self, low: &Edge, high: &Edge) -> Mass {
        match self.direction {
            Direction::Add => between(&low.center, &high.center),
            Direction::Remove | Direction::Replace => {
                self.mixture(between(&low.center, &high.center), between(&low.raised, &high.raised))
            }
        }
    }

    /// Mass of the second distribution between two edges.
    pub(super) fn second_mass(&self, low: &Edge, high: &Edge) -> Mass {
        match self.direction {
            Direction::Remove => between(&low.center, &high.center),
            Direction::Add | Direction::Replace => {
                self.mixture(between(&low.center, &high.center), between(&low.lowered, &high.lowered))
            }
        }
    }

    /// Mass of the first distribution above an edge.
    pub(super) fn first_mass_above(&self, edge: &Edge) -> f64 {
        let q = if self.direction == Direction::Add { 0.0 } else { self.probability };
        (1.0 - q) * edge.center.mass_above() + q * edge.raised.mass_above()
    }

    /// Mass of the first distribution below an edge.
    pub(super) fn first_mass_below(&self, edge: &Edge) -> f64 {
        let q = if self.direction == Direction::Add { 0.0 } else { self.probability };
        (1.0 - q) * edge.center.mass_below() + q * edge.raised.mass_below()
    }

    fn mixture(&self, center: Mass, shifted: Mass) -> Mass {
        let q = self.probability;
        Mass {
            value: (1.0 - q) * center.value + q * shifted.value,
            uncertainty: (1.0 - q) * center.uncertainty + q * shifted.uncertainty,
        }
    }
}

fn between(low: &Tail, high: &Tail) -> Mass {
    let value = low.mass_until(high);
    Mass { value, uncertainty: low.uncertainty() + high.uncertainty() + 4.0 * f64::EPSILON * value }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pair(direction: Direction, noise: f64, probability: f64) -> DominatingPair {
        DominatingPair { direction, shift: 1.0 / noise, probability }
    }

    fn directions() -> impl Strategy<Value = Direction> {
        prop_oneof![Just(Direction::Remove), Just(Direction::Add), Just(Direction::Replace)]
    }

    proptest! {
        #[test]
        fn the_inverse_inverts_within_the_stated_error(
            direction in directions(), noise in 0.2..30.0_f64, q in 1e-4..1.0_f64, y in -9.0..12.0_f64,
        ) {
            let pair = pair(direction, noise, q);
            let loss = pair.loss(y);
            let back = pair.value_at(loss);
            prop_assume!(back.is_finite());
            prop_assert!((pair.loss(back) - loss).abs() <= pair.loss_uncertainty(loss.abs()));
        }

        #[test]
        fn the_loss_increases(
            direction in directions(), noise in 0.2..30.0_f64, q in 1e-4..1.0_f64, y in -9.0..12.0_f64,
        ) {
            let pair = pair(direction, noise, q);
            prop_assert!(pair.loss(y + 0.01) >= pair.loss(y));
        }

        #[test]
        fn masses_have_the_ratio_of_the_loss(
            direction in directions(), noise in 0.4..30.0_f64, q in 1e-3..1.0_f64, y in -6.0..6.0_f64,
        ) {
            let pair = pair(direction, noise, q);
            let (low, high) = (pair.edge(y), pair.edge(y + 1e-4));
            let ratio = pair.first_mass(&low, &high).value / pair.second_mass(&low, &high).value;
            prop_assert!((ratio.ln() - pair.loss(y + 5e-5)).abs() < 1e-6);
        }
    }

    /// The cumulants of a coin with probability `q`, to third order in the exponent.
    #[test]
    fn the_log_ratio_keeps_its_relative_precision_near_zero() {
        for q in [1e-3, 0.3, 0.5, 0.6, 0.999] {
            for (shift, y) in [(1e-6, 3.0), (1e-5, -2.0), (1e-9, 0.5)] {
                let x = shift * (y - 0.5 * shift);
                let variance = q * (1.0 - q);
                let series = q * x + variance * x * x / 2.0 + variance * (1.0 - 2.0 * q) * x * x * x / 6.0;
                let error = log_ratio(shift, q, y) - series;
                assert!(error.abs() <= 5.0 * f64::EPSILON * x.abs(), "{q} {shift} {y}: {error}");
            }
        }
    }

    #[test]
    fn losses_that_do_not_occur_lie_at_infinity() {
        assert_eq!(pair(Direction::Remove, 1.0, 0.5).value_at(-1.0), f64::NEG_INFINITY);
        assert_eq!(pair(Direction::Add, 1.0, 0.5).value_at(1.0), f64::INFINITY);
        assert_eq!(pair(Direction::Replace, 1.0, 0.5).value_at(0.0), 0.0);
    }

    #[test]
    fn extreme_losses_stay_finite() {
        for direction in [Direction::Remove, Direction::Replace] {
            let pair = pair(direction, 1e-3, 0.01);
            let loss = pair.loss(1500.0);
            assert!(loss > 1e5 && (pair.value_at(loss) / 1500.0 - 1.0).abs() < 1e-12, "{direction:?} {loss}");
        }
    }
}
