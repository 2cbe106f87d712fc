//! Moments of one step's privacy loss, by quadrature with a proved error.
//!
//! For the pair `(P, Q)` of a step and a tilt `λ = α - 1 > 0`, `E_P[e^(λL)] = ∫ P^α Q^(1-α) = e^((α-1) D_α(P||Q))`.
//! In noise deviations, with shift `m`, mixture ratio `u(y) = 1 - q + q e^(my - m²/2)` and normal density `φ`:
//!
//! * `zero_out`: `∫ φ(y) u(y)^α dy`. Mironov, Talwar, Zhang 2019 (arXiv 1908.10530) show that the opposite
//!   direction is not larger, so one moment serves both.
//! * `replace`: `∫ φ(y) u(y)^α u(-y)^(1-α) dy`, the divergence of the dominating pair itself. Whatever a pair dominates
//!   is its post-processing, and divergences do not grow under post-processing.
//!
//! # Error of the trapezoidal rule
//!
//! For a function analytic in the strip `|Im y| <= d` whose integral of `|f|` along each horizontal line is at most `M`,
//! the infinite trapezoidal sum with spacing `h` differs from the integral by at most `2M / (e^(2πd/h) - 1)` (Trefethen,
//! Weideman 2014, Theorem 5.1). Here `u` does not meet the negative axis while `d m < π`, and on a line at height `d`
//!
//! * `|φ| = e^(d²/2) φ(Re y)`,
//! * `|u| <= u(Re y)` by the triangle inequality,
//! * `|u(-y)| >= cos(dm/2) u(-Re y)`, as `|a + b e^(iθ)|² = (a+b)² - 4ab sin²(θ/2)`,
//!
//! so `M` is at most `e^(d²/2) cos(dm/2)^(1-α)` (second factor for `replace` only) times the integral itself: the error is
//! relative, and `h` is chosen to make it `2e^-40`.

use std::f64::consts::PI;

use crate::accountant::{composition::Part, pld::pair::log_ratio};
use crate::params::NeighboringRelation;

/// Logarithm of the relative quadrature error that `h` is chosen for.
const LOG_ACCURACY: f64 = 40.0;
/// Beyond this many nodes the closed bound is used.
const MOST_NODES: f64 = 65_536.0;

/// An upper bound on `ln E_P[e^(tilt L)]` for one step of `part`.
pub(super) fn log_moment(part: &Part, tilt: f64, relation: NeighboringRelation) -> f64 {
    let moment = Moment { shift: part.shift, probability: part.probability, tilt, relation };
    let closed = moment.closed_bound();
    moment.quadrature().map_or(closed, |quadrature| quadrature.min(closed))
}

/// The integral for one step, order and relation.
struct Moment {
    shift: f64,
    probability: f64,
    tilt: f64,
    relation: NeighboringRelation,
}

impl Moment {
    /// Mean and log-mass of the Gaussian `N_1^α N_0^(1-α)` (or `N_1^α N_-1^(1-α)`): the moment without sampling.
    fn unsampled(&self) -> (f64, f64) {
        let order = self.tilt + 1.0;
        let square = self.shift * self.shift;
        match self.relation {
            NeighboringRelation::ZeroOut => (order * self.shift, 0.5 * order * self.tilt * square),
            NeighboringRelation::Replace => {
                ((order + self.tilt) * self.shift, 2.0 * order * self.tilt * square)
            }
        }
    }

    /// `ln(1 - q + q e^K)` with the moment `K` without sampling: `P^α Q^(1-α)` is jointly convex in `(P, Q)`.
    fn closed_bound(&self) -> f64 {
        let (_, log_mass) = self.unsampled();
        let bound = if log_mass < 600.0 { (self.probability * log_mass.exp_m1()).ln_1p() } else { log_mass };
        bound * (1.0 + 1e-14)
    }

    /// Height of the strip and spacing of the nodes.
    fn spacing(&self) -> f64 {
        let (height, growth) = match self.relation {
            NeighboringRelation::ZeroOut => ((0.9 * PI / self.shift).min(6.0), 0.0),
            NeighboringRelation::Replace => {
                let height = self.shift.recip().min(6.0);
                (height, -self.tilt * (0.5 * height * self.shift).cos().ln())
            }
        };
        2.0 * PI * height / (LOG_ACCURACY + 0.5 * height * height + growth)
    }

    /// Logarithm of the integrand without the factor `1/sqrt(2π)`.
    fn log_integrand(&self, y: f64) -> f64 {
        let ratio = (self.tilt + 1.0) * log_ratio(self.shift, self.probability, y);
        let other = match self.relation {
            NeighboringRelation::ZeroOut => 0.0,
            NeighboringRelation::Replace => self.tilt * log_ratio(self.shift, self.probability, -y),
        };
        ratio - other - 0.5 * y * y
    }

    /// The trapezoidal sum with its error added, or nothing if it needs too many nodes.
    ///
    /// By convexity the integrand is at most `φ(y)` plus the unsampled Gaussian, so outside the summed range it is below
    /// `e^-40` on either side and falls like a normal density; the moment itself is at least 1.
    fn quadrature(&self) -> Option<f64> {
        let (mean, log_mass) = self.unsampled();
        let (low, high) = (-9.0, mean + (81.0 + 2.0 * log_mass).sqrt());
        let spacing = self.spacing();
        let nodes = ((high - low) / spacing).ceil();
        // Also false for NaN, which extreme parameters may bring about.
        if nodes.is_nan() || nodes > MOST_NODES {
            return None;
        }
        let logs: Vec<f64> =
            (0..=nodes as u32).map(|node| self.log_integrand(low + spacing * f64::from(node))).collect();
        let largest = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = logs.iter().map(|log| (log - largest).exp()).sum();
        let log_sum = largest + (sum * spacing / (2.0 * PI).sqrt()).ln();
        let outside = 1e-15;
        Some(log_sum + outside + self.rounding(largest, high) + f64::EPSILON * nodes)
    }

    /// Bound on the rounding of the summed logarithms, without that of their summation.
    ///
    /// The powers of both ratios are wrong by 10 roundoffs of `α|x| + (α-1)|x'|`, at most `h² + hm/2` with `h` the upper end
    /// `high`, which the unsampled mean does not exceed. Each node is off by 3 roundoffs of `h`, where the logarithm of the
    /// integrand has a slope of at most `2h`. Multiplications and subtractions add up to 6 roundoffs of their results. In
    /// the weighted sum, terms far below the largest count for nothing.
    fn rounding(&self, largest: f64, high: f64) -> f64 {
        let magnitude = 4.0 + high * high + largest.abs() + (self.tilt + 1.0) * self.shift * self.shift;
        16.0 * f64::EPSILON * magnitude
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The binomial sum of Mironov, Talwar, Zhang 2019 for integer orders under `zero_out`.
    fn binomial_sum(shift: f64, q: f64, order: i32) -> f64 {
        let mut coefficient = 1.0;
        let mut sum = 0.0;
        for k in 0..=order {
            let power = f64::from(k * k - k) * shift * shift / 2.0;
            sum += coefficient * (1.0 - q).powi(order - k) * q.powi(k) * power.exp();
            coefficient *= f64::from(order - k) / f64::from(k + 1);
        }
        sum.ln()
    }

    fn part(shift: f64, probability: f64) -> Part {
        Part { shift, probability, steps: 1 }
    }

    #[test]
    fn integer_orders_agree_with_the_binomial_sum() {
        for (shift, q) in [(1.0, 0.01), (0.05, 0.5), (1.7, 0.2), (0.4, 1.0), (0.9, 1e-4)] {
            for order in [2, 3, 7, 20] {
                let exact = binomial_sum(shift, q, order);
                let found = log_moment(&part(shift, q), f64::from(order - 1), NeighboringRelation::ZeroOut);
                let gap = found - exact;
                assert!(
                    gap > -1e-13 && gap < 1e-11 * (1.0 + exact),
                    "shift {shift}, q {q}, order {order}: {gap}"
                );
            }
        }
    }

    #[test]
    fn without_sampling_the_divergence_is_the_gaussian_one() {
        for (shift, tilt) in [(0.1, 0.3), (1.0, 1.5), (2.0, 9.0)] {
            let (order, square) = (tilt + 1.0, shift * shift);
            let zero_out = log_moment(&part(shift, 1.0), tilt, NeighboringRelation::ZeroOut);
            let replace = log_moment(&part(shift, 1.0), tilt, NeighboringRelation::Replace);
            assert!((zero_out - order * tilt * square / 2.0).abs() < 1e-12 * (1.0 + zero_out));
            assert!((replace - 2.0 * order * tilt * square).abs() < 1e-12 * (1.0 + replace));
        }
    }

    /// For a small shift `m` and `q = 1/2` the log-ratio is `x/2 + x²/8` to order `x⁴`, so the moment is a Gaussian integral.
    #[test]
    fn huge_orders_of_small_shifts_are_not_below_the_series() {
        for (shift, tilt) in [(1e-6_f64, 1e6_f64), (1e-5, 3e4), (1e-4, 1e3)] {
            let (order, k) = (tilt + 1.0, (tilt + 1.0) / 8.0);
            let square = 1.0 - 2.0 * k * shift * shift;
            let linear = 0.5 * order * shift - k * shift.powi(3);
            let constant = -0.25 * order * shift * shift + 0.25 * k * shift.powi(4);
            let exact = linear * linear / (2.0 * square) - 0.5 * square.ln() + constant;
            let found = log_moment(&part(shift, 0.5), tilt, NeighboringRelation::ZeroOut);
            let gap = found - exact;
            assert!(gap > 0.0 && gap < 1e-11, "shift {shift}, tilt {tilt}: {gap}");
        }
    }

    /// A trapezoidal sum eight times as fine gives the same value.
    #[test]
    fn replace_agrees_with_a_much_finer_sum() {
        for (shift, q, tilt) in [(1.0, 0.05, 0.7), (0.3, 0.5, 12.0), (1.6, 0.01, 5.0), (0.05, 0.2, 300.0)] {
            let relation = NeighboringRelation::Replace;
            let moment = Moment { shift, probability: q, tilt, relation };
            let (mean, log_mass) = moment.unsampled();
            let (low, high) = (-12.0, mean + (144.0 + 2.0 * log_mass).sqrt());
            let spacing = moment.spacing() / 8.0;
            let mut sum = 0.0;
            let mut y = low;
            while y < high {
                sum += moment.log_integrand(y).exp() * spacing / (2.0 * PI).sqrt();
                y += spacing;
            }
            let gap = log_moment(&part(shift, q), tilt, relation) - sum.ln();
            assert!(gap > -1e-12 && gap < 1e-9, "shift {shift}, q {q}, tilt {tilt}: {gap}");
        }
    }
}
