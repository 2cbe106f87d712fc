//! Exact samples of the discrete Gaussian distribution in integer arithmetic.
//!
//! Algorithms 1 to 3 of Canonne, Kamath, Steinke 2020 (arXiv 2004.00010), with the scale of the Laplace proposal set
//! to the integer `sigma`, which the proof permits and which keeps all numbers small. There is no floating point on
//! the sampling path; every Bernoulli variable has exactly the stated rational probability.

use rand::Rng;

use super::{error::StepError, grid::Grid};
use crate::params::NoiseMultiplier;

/// Noise multipliers for which the grid is fine enough and sums of noise stay far inside 64 bits.
const MULTIPLIERS: std::ops::RangeInclusive<f64> = 1.0 / 1024.0..=4096.0;
/// The Laplace proposal is drawn anew if it exceeds this many scales, an event of probability `exp(-2^20)`.
const MOST_SCALES: u64 = 1 << 20;
/// 20!, the largest factorial below 2^64.
const FACTORIAL_20: u64 = 2_432_902_008_176_640_000;

/// The distribution on the integers with probabilities proportional to `exp(-x² / (2 sigma²))`.
///
/// `sigma <= 2^40 + 1` and the bound on the proposal keep every sample below 2^62 in magnitude.
#[derive(Debug, Clone, Copy)]
pub(super) struct DiscreteGaussian {
    sigma: u64,
}

impl DiscreteGaussian {
    /// Noise for a multiplier `s`: `sigma = ceil(s 2^28) + 1` grid steps, more noise than accounted for.
    ///
    /// The one extra step is what the argument in the documentation of [`step`](crate::step) needs.
    pub(super) fn for_multiplier(multiplier: NoiseMultiplier) -> Result<Self, StepError> {
        let noise_multiplier = multiplier.get();
        if !MULTIPLIERS.contains(&noise_multiplier) {
            return Err(StepError::NoiseMultiplier { noise_multiplier });
        }
        // The product with a power of two is exact, and at most 2^40.
        let steps = (noise_multiplier * Grid::steps_per_clip_norm()).ceil() as u64;
        Ok(Self { sigma: steps + 1 })
    }

    /// One sample (Algorithm 3).
    pub(super) fn sample<R: Rng>(&self, rng: &mut R) -> i64 {
        loop {
            let (magnitude, negative) = laplace(self.sigma, rng);
            if self.accepts(magnitude, rng) {
                // Below (2^20 + 1)(2^40 + 1), so the cast keeps the value.
                let value = magnitude as i64;
                return if negative { -value } else { value };
            }
        }
    }

    /// Bernoulli of `exp(-(magnitude - sigma)² / (2 sigma²))`.
    ///
    /// With `|magnitude - sigma| = a sigma + b` the exponent is `a²/2 + a b/sigma + b²/(2 sigma²)`.
    fn accepts<R: Rng>(&self, magnitude: u64, rng: &mut R) -> bool {
        let distance = magnitude.abs_diff(self.sigma);
        let (a, b) = (distance / self.sigma, distance % self.sigma);
        half_square(b, self.sigma, rng)
            && (0..a).all(|_| exp_fraction(b, self.sigma, rng))
            && (0..a * a).all(|_| exp_fraction(1, 2, rng))
    }
}

/// Magnitude and sign of a discrete Laplace sample of integer scale (Algorithm 2).
fn laplace<R: Rng>(scale: u64, rng: &mut R) -> (u64, bool) {
    loop {
        let remainder = below(scale, rng);
        if !exp_fraction(remainder, scale, rng) {
            continue;
        }
        let mut scales = 0;
        while scales <= MOST_SCALES && exp_one(rng) {
            scales += 1;
        }
        let magnitude = remainder + scale * scales;
        let negative = rng.next_u32() & 1 == 1;
        // Zero has one sign only, else it would count twice.
        if scales <= MOST_SCALES && !(negative && magnitude == 0) {
            return (magnitude, negative);
        }
    }
}

/// Bernoulli of `exp(-numerator / denominator)` for a fraction in `[0, 1]` (Algorithm 1).
fn exp_fraction<R: Rng>(numerator: u64, denominator: u64, rng: &mut R) -> bool {
    let mut k = 1;
    while below(denominator, rng) < numerator && one_in(k, rng) {
        k += 1;
    }
    k & 1 == 1
}

/// Bernoulli of `exp(-b² / (2 sigma²))` for `b < sigma` (Algorithm 1; the probability is a product of two fractions).
fn half_square<R: Rng>(b: u64, sigma: u64, rng: &mut R) -> bool {
    let mut k = 1;
    while below(sigma, rng) < b && below(2 * sigma, rng) < b && one_in(k, rng) {
        k += 1;
    }
    k & 1 == 1
}

/// Bernoulli of `exp(-1)` (Algorithm 1 with one word for the first twenty rounds).
///
/// The round `K` at which Algorithm 1 ends has `P(K > k) = 1/k!`, and a uniform number below 20! is below `20!/k!` with
/// exactly that probability.
fn exp_one<R: Rng>(rng: &mut R) -> bool {
    let uniform = below(FACTORIAL_20, rng);
    let mut threshold = FACTORIAL_20;
    for k in 2..=20 {
        threshold /= k;
        if uniform >= threshold {
            return k & 1 == 1;
        }
    }
    let mut k: u64 = 21;
    while one_in(k, rng) {
        k += 1;
    }
    k & 1 == 1
}

/// Bernoulli of `1/k`.
fn one_in<R: Rng>(k: u64, rng: &mut R) -> bool {
    k == 1 || below(k, rng) == 0
}

/// A uniform integer in `[0, bound)`, exact (Lemire 2019: the high word of a product, rejecting the uneven part).
#[inline]
fn below<R: Rng>(bound: u64, rng: &mut R) -> u64 {
    loop {
        let product = u128::from(rng.next_u64()) * u128::from(bound);
        let low = product as u64;
        // The remainder is below `bound`, so the division is rarely reached.
        if low >= bound || low >= bound.wrapping_neg() % bound {
            return (product >> 64) as u64;
        }
    }
}

#[cfg(test)]
mod tests;
