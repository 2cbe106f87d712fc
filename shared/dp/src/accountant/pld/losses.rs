//! Discretized privacy loss distributions of one step.

use super::pair::{DominatingPair, Edge, Mass};
use crate::normal::quantile_bound;

/// Most grid cells of one step.
pub(super) const MOST_CELLS: f64 = 262_144.0;

/// A distribution on multiples of an interval that dominates a step's privacy loss, or that the step's loss dominates.
#[derive(Debug, Clone)]
pub(super) struct LossDistribution {
    /// Spacing of the losses.
    pub(super) interval: f64,
    /// Grid index of the first probability: loss `first * interval`.
    pub(super) first: i64,
    /// Probabilities of consecutive grid losses.
    pub(super) probabilities: Vec<f64>,
    /// Bound on the probability of larger losses, counted as infinite.
    pub(super) at_infinity: f64,
    /// Bound on how far rounding may have set any loss to the wrong side.
    pub(super) uncertainty: f64,
}

/// The range of losses that is discretized.
#[derive(Debug, Clone, Copy)]
pub(super) struct LossRange {
    pub(super) low: f64,
    pub(super) high: f64,
}

impl LossRange {
    /// Losses outside have at most probability `tail` on either side.
    pub(super) fn of(pair: &DominatingPair, tail: f64) -> Self {
        let reach = quantile_bound(tail);
        let (least, greatest) = pair.means();
        Self { low: pair.loss(least - reach), high: pair.loss(greatest + reach) }
    }

    /// Whether the range has a length, and one that doubles of its size resolve; false for NaN.
    pub(super) fn is_resolved(&self) -> bool {
        self.length() > 0.0 && self.magnitude() < 1e6 * self.length()
    }

    /// The larger of the ends' distances from zero.
    pub(super) fn magnitude(&self) -> f64 {
        self.low.abs().max(self.high.abs())
    }

    /// Length of the range.
    pub(super) fn length(&self) -> f64 {
        self.high - self.low
    }
}

impl LossDistribution {
    /// A distribution that dominates: of `range`, what lies above counts as infinite, what lies below is raised to the
    /// least grid loss.
    ///
    /// Connecting the dots (Doroshenko et al. 2022): the masses `p` and `p'` that the first and second distribution of the
    /// pair give to losses between two neighboring grid points are divided over these two points so that both totals stay.
    /// As merging atoms is post-processing and dividing is its reverse, the result dominates.
    pub(super) fn above(pair: &DominatingPair, range: LossRange, interval: f64) -> Self {
        let first = (range.low / interval).floor() as i64;
        let last = ((range.high / interval).ceil() as i64).max(first + 1);
        let cells = (last - first) as usize;
        let mut probabilities = vec![0.0; cells + 1];
        let mut low = pair.edge(pair.value_at(first as f64 * interval));
        probabilities[0] = pair.first_mass_below(&low);
        for cell in 0..cells {
            let loss = (first + cell as i64) as f64 * interval;
            let high = pair.edge(pair.value_at(loss + interval));
            let (at_low, at_high) = divide(pair, (&low, &high), loss, interval);
            probabilities[cell] += at_low;
            probabilities[cell + 1] += at_high;
            low = high;
        }
        Self {
            interval,
            first,
            probabilities,
            at_infinity: pair.first_mass_above(&low) * (1.0 + 1e-12),
            uncertainty: pair.loss_uncertainty(range.magnitude() + interval),
        }
    }

    /// Grid index of the last probability.
    pub(super) fn last(&self) -> i64 {
        self.first + self.probabilities.len() as i64 - 1
    }

    /// `ln E[e^(tilt L); L finite]` of one step, NaN where it underflows.
    pub(super) fn log_moment(&self, tilt: f64) -> f64 {
        let scaled = polynomial(&self.probabilities, (-tilt * self.interval).exp());
        let log_scaled = if scaled >= f64::MIN_POSITIVE { scaled.ln() } else { f64::NAN };
        log_scaled + tilt * self.last() as f64 * self.interval
    }

    /// `p_i e^(tilt L_i - log_moment)`, the distribution tilted towards large losses.
    pub(super) fn tilted(&self, tilt: f64, log_moment: f64) -> impl Iterator<Item = (i64, f64)> + '_ {
        self.probabilities.iter().enumerate().map(move |(offset, &p)| {
            let index = self.first + offset as i64;
            (index, p * (tilt * (index as f64 * self.interval) - log_moment).exp())
        })
    }
}

/// `Σ p_i decay^(n-1-i)`: the sum of weighted powers, scaled by the largest one, as several Horner schemes side by side.
fn polynomial(probabilities: &[f64], decay: f64) -> f64 {
    const LANES: usize = 8;
    let (first, rest) = probabilities.split_at(probabilities.len() % LANES);
    let mut sums = [0.0; LANES];
    sums[LANES - first.len()..].copy_from_slice(first);
    let decays = decay.powi(LANES as i32);
    for chunk in rest.chunks_exact(LANES) {
        for (sum, &p) in sums.iter_mut().zip(chunk) {
            *sum = *sum * decays + p;
        }
    }
    sums.iter().fold(0.0, |sum, &lane| sum * decay + lane)
}

/// Divides the mass of the cell `(loss, loss + interval]` over its ends.
///
/// With `a + b = p` and `a e^-loss + b e^-(loss + interval) = p'`, the share of the upper end is
/// `b = (p - p' e^loss) / (1 - e^-interval)`. Errors of both masses are added to `b`, which moves mass upwards.
fn divide(pair: &DominatingPair, (low, high): (&Edge, &Edge), loss: f64, interval: f64) -> (f64, f64) {
    let first: Mass = pair.first_mass(low, high);
    let second = pair.second_mass(low, high);
    let total = first.value + first.uncertainty;
    let factor = loss.exp();
    let excess = total + first.uncertainty - (second.value - second.uncertainty).max(0.0) * factor
        + 4.0 * f64::EPSILON * total;
    let upper = excess / -(-interval).exp_m1();
    // Where the second mass underflows or the factor overflows, all goes to the upper end.
    let upper = if upper.is_finite() && second.value > 1e-290 { upper.clamp(0.0, total) } else { total };
    (total - upper, upper)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accountant::{composition::Part, pld::pair::Direction};

    fn hockey_stick(losses: &LossDistribution, epsilon: f64) -> f64 {
        let finite: f64 = losses
            .tilted(0.0, 0.0)
            .map(|(index, p)| p * (1.0 - (epsilon - index as f64 * losses.interval).exp()).max(0.0))
            .sum();
        finite + losses.at_infinity
    }

    /// At grid points the discretized curve is the exact one, between them it lies above.
    #[test]
    fn the_dots_lie_on_the_curve_and_the_lines_above_it() {
        for direction in [Direction::Remove, Direction::Add, Direction::Replace] {
            let pair = DominatingPair::new(&Part { shift: 0.8, probability: 0.1, steps: 1 }, direction);
            let range = LossRange::of(&pair, 1e-12);
            let coarse = LossDistribution::above(&pair, range, 0.05);
            for step in -8..40 {
                let epsilon = f64::from(step) * 0.025;
                let edge = pair.edge(pair.value_at(epsilon));
                let top = pair.edge(f64::INFINITY);
                let exact =
                    pair.first_mass(&edge, &top).value - epsilon.exp() * pair.second_mass(&edge, &top).value;
                let gap = hockey_stick(&coarse, epsilon) - exact;
                assert!(gap > -1e-14, "{direction:?} at {epsilon}: {gap}");
                assert!(step % 2 != 0 || gap < 2e-12, "{direction:?} at the dot {epsilon}: {gap}");
            }
        }
    }

    #[test]
    fn mass_is_conserved_and_moments_grow_with_the_interval() {
        let pair = DominatingPair::new(&Part { shift: 1.2, probability: 0.02, steps: 1 }, Direction::Replace);
        let range = LossRange::of(&pair, 1e-12);
        let moments: Vec<f64> = [0.2, 0.1, 0.05, 0.025]
            .into_iter()
            .map(|interval| {
                let losses = LossDistribution::above(&pair, range, interval);
                let total: f64 = losses.probabilities.iter().sum::<f64>() + losses.at_infinity;
                assert!((total - 1.0).abs() < 1e-11, "{total}");
                losses.log_moment(3.0)
            })
            .collect();
        assert!(moments.windows(2).all(|pair| pair[0] > pair[1]), "{moments:?}");
    }
}
