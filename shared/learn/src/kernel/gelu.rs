//! Exact GELU through the error function.
//!
//! The `f32` form follows Abramowitz and Stegun, Handbook of Mathematical Functions, formula 7.1.26
//! (|error| <= 1.5e-7 before rounding). Its factor `exp(-x^2 / 2)` is the normal density as well, so the derivative of
//! GELU costs one more multiplication.

use std::f32::consts::{FRAC_1_SQRT_2, LOG2_E, SQRT_2};

/// `1 / sqrt(2 pi)`.
const DENSITY_AT_ZERO: f64 = 0.398_942_280_401_432_7;

/// Adding and subtracting 1.5 * 2^23 rounds an `f32` below 2^22 to an integer, which then stands in the low mantissa bits.
const ROUND: f32 = 12_582_912.0;

/// Below this argument `exp` leaves the normal `f32` range; its value there is treated as `exp(EXP_FLOOR)`.
const EXP_FLOOR: f32 = -87.0;

/// `a b + c`, in one instruction where every machine this was compiled for has it.
#[inline(always)]
fn fused(a: f32, b: f32, c: f32) -> f32 {
    if cfg!(any(target_feature = "fma", target_arch = "aarch64")) { a.mul_add(b, c) } else { a * b + c }
}

/// `exp(x)` for `x <= 0`, relative error below 3e-7; arguments below -87 give `exp(-87)`.
#[inline(always)]
pub(crate) fn exp_nonpositive(x: f32) -> f32 {
    // The high part of ln 2 has few mantissa bits, so that its product with the integer is exact.
    const LN_2_HIGH: f64 = 0.693_359_375;
    const LN_2_LOW: f64 = std::f64::consts::LN_2 - LN_2_HIGH;
    let x = if x > EXP_FLOOR { x } else { EXP_FLOOR };
    let shifted = fused(x, LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = fused(n, -LN_2_LOW as f32, fused(n, -LN_2_HIGH as f32, x));
    // Taylor polynomial of degree 7 on |r| <= ln(2) / 2: truncation below 6e-9.
    let p = 1.0 / 5_040.0;
    let p = fused(p, r, 1.0 / 720.0);
    let p = fused(p, r, 1.0 / 120.0);
    let p = fused(p, r, 1.0 / 24.0);
    let p = fused(p, r, 1.0 / 6.0);
    let p = fused(p, r, 0.5);
    let p = fused(fused(p, r, 1.0), r, 1.0);
    p * f32::from_bits(shifted.to_bits().wrapping_add(127) << 23)
}

/// `(erfc(|x| / sqrt 2) / 2, exp(-x^2 / 2))`: the upper tail of the normal distribution at |x|, and the unscaled density.
#[inline(always)]
fn normal_tail(x: f32) -> (f32, f32) {
    let e = exp_nonpositive(-0.5 * x * x);
    let t = 1.0 / fused(0.327_591_1 * FRAC_1_SQRT_2, x.abs(), 1.0);
    let p = 1.061_405_4;
    let p = fused(p, t, -1.453_152);
    let p = fused(p, t, 1.421_413_7);
    let p = fused(p, t, -0.284_496_74);
    let p = fused(p, t, 0.254_829_6);
    (0.5 * p * t * e, e)
}

/// Error function in single precision, absolute error below 5e-7.
#[inline(always)]
pub(crate) fn erf_f32(x: f32) -> f32 {
    let (tail, _) = normal_tail(x * SQRT_2);
    let magnitude = 1.0 - 2.0 * tail;
    if x < 0.0 { -magnitude } else { magnitude }
}

/// GELU and its derivative in single precision.
#[inline(always)]
pub(crate) fn gelu_f32(x: f32) -> (f32, f32) {
    let (tail, e) = normal_tail(x);
    let phi = if x < 0.0 { tail } else { 1.0 - tail };
    let value = x * phi;
    (value, fused(x, e * DENSITY_AT_ZERO as f32, phi))
}

/// GELU and its derivative in double precision.
pub(crate) fn gelu_f64(x: f64) -> (f64, f64) {
    let phi = 0.5 * libm::erfc(-x * std::f64::consts::FRAC_1_SQRT_2);
    (x * phi, phi + x * DENSITY_AT_ZERO * libm::exp(-0.5 * x * x))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every 1/4096 over [-12, 12].
    fn grid() -> impl Iterator<Item = f32> {
        (-12 * 4096..=12 * 4096).map(|i| i as f32 / 4096.0)
    }

    #[test]
    fn erf_f32_is_within_its_stated_error() {
        let worst =
            grid().map(|x| (f64::from(erf_f32(x)) - libm::erf(f64::from(x))).abs()).fold(0.0, f64::max);
        assert!(worst < 5e-7, "worst absolute error {worst:e}");
    }

    #[test]
    fn gelu_f32_value_and_derivative_match_double_precision() {
        for x in grid() {
            let (value, slope) = gelu_f32(x);
            let (expected, expected_slope) = gelu_f64(f64::from(x));
            assert!((f64::from(value) - expected).abs() < 1e-6 * expected.abs().max(1.0), "value at {x}");
            assert!((f64::from(slope) - expected_slope).abs() < 1e-6, "slope at {x}");
        }
    }

    #[test]
    fn exp_nonpositive_has_small_relative_error() {
        for i in 0..=87 * 512 {
            let x = -(i as f32) / 512.0;
            let expected = f64::from(x).exp();
            let error = (f64::from(exp_nonpositive(x)) - expected).abs() / expected;
            assert!(error < 3e-7, "relative error {error:e} at {x}");
        }
    }

    #[test]
    fn gelu_f64_derivative_matches_a_central_difference() {
        for i in -40..=40 {
            let x = f64::from(i) * 0.15;
            let h = 1e-5;
            let numeric = (gelu_f64(x + h).0 - gelu_f64(x - h).0) / (2.0 * h);
            assert!((numeric - gelu_f64(x).1).abs() < 1e-9, "at {x}");
        }
    }

    #[test]
    fn non_finite_arguments_do_not_turn_into_finite_values() {
        assert!(gelu_f32(f32::NAN).0.is_nan());
        assert!(gelu_f64(f64::NAN).0.is_nan());
        assert_eq!(gelu_f32(f32::INFINITY).0, f32::INFINITY);
    }
}
