//! Binary cross-entropy on logits.

use crate::real::Real;

/// `-y ln s(z) - (1 - y) ln(1 - s(z))` with the logistic function s, for any finite logit without overflow.
#[inline(always)]
pub fn cross_entropy<F: Real>(logit: F, label: F) -> F {
    logit.max(F::zero()) - logit * label + (-logit.abs()).exp().ln_1p()
}

/// Derivative of [`cross_entropy`] by the logit: `s(z) - y`, without cancellation for labels 0 and 1.
#[inline(always)]
pub fn residual<F: Real>(logit: F, label: F) -> F {
    if label == F::one() { -sigmoid(-logit) } else { sigmoid(logit) - label }
}

/// Logistic function.
#[inline(always)]
pub fn sigmoid<F: Real>(logit: F) -> F {
    let e = (-logit.abs()).exp();
    let numerator = if logit < F::zero() { e } else { F::one() };
    numerator / (F::one() + e)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extreme_logits_stay_finite_and_exact() {
        assert_eq!(cross_entropy(1e4_f64, 1.0), 0.0);
        assert_eq!(cross_entropy(1e4_f64, 0.0), 1e4);
        assert_eq!(cross_entropy(-1e4_f32, 1.0), 1e4);
        assert_eq!(residual(-1e4_f64, 1.0), -1.0);
        assert!((residual(30.0_f64, 1.0) + (-30.0_f64).exp()).abs() < 1e-26);
        assert_eq!(sigmoid(0.0_f32), 0.5);
    }

    #[test]
    fn residual_is_the_derivative() {
        for label in [0.0, 1.0] {
            for step in -20..=20 {
                let z = f64::from(step) * 0.37;
                let h = 1e-5;
                let numeric = (cross_entropy(z + h, label) - cross_entropy(z - h, label)) / (2.0 * h);
                assert!((numeric - residual(z, label)).abs() < 1e-10);
            }
        }
    }

    #[test]
    fn a_missing_number_is_not_hidden() {
        assert!(residual(f64::NAN, 1.0).is_nan());
        assert!(residual(f32::NAN, 0.0).is_nan());
    }
}
