//! Probabilities of the standard normal distribution without cancellation in the tails.

use std::f64::consts::FRAC_1_SQRT_2;

/// A point `z` with the smaller of the two tail probabilities beside it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tail {
    /// Whether the tail lies above the point, that is `z > 0`.
    above: bool,
    /// Probability of the smaller tail, at most one half.
    probability: f64,
    /// Bound on the error of `probability`: of `erfc` itself and of rounding its argument.
    uncertainty: f64,
}

impl Tail {
    /// The tail at `z`, which may be infinite.
    pub(crate) fn at(z: f64) -> Self {
        let probability = 0.5 * libm::erfc(z.abs() * FRAC_1_SQRT_2);
        let relative = 8.0 * f64::EPSILON * (1.0 + z * z);
        let uncertainty = if probability > 0.0 { probability * relative } else { 0.0 };
        Self { above: z > 0.0, probability, uncertainty }
    }

    /// Probability between this point and a higher one.
    pub(crate) fn mass_until(&self, higher: &Self) -> f64 {
        let mass = match (self.above, higher.above) {
            (true, _) => self.probability - higher.probability,
            (false, false) => higher.probability - self.probability,
            (false, true) => 1.0 - self.probability - higher.probability,
        };
        // Not `max`, which would make nothing of what is not a number.
        if mass < 0.0 { 0.0 } else { mass }
    }

    /// Probability above the point.
    pub(crate) fn mass_above(&self) -> f64 {
        if self.above { self.probability } else { 1.0 - self.probability }
    }

    /// Probability below the point.
    pub(crate) fn mass_below(&self) -> f64 {
        if self.above { 1.0 - self.probability } else { self.probability }
    }

    /// Bound on the error of the tail probability.
    pub(crate) fn uncertainty(&self) -> f64 {
        self.uncertainty
    }
}

/// A point beyond which the normal distribution has at most probability `tail`, for `tail` in `(0, 1/2]`.
///
/// From `P(Z > z) <= exp(-z²/2) / 2`.
pub(crate) fn quantile_bound(tail: f64) -> f64 {
    (-2.0 * (2.0 * tail).ln()).max(0.0).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tails_agree_with_tables() {
        for (z, expected) in [(0.0, 0.5), (1.0, 0.158_655_253_931_457_05), (6.0, 9.865_876_450_376_98e-10)] {
            assert!((Tail::at(z).mass_above() / expected - 1.0).abs() < 1e-13);
            assert!((Tail::at(-z).mass_below() / expected - 1.0).abs() < 1e-13);
        }
        assert_eq!(Tail::at(f64::INFINITY).mass_above(), 0.0);
        assert_eq!(Tail::at(f64::NEG_INFINITY).mass_above(), 1.0);
        assert_eq!(Tail::at(f64::INFINITY).uncertainty(), 0.0);
    }

    #[test]
    fn masses_far_out_keep_their_relative_precision() {
        let mass = Tail::at(10.0).mass_until(&Tail::at(10.001));
        let density = (-10.0005_f64.powi(2) / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
        assert!((mass / (density * 0.001) - 1.0).abs() < 1e-5);
        let middle = Tail::at(-1.0).mass_until(&Tail::at(1.0));
        assert!((middle - libm::erf(FRAC_1_SQRT_2)).abs() < 1e-15);
    }

    #[test]
    fn what_is_not_a_number_has_no_mass_of_zero() {
        assert!(Tail::at(f64::NAN).mass_until(&Tail::at(1.0)).is_nan());
        assert!(Tail::at(0.0).mass_until(&Tail::at(f64::NAN)).is_nan());
    }

    #[test]
    fn the_quantile_bound_is_on_the_safe_side() {
        for tail in [0.5, 0.1, 1e-5, 1e-20, 1e-300] {
            assert!(Tail::at(quantile_bound(tail)).mass_above() <= tail * (1.0 + 1e-12));
        }
    }
}
