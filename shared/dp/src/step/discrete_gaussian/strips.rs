//! The envelope: strips of equal width, each with an integer weight above the density.

use super::{
    exact::exponential,
    fixed::{Bounds, FRACTION_BITS, ONE, multiply},
};

/// log2 of the number of strips, the last of which stands for the tail.
pub(super) const LOG2_STRIPS: u32 = 9;
/// Number of strips.
pub(super) const STRIPS: usize = 1 << LOG2_STRIPS;
/// The strip that stands for all magnitudes beyond the others.
pub(super) const TAIL: usize = STRIPS - 1;
/// log2 of the least number of strips in one `sigma`, for `sigma` above it.
const LOG2_STRIPS_PER_SIGMA: u32 = LOG2_STRIPS - 4;
/// log2 of the width of a piece of the tail over the width of a strip: at least `sigma / 8`.
pub(super) const LOG2_TAIL_WIDTH: u32 = LOG2_STRIPS_PER_SIGMA - 2;
/// Precision of the exponential from which the densities follow, in bits.
const PRECISION: u64 = 128;

/// Widths, weights and densities of the strips for one `sigma`.
///
/// Strip `i < TAIL` covers the magnitudes `[i W, (i+1) W)`. Its weight is at least `full_weight * f(i W)` with
/// `f(x) = exp(-x² / (2 sigma²))`. The weight of the tail is at least `full_weight * f(TAIL W) * 2 V / W`, where `V` is
/// the width of a piece of the tail. The weights sum to [`total`](Self::total).
#[derive(Debug, Clone)]
pub(super) struct Strips {
    /// log2 of the width `W`.
    pub(super) log2_width: u32,
    /// Weight that a strip of density one would have.
    pub(super) full_weight: u64,
    /// Weight of each strip.
    pub(super) weights: Vec<u64>,
    /// `full_weight * f(i W) / weight`, the probability of acceptance at the inner end; nothing for the tail.
    pub(super) inner: Vec<Bounds>,
    /// Lower bounds of the probability of acceptance anywhere in a strip, in multiples of 2^-62; zero for the tail.
    pub(super) anywhere: Vec<u64>,
}

impl Strips {
    /// The strips for `sigma` in `[1, 2^40 + 1]`.
    pub(super) fn new(sigma: u64) -> Self {
        let log2_width = sigma.ilog2().saturating_sub(LOG2_STRIPS_PER_SIGMA);
        let densities = densities(sigma, log2_width);
        let full_weight = full_weight(&densities, Self::total(log2_width));
        let weights = weights(&densities, full_weight, Self::total(log2_width));
        let probability = |density: u64, weight: u64| {
            (u128::from(full_weight) * u128::from(density) / u128::from(weight)) as u64
        };
        let body = || densities.windows(2).zip(&weights);
        let inner = body().map(|(ends, &weight)| Bounds {
            lower: probability(ends[0].lower, weight),
            upper: (probability(ends[0].upper, weight) + 1).min(ONE),
        });
        let anywhere = body().map(|(ends, &weight)| probability(ends[1].lower, weight)).chain([0]);
        Self { log2_width, full_weight, inner: inner.collect(), anywhere: anywhere.collect(), weights }
    }

    /// Sum of all weights, a power of two: what a word has besides the sign and the place within a strip.
    pub(super) fn total(log2_width: u32) -> u64 {
        1 << (63 - log2_width)
    }
}

/// Bounds of `f(i W)` for `i` in `0..=TAIL`.
///
/// With `r = exp(-W² / (2 sigma²))` the ratio of neighbors is `f((i+1) W) / f(i W) = r r^(2i)`.
fn densities(sigma: u64, log2_width: u32) -> Vec<Bounds> {
    let variance = u128::from(sigma) * u128::from(sigma);
    let first = reciprocal(exponential(1 << (2 * log2_width), 2 * variance, PRECISION));
    let square = first.times(first);
    let next = |&(density, ratio): &(Bounds, Bounds)| Some((density.times(ratio), ratio.times(square)));
    let pairs = std::iter::successors(Some((Bounds::CERTAIN, first)), next);
    pairs.map(|(density, _)| density).take(STRIPS).collect()
}

/// Bounds of the reciprocal of a number of at least one with bounds in multiples of `2^-PRECISION`.
fn reciprocal((lower, upper): (num_bigint::BigUint, num_bigint::BigUint)) -> Bounds {
    let one = num_bigint::BigUint::from(1_u32) << (u64::from(FRACTION_BITS) + PRECISION);
    // A quotient that does not fit is above one, and one is an upper bound then.
    let digits = |quotient| u64::try_from(quotient).unwrap_or(ONE);
    Bounds { lower: digits(&one / upper), upper: (digits(one / lower) + 1).min(ONE) }
}

/// The largest `full_weight` for which the rounded weights surely sum to at most `total`.
fn full_weight(densities: &[Bounds], total: u64) -> u64 {
    let tail = densities.last().map_or(0, |density| u128::from(density.upper) << (LOG2_TAIL_WIDTH + 1));
    let body: u128 = densities[..TAIL].iter().map(|density| u128::from(density.upper)).sum();
    // Rounding up adds at most one per strip, and `2 V / W < STRIPS` in the tail.
    let spare = 2 * STRIPS as u64;
    // The density of the first strip is one, so the quotient is below 2^63.
    ((u128::from(total - spare) << FRACTION_BITS) / (body + tail)) as u64
}

/// Weights rounded up; what is missing to `total` goes to the first strip, which only lowers its acceptance.
fn weights(densities: &[Bounds], full_weight: u64, total: u64) -> Vec<u64> {
    let of_density = |upper: u64| multiply(full_weight, upper) + 1;
    let mut weights: Vec<u64> = densities[..TAIL].iter().map(|density| of_density(density.upper)).collect();
    weights.push(of_density(densities[TAIL].upper) << (LOG2_TAIL_WIDTH + 1));
    weights[0] += total - weights.iter().sum::<u64>();
    weights
}
