//! Exact samples of the discrete Gaussian distribution, one random word for most of them.
//!
//! With `f(x) = exp(-x² / (2 sigma²))`, each integer `x` below [a bound](#what-is-cut-off) comes out with probability exactly
//! proportional to `f(x)` if the generator's words are uniform and independent. There is no floating point on the way
//! from words to samples, nor in the tables.
//!
//! # Method
//!
//! Rejection from an envelope of strips of width `W`, a power of two between `sigma/64` and `sigma/32` (or 1 for `sigma`
//! below 64). Strip `i < TAIL` stands for the values `x = m` and `x = -1 - m` with `i W <= m < (i+1) W`; the last strip
//! stands for all magnitudes beyond. Each has an integer weight, and the weights sum to `S = 2^63 / W`.
//!
//! ```text
//! bits of a word      63 ... 55 | 54   | 53 ............. log2 W | log2 W - 1 ..... 0
//!                     column    | sign | unit of the column      | offset in the strip
//! ```
//!
//! 1. An alias table has 512 columns of `S / 512` units each, and `w_i` of all units belong to strip `i`. A word's column
//!    and unit are even on all `S` units, so strip `i` is proposed with probability `w_i / S`.
//! 2. The sign and the offset are other bits of the word, so each value `x` of strip `i < TAIL` is proposed with
//!    probability `w_i / (2 W S)`.
//! 3. The units of a strip within one column are a range of some length `L`, and the word's place in it is even on
//!    `0..L`, independently of the value. With further random digits behind it, it is a uniform real `u` in `[0, L)`.
//! 4. `x` is accepted if `u / L < K f(x) / w_i` for one integer `K`, the full weight. **Certainty:** the right side is at
//!    most one, because `w_i >= K f(i W)` and `|x| >= i W`.
//! 5. So an attempt ends with `x` with probability `w_i / (2 W S) * K f(x) / w_i = K f(x) / (2 W S)`, which is `f(x)` times
//!    a constant. Attempts use disjoint words and repeat until one is accepted.
//!
//! Zero needs no correction: it is a value of the positive sign only.
//!
//! # The tail
//!
//! Magnitudes from `R = TAIL W` on are divided in pieces of width `V = 8 W >= sigma / 8`. Piece `g` is chosen with
//! probability `2^-(g+1)` by counting zero bits, the offset in it is even, and `x` is accepted if
//! `u / L < (V / W) 2^(g+1) K f(x) / w_TAIL`. Again an attempt ends with `x` with probability `K f(x) / (2 W S)`. The right side
//! is at most one: `w_TAIL >= 2 (V / W) K f(R)` covers `g = 0`, and from one piece to the next `f` falls by a factor of at
//! most `exp(-R V / sigma²)`, which is below one half since `R V >= 0.997 sigma²`.
//!
//! # How the rule of acceptance is decided
//!
//! Three ways, each certain where it decides, each leaving the rest to the next:
//!
//! * **At once.** `strips` has a lower bound of `K f(x) / w_i` over the strip. A unit whose whole range of `u` lies below
//!   `L` times that bound is accepted: one comparison, for 97 % of the words and more.
//! * **Estimated.** A further word gives 62 digits of `u`, and `fixed` gives bounds of `f(x) / f(i W)` in multiples of 2^-62
//!   with their error proved, at most 2^-34 apart. `strips` has bounds of `K f(i W) / w_i`. If all of `u`'s range lies
//!   below or above the product, the rule is decided.
//! * **Exact.** Else, and in the tail, `exact` compares integers: `u` by its digits so far, the exponential by an interval
//!   with outward rounding, both with more digits until the comparison is the same for every `u` and every number of
//!   the interval. It looks at the same 64 digits first, so it continues the estimate and does not draw again.
//!
//! The tables rest on the same arithmetic: one interval around `exp(-W² / (2 sigma²))` from `exact`, and products of
//! bounds, each rounded outward. A loose bound costs speed and never correctness, because the rule itself names the
//! integers `w_i` and `K` and the exact exponential only.
//!
//! # What is cut off
//!
//! Pieces of the tail from the 4096th on are drawn anew, so that every sample is below `R + 4096 V <= 2^51` in
//! magnitude. The values beyond have probability below `exp(-2^17)` in the discrete Gaussian, since
//! `R + 4096 V >= 519 sigma`.

mod columns;
mod exact;
mod fixed;
mod strips;

use num_bigint::BigUint;
use rand::Rng;

use self::{
    columns::{Column, Place, columns},
    exact::Comparison,
    fixed::{FRACTION_BITS, exp_minus},
    strips::{LOG2_STRIPS, LOG2_TAIL_WIDTH, STRIPS, Strips, TAIL},
};
use super::{
    error::StepError,
    grid::Grid,
    words::{BLOCK_WORDS, WordBlock},
};
use crate::params::NoiseMultiplier;

/// Noise multipliers for which the grid is fine enough and sums of noise stay far inside 64 bits.
const MULTIPLIERS: std::ops::RangeInclusive<f64> = 1.0 / 1024.0..=4096.0;
/// Bits of a word below the number of the column and the sign.
const DEPTH_BITS: u32 = u64::BITS - LOG2_STRIPS - 1;
/// Pieces of the tail; a proposal beyond them is drawn anew.
const MOST_TAIL_PIECES: u32 = 1 << 12;
/// Binary digits of squared distances in strip widths.
const SQUARE_BITS: u32 = 52;

/// The distribution on the integers with probabilities proportional to `exp(-x² / (2 sigma²))`.
///
/// `sigma <= 2^40 + 1`, and every sample is below 2^51 in magnitude.
#[derive(Debug, Clone)]
pub(super) struct DiscreteGaussian {
    sigma: u64,
    strips: Strips,
    columns: Box<[Column; STRIPS]>,
    /// `W² / (2 sigma²)` rounded down to a multiple of 2^-62.
    exponent_of_width: u64,
}

/// A proposal that needs a closer look. Has no `Debug`: its value may become the noise of a release.
#[derive(Clone, Copy)]
struct Candidate {
    value: i64,
    place: Place,
    /// log2 of the factor by which proposing `value` is less likely than any value of a strip of that weight.
    log2_rarity: u32,
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
        Ok(Self::with_sigma(steps + 1))
    }

    /// The distribution for `sigma` in `[1, 2^40 + 1]`.
    fn with_sigma(sigma: u64) -> Self {
        let strips = Strips::new(sigma);
        let columns = columns(&strips);
        let twice_variance = 2 * u128::from(sigma) * u128::from(sigma);
        let exponent_of_width = shifted_quotient(strips.log2_width, twice_variance);
        Self { sigma, strips, columns, exponent_of_width }
    }

    /// Adds a sample to each of `sums`, which are below 2^62 in magnitude.
    pub(super) fn add_noise<R: Rng>(&self, sums: &mut [i64], rng: &mut R) {
        let mut block = WordBlock::new();
        for sums in sums.chunks_mut(BLOCK_WORDS) {
            let words = block.draw(sums.len(), rng);
            for (sum, word) in sums.iter_mut().zip(words) {
                *sum += self.accepted_at_once(word).unwrap_or_else(|| self.look_closer(word, rng));
            }
        }
    }

    /// The value that a word proposes, if its acceptance follows from the bounds of the strip.
    #[inline]
    fn accepted_at_once(&self, word: u64) -> Option<i64> {
        let (own, depth) = split(word);
        let column = &self.columns[own];
        let strip = std::hint::select_unpredictable(depth < column.own_accepted, own, column.other);
        (depth < column.accepted).then(|| self.value(strip, word))
    }

    /// A sample that begins with a word which was not accepted at once.
    #[cold]
    #[inline(never)]
    fn look_closer<R: Rng>(&self, mut word: u64, rng: &mut R) -> i64 {
        loop {
            if let Some(candidate) = self.candidate(word, rng) {
                let digits = rng.next_u64();
                if self.accepts(&candidate, digits, rng) {
                    return candidate.value;
                }
            }
            word = rng.next_u64();
            if let Some(value) = self.accepted_at_once(word) {
                return value;
            }
        }
    }

    /// What a word proposes; none beyond the pieces of the tail.
    fn candidate<R: Rng>(&self, word: u64, rng: &mut R) -> Option<Candidate> {
        let (own, depth) = split(word);
        let place = self.columns[own].place(own, depth, self.strips.log2_width);
        if place.strip == TAIL {
            return self.tail_candidate(place, sign(word), rng);
        }
        Some(Candidate { value: self.value(place.strip, word), place, log2_rarity: 0 })
    }

    /// A proposal in the tail: piece `g` of width `V` with probability `2^-(g+1)`, evenly within it.
    fn tail_candidate<R: Rng>(&self, place: Place, sign: i64, rng: &mut R) -> Option<Candidate> {
        let piece = tail_piece(rng)?;
        let log2_width = self.strips.log2_width + LOG2_TAIL_WIDTH;
        let offset = rng.next_u64() & low_bits(log2_width);
        let magnitude = ((TAIL as u64) << self.strips.log2_width) + (u64::from(piece) << log2_width) + offset;
        Some(Candidate { value: magnitude as i64 ^ sign, place, log2_rarity: LOG2_TAIL_WIDTH + piece + 1 })
    }

    /// Whether to accept, with the first digits of the uniform number behind its place.
    fn accepts<R: Rng>(&self, candidate: &Candidate, digits: u64, rng: &mut R) -> bool {
        self.estimate(candidate, digits)
            .unwrap_or_else(|| self.comparison(candidate).decide(candidate.place.position, digits, rng))
    }

    /// The decision if fixed-point bounds suffice for it.
    fn estimate(&self, candidate: &Candidate, digits: u64) -> Option<bool> {
        let Candidate { value, place: Place { strip, position, length }, .. } = *candidate;
        let acceptance = self.strips.inner.get(strip)?.times(exp_minus(self.exponent(strip, value))?);
        let uniform = (u128::from(position) << FRACTION_BITS) + u128::from(digits >> (64 - FRACTION_BITS));
        let scaled = |probability: u64| u128::from(length) * u128::from(probability);
        if uniform < scaled(acceptance.lower) {
            Some(true)
        } else if uniform >= scaled(acceptance.upper) {
            Some(false)
        } else {
            None
        }
    }

    /// `(x² - a²) / (2 sigma²)` for a value `x` in a strip with inner end `a`, less than 2^-50 too low, in 2^-62.
    fn exponent(&self, strip: usize, value: i64) -> u128 {
        let log2_width = self.strips.log2_width;
        let inner = (strip as u64) << log2_width;
        let beyond = value.unsigned_abs() - inner;
        // At most (2 STRIPS - 3) W² < 2^80, and below 2^62 once shifted.
        let difference = u128::from(beyond) * u128::from(2 * inner + beyond);
        let in_widths = if 2 * log2_width <= SQUARE_BITS {
            difference << (SQUARE_BITS - 2 * log2_width)
        } else {
            difference >> (2 * log2_width - SQUARE_BITS)
        };
        (in_widths * u128::from(self.exponent_of_width)) >> SQUARE_BITS
    }

    /// The event of acceptance.
    fn comparison(&self, candidate: &Candidate) -> Comparison {
        let magnitude = u128::from(candidate.value.unsigned_abs());
        let sigma = u128::from(self.sigma);
        Comparison {
            length: candidate.place.length,
            numerator: BigUint::from(self.strips.full_weight) << candidate.log2_rarity,
            denominator: self.strips.weights[candidate.place.strip],
            square: magnitude * magnitude,
            twice_variance: 2 * sigma * sigma,
        }
    }

    /// The value at a word's offset in a strip: `x >= 0`, or `-1 - x` under the negative sign, so that zero counts once.
    #[inline]
    fn value(&self, strip: usize, word: u64) -> i64 {
        let log2_width = self.strips.log2_width;
        let magnitude = (strip as u64).wrapping_shl(log2_width) | (word & low_bits(log2_width));
        magnitude as i64 ^ sign(word)
    }
}

/// The column that a word chooses, and the depth in it.
#[inline]
fn split(word: u64) -> (usize, u64) {
    ((word >> (u64::BITS - LOG2_STRIPS)) as usize, word & low_bits(DEPTH_BITS))
}

/// All ones for the negative sign, else zero.
#[inline]
fn sign(word: u64) -> i64 {
    ((word << LOG2_STRIPS) as i64) >> 63
}

/// A number with the lowest `count < 64` bits set.
#[inline]
fn low_bits(count: u32) -> u64 {
    !u64::MAX.wrapping_shl(count)
}

/// `4^log2_width / twice_variance` rounded down to a multiple of 2^-62, for a quotient of at most one half.
fn shifted_quotient(log2_width: u32, twice_variance: u128) -> u64 {
    let numerator = BigUint::from(1_u32) << (2 * log2_width + FRACTION_BITS);
    u64::try_from(numerator / twice_variance).unwrap_or(u64::MAX)
}

/// `g` with probability `2^-(g+1)`: the number of zeros before the first one; none from [`MOST_TAIL_PIECES`] on.
fn tail_piece<R: Rng>(rng: &mut R) -> Option<u32> {
    (0..MOST_TAIL_PIECES).step_by(64).find_map(|before| {
        let word = rng.next_u64();
        (word != 0).then(|| before + word.trailing_zeros())
    })
}

#[cfg(test)]
mod tests;
