//! Comparisons of a uniform number with an exponential, decided exactly.

use num_bigint::BigUint;
use rand::Rng;

/// Precision of the first attempt beyond the digits of the uniform number, in bits.
const GUARD_BITS: u64 = 64;
/// The exponent is halved until it is at most `2^-REDUCTION_BITS`, so that few terms of the series are needed.
const REDUCTION_BITS: u64 = 4;

/// The event `u / length < (numerator / denominator) exp(-square / twice_variance)` for a uniform real `u` in
/// `[0, length)`.
///
/// The exponential of a rational number other than zero is irrational, so that the event is decided by finitely many
/// digits of `u` with probability one. Has no `Debug`: the exponent tells the noise of a release.
pub(super) struct Comparison {
    /// Length of the interval of `u`.
    pub(super) length: u64,
    /// Numerator of the factor.
    pub(super) numerator: BigUint,
    /// Denominator of the factor, not zero.
    pub(super) denominator: u64,
    /// Numerator of the exponent.
    pub(super) square: u128,
    /// Denominator of the exponent, not zero.
    pub(super) twice_variance: u128,
}

impl Comparison {
    /// Whether the event holds for a `u` with integer part `position` and first 64 binary digits `digits`; further
    /// digits come from the generator when they are needed.
    ///
    /// With `E` an interval around `exp(square / twice_variance)`, the event holds if it holds for the largest possible
    /// `u` and the upper end of `E`, and fails if it fails for the smallest possible `u` and the lower end. Otherwise
    /// digits and precision grow.
    pub(super) fn decide<R: Rng>(&self, position: u64, digits: u64, rng: &mut R) -> bool {
        let mut uniform = (BigUint::from(position) << 64_u32) + digits;
        let mut bits = 64;
        loop {
            if let Some(decision) = self.try_decide(&uniform, bits) {
                return decision;
            }
            uniform = (uniform << 64_u32) + rng.next_u64();
            bits += 64;
        }
    }

    /// The decision if it is the same for every `u` in `[uniform, uniform + 1] 2^-bits`.
    fn try_decide(&self, uniform: &BigUint, bits: u64) -> Option<bool> {
        let precision = bits + GUARD_BITS;
        let (lower, upper) = exponential(self.square, self.twice_variance, precision);
        let limit = (&self.numerator * self.length) << (bits + precision);
        if (uniform + 1_u32) * self.denominator * upper <= limit {
            Some(true)
        } else if uniform * self.denominator * lower >= limit {
            Some(false)
        } else {
            None
        }
    }
}

/// Lower and upper bound of `exp(numerator / denominator)` in multiples of `2^-precision`.
pub(super) fn exponential(numerator: u128, denominator: u128, precision: u64) -> (BigUint, BigUint) {
    let halvings =
        u64::from((numerator / denominator).checked_ilog2().map_or(0, |log| log + 1)) + REDUCTION_BITS;
    // Each squaring doubles the relative error, so that many digits more.
    let digits = precision + halvings + 8;
    let reduced = (BigUint::from(numerator) << digits) / (BigUint::from(denominator) << halvings);
    let (mut lower, mut upper) = (series_below(&reduced, digits), series_above(&(reduced + 1_u32), digits));
    for _ in 0..halvings {
        lower = (&lower * &lower) >> digits;
        upper = ((&upper * &upper) >> digits) + 1_u32;
    }
    (lower >> (digits - precision), (upper >> (digits - precision)) + 1_u32)
}

/// At most `exp(argument)`: the series in multiples of `2^-digits`, every term rounded down.
fn series_below(argument: &BigUint, digits: u64) -> BigUint {
    let mut term = BigUint::from(1_u32) << digits;
    let mut sum = term.clone();
    let mut k = 0_u32;
    while term > BigUint::ZERO {
        k += 1;
        term = ((term * argument) >> digits) / k;
        sum += &term;
    }
    sum
}

/// At least `exp(argument)` for arguments of at most one half: every term rounded up, until a term is one unit.
///
/// The terms that follow a term sum to at most that term, since each is at most half of the one before.
fn series_above(argument: &BigUint, digits: u64) -> BigUint {
    let one = BigUint::from(1_u32);
    let mut term = &one << digits;
    let mut sum = term.clone();
    let mut k = 0_u32;
    while term > one {
        k += 1;
        // Rounding down and adding one is above both quotients.
        term = ((term * argument) >> digits) / k + 1_u32;
        sum += &term;
    }
    sum + term
}

#[cfg(test)]
mod tests;
