//! Exact GELU through the error function, in vectors.
//!
//! With `a = |x|` and the normal density `phi`, the upper tail of the normal distribution is `phi(a) Q(a)`, where `Q` is
//! Mills' ratio: smooth, so that a polynomial without a division serves. The polynomials here minimize the largest
//! *absolute* error of what they are used for (weighted Chebyshev fits on `[0, 13]` and `[-1/2, 1/2]`): that of `Q` weighs its
//! error by `phi(a) max(1, a)`. The density itself is what the derivative of GELU needs as well.

use std::f32::consts::{LOG2_E, SQRT_2};

use pulp::{Scalar, Simd};

/// `1 / sqrt(2 pi)`.
const DENSITY_AT_ZERO: f64 = 0.398_942_280_401_432_7;

/// Adding and subtracting 1.5 * 2^23 rounds an `f32` below 2^22 to an integer, which then stands in the low mantissa bits.
const ROUND: f32 = 12_582_912.0;

/// Larger magnitudes count as this one: the tail there, 6e-39, is zero beside any error, and powers of two stay normal.
const LARGEST: f32 = 13.0;

/// Even powers of Mills' ratio `(1 - Phi(a)) / phi(a)`, highest first: with the odd ones within
/// 1e-7 `/ (phi(a) max(1, a))` on `[0, 13]`.
const MILLS_EVEN: [f32; 6] =
    [3.402_052_2e-6, 7.699_467e-4, 1.920_925_3e-2, 0.152_550_3, 0.626_375_9, 1.253_313_9];

/// Odd powers of Mills' ratio, highest first.
const MILLS_ODD: [f32; 5] = [-7.662_154e-5, -4.639_970_6e-3, -6.001_468_4e-2, -0.331_832_5, -0.999_979_5];

/// `2^r / sqrt(2 pi)`, highest power first: relative error below 8e-8 on `[-1/2, 1/2]`.
const POWER: [f32; 6] = [5.296_55e-4, 3.859_984e-3, 2.214_414_2e-2, 9.583_439e-2, 0.276_525_63, 0.398_942_3];

/// A polynomial by Horner's rule, highest power first.
#[inline(always)]
fn polynomial<S: Simd, const N: usize>(simd: S, coefficients: [f32; N], x: S::f32s) -> S::f32s {
    let mut sum = simd.splat_f32s(coefficients[0]);
    for &coefficient in &coefficients[1..] {
        sum = simd.mul_add_f32s(sum, x, simd.splat_f32s(coefficient));
    }
    sum
}

/// Density of the normal distribution at the square root of `square`, which is at most [`LARGEST`]; within 1e-7 absolute.
#[inline(always)]
fn density<S: Simd>(simd: S, square: S::f32s) -> S::f32s {
    let (factor, round) = (simd.splat_f32s(-0.5 * LOG2_E), simd.splat_f32s(ROUND));
    let shifted = simd.mul_add_f32s(square, factor, round);
    let rest = simd.mul_add_f32s(square, factor, simd.sub_f32s(round, shifted));
    let power = simd.transmute_u32s_f32s(polynomial(simd, POWER, rest));
    // The integer in the low bits of `shifted` goes to the exponent: it is at least -122, and the power at least 1/4.
    let exponent = simd.wrapping_dyn_shl_u32s(simd.transmute_u32s_f32s(shifted), simd.splat_u32s(23));
    simd.transmute_f32s_u32s(simd.add_u32s(power, exponent))
}

/// `(1 - Phi(|x|), phi(x))`: the upper tail of the normal distribution, and the density.
#[inline(always)]
fn normal_tail<S: Simd>(simd: S, x: S::f32s) -> (S::f32s, S::f32s) {
    let a = simd.min_f32s(simd.abs_f32s(x), simd.splat_f32s(LARGEST));
    let square = simd.mul_f32s(a, a);
    let density = density(simd, square);
    // Even and odd powers apart: two short chains of dependent products in place of a long one.
    let (even, odd) = (polynomial(simd, MILLS_EVEN, square), polynomial(simd, MILLS_ODD, square));
    (simd.mul_f32s(simd.mul_add_f32s(odd, a, even), density), density)
}

/// Error function in single precision, absolute error below 5e-7.
#[inline(always)]
pub(crate) fn erf_f32(x: f32) -> f32 {
    let (tail, _) = normal_tail(Scalar::new(), x * SQRT_2);
    let magnitude = 1.0 - 2.0 * tail;
    if x < 0.0 { -magnitude } else { magnitude }
}

/// GELU and its derivative in single precision: `Phi` within 5e-7 absolute.
#[inline(always)]
pub(super) fn gelu_f32s<S: Simd>(simd: S, x: S::f32s) -> (S::f32s, S::f32s) {
    let (tail, density) = normal_tail(simd, x);
    let negative = simd.less_than_f32s(x, simd.splat_f32s(0.0));
    let phi = simd.select_f32s(negative, tail, simd.sub_f32s(simd.splat_f32s(1.0), tail));
    (simd.mul_f32s(x, phi), simd.mul_add_f32s(x, density, phi))
}

/// GELU and its derivative in double precision, one by one: it serves reference figures.
#[inline(always)]
pub(super) fn gelu_f64s<S: Simd>(simd: S, x: S::f64s) -> (S::f64s, S::f64s) {
    let (mut values, mut slopes) = ([0.0; MOST_LANES], [0.0; MOST_LANES]);
    let (values, slopes) = (&mut values[..S::F64_LANES], &mut slopes[..S::F64_LANES]);
    simd.partial_store_f64s(values, x);
    for (value, slope) in values.iter_mut().zip(slopes.iter_mut()) {
        (*value, *slope) = gelu_f64(*value);
    }
    (simd.partial_load_f64s(values), simd.partial_load_f64s(slopes))
}

/// Doubles in the widest vector.
const MOST_LANES: usize = 8;

/// GELU and its derivative in double precision.
fn gelu_f64(x: f64) -> (f64, f64) {
    let phi = 0.5 * libm::erfc(-x * std::f64::consts::FRAC_1_SQRT_2);
    (x * phi, phi + x * DENSITY_AT_ZERO * libm::exp(-0.5 * x * x))
}

#[cfg(test)]
mod tests {
    use pulp::{Arch, WithSimd};

    use super::*;

    fn gelu_f32(x: f32) -> (f32, f32) {
        gelu_f32s(Scalar::new(), x)
    }

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
    fn density_is_within_its_stated_error() {
        for x in grid().map(f32::abs) {
            let expected = DENSITY_AT_ZERO * (-0.5 * f64::from(x).powi(2)).exp();
            let error = (f64::from(density(Scalar::new(), x * x)) - expected).abs();
            assert!(error < 1e-7, "absolute error {error:e} at {x}");
        }
    }

    /// GELU of up to 16 values in vectors of the widest instruction set.
    struct InVectors<'a>(&'a [f32]);

    impl WithSimd for InVectors<'_> {
        type Output = Vec<(f32, f32)>;

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) -> Self::Output {
            let mut all = Vec::new();
            for values in self.0.chunks(S::F32_LANES) {
                let (value, slope) = gelu_f32s(simd, simd.partial_load_f32s(values));
                let mut pair = [[0.0; 16]; 2];
                simd.partial_store_f32s(&mut pair[0][..values.len()], value);
                simd.partial_store_f32s(&mut pair[1][..values.len()], slope);
                all.extend(pair[0].into_iter().zip(pair[1]).take(values.len()));
            }
            all
        }
    }

    #[test]
    fn vectors_give_what_single_values_give() {
        let values: Vec<f32> = grid().collect();
        for (&x, found) in values.iter().zip(Arch::new().dispatch(InVectors(&values))) {
            let expected = gelu_f32(x);
            let close = |a: f32, b: f32| (a - b).abs() <= 1e-6 * b.abs().max(1.0);
            assert!(close(found.0, expected.0) && close(found.1, expected.1), "at {x}");
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
