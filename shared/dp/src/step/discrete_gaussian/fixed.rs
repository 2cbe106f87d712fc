//! Numbers in `[0, 1]` as multiples of 2^-62, rounded to a stated side.

/// Binary digits after the point.
pub(super) const FRACTION_BITS: u32 = 62;
/// The number one.
pub(super) const ONE: u64 = 1 << FRACTION_BITS;
/// Largest argument of [`exp_minus`]: one half.
const LARGEST_ARGUMENT: u64 = ONE >> 1;
/// Terms of the series of the exponential beyond the constant.
const TERMS: u64 = 10;
/// Bound on the error of [`exp_minus`], 2^-35.
const EXP_ERROR: u64 = 1 << (FRACTION_BITS - 35);

/// A lower and an upper bound of one number in `[0, 1]`, both in multiples of 2^-62.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Bounds {
    /// At most the number.
    pub(super) lower: u64,
    /// At least the number, and at most one.
    pub(super) upper: u64,
}

impl Bounds {
    /// The number one.
    pub(super) const CERTAIN: Self = Self { lower: ONE, upper: ONE };

    /// Bounds of the product of two numbers.
    #[inline]
    pub(super) fn times(self, other: Self) -> Self {
        let upper = multiply(self.upper, other.upper) + 1;
        Self { lower: multiply(self.lower, other.lower), upper: upper.min(ONE) }
    }
}

/// The product rounded down, for `a < 2^63` and `b <= 2^62`.
#[inline]
pub(super) fn multiply(a: u64, b: u64) -> u64 {
    ((u128::from(a) * u128::from(b)) >> FRACTION_BITS) as u64
}

/// Bounds of `exp(-z)` for every `z` in `[argument, argument + 2^-50]`; none beyond one half.
///
/// The series `1 - z(1 - z/2(1 - z/3(...)))` alternates with falling terms, so leaving out what follows ten of them
/// costs at most `2^-11 / 11! < 2^-36`. Each product and quotient is rounded by less than 2^-62, and every factor `z/k`
/// halves what came before, which makes less than 2^-59. The slope of the exponential is at most one, so the
/// uncertainty of `z` adds 2^-50. Together this is less than 2^-35.
#[inline]
pub(super) fn exp_minus(argument: u128) -> Option<Bounds> {
    if argument > u128::from(LARGEST_ARGUMENT) {
        return None;
    }
    let argument = argument as u64;
    let nested = (1..=TERMS).rev().fold(ONE, |nested, k| ONE - multiply(argument / k, nested));
    Some(Bounds { lower: nested.saturating_sub(EXP_ERROR), upper: (nested + EXP_ERROR).min(ONE) })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    const UNIT: f64 = 1.0 / ONE as f64;

    proptest! {
        /// Doubles resolve 2^-53, so the comparison allows 2^-50.
        #[test]
        fn the_exponential_lies_between_its_bounds(argument in 0..=LARGEST_ARGUMENT) {
            let bounds = exp_minus(u128::from(argument)).unwrap();
            let expected = (-(argument as f64 * UNIT)).exp();
            let slack = 2_f64.powi(-50);
            prop_assert!(bounds.lower as f64 * UNIT <= expected + slack);
            prop_assert!(bounds.upper as f64 * UNIT >= expected - slack);
            prop_assert!(bounds.upper - bounds.lower <= 2 * EXP_ERROR);
            // The middle is better than promised: a wrong term of the series would show.
            let middle = (bounds.lower + EXP_ERROR) as f64 * UNIT;
            prop_assert!((middle - expected).abs() < 2_f64.powi(-35));
        }

        #[test]
        fn products_lie_between_their_bounds(a in 0..=ONE, b in 0..=ONE) {
            let product = Bounds { lower: a, upper: a }.times(Bounds { lower: b, upper: b });
            let exact = u128::from(a) * u128::from(b);
            prop_assert!(u128::from(product.lower) << FRACTION_BITS <= exact);
            prop_assert!(u128::from(product.upper) << FRACTION_BITS >= exact);
            prop_assert!(product.upper <= ONE && product.upper - product.lower <= 1);
        }
    }

    #[test]
    fn arguments_beyond_one_half_are_left_to_others() {
        assert!(exp_minus(u128::from(LARGEST_ARGUMENT)).is_some());
        assert!(exp_minus(u128::from(LARGEST_ARGUMENT) + 1).is_none());
        assert!(exp_minus(u128::MAX).is_none());
    }

    #[test]
    fn one_times_one_is_one() {
        assert_eq!(Bounds::CERTAIN.times(Bounds::CERTAIN), Bounds::CERTAIN);
    }
}
