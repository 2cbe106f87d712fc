//! Secret Poisson sampling of units.

use rand::Rng;

use super::words::{BLOCK_WORDS, WordBlock};
use crate::params::SamplingProbability;

/// 2^64, the number of values of a random word.
const WORDS: f64 = 18_446_744_073_709_551_616.0;

/// Takes each of `units` units independently with probability `q`; ascending indices.
///
/// A unit is taken if a 64-bit uniform word lies below `floor(q 2^64)`. Multiplying a double by 2^64 is exact, so the
/// realized probability is at most `q` and less than 2^-64 below it; the accounted probability is never the smaller
/// one, and the privacy loss grows with the probability. `q = 1` takes every unit.
pub(super) fn sample_units<R: Rng>(units: usize, q: SamplingProbability, rng: &mut R) -> Vec<usize> {
    if q.get() >= 1.0 {
        return (0..units).collect();
    }
    // The cast truncates, which is the floor; q < 1 keeps the product below 2^64.
    let threshold = (q.get() * WORDS) as u64;
    let mut block = WordBlock::new();
    let mut sampled = Vec::new();
    for first in (0..units).step_by(BLOCK_WORDS) {
        let words = block.draw(BLOCK_WORDS.min(units - first), rng);
        sampled.extend((first..).zip(words).filter(|&(_, word)| word < threshold).map(|(unit, _)| unit));
    }
    sampled
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::random::SecureRng;

    fn sample(units: usize, q: f64, stream: u64) -> Vec<usize> {
        let mut rng = SecureRng::seeded_for_simulation(11, stream);
        sample_units(units, SamplingProbability::new(q).unwrap(), &mut rng)
    }

    #[test]
    fn certainty_takes_everyone() {
        assert_eq!(sample(5, 1.0, 0), vec![0, 1, 2, 3, 4]);
        assert!(sample(0, 1.0, 0).is_empty());
    }

    #[test]
    fn a_probability_below_one_word_takes_nobody() {
        assert!(sample(10_000, 1e-25, 0).is_empty());
    }

    #[test]
    fn indices_ascend_without_repetition() {
        let taken = sample(10_000, 0.3, 1);
        assert!(taken.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(taken.iter().all(|&unit| unit < 10_000));
    }

    /// One word per unit, in their order, across blocks.
    #[test]
    fn each_unit_has_a_word_of_its_own() {
        for units in [1, BLOCK_WORDS, 3 * BLOCK_WORDS + 5] {
            let mut rng = SecureRng::seeded_for_simulation(11, 7);
            let taken: Vec<usize> = (0..units).filter(|_| rng.next_u64() < 1 << 62).collect();
            assert_eq!(sample(units, 0.25, 7), taken);
        }
    }

    /// Two-sided normal test of the total at 6 deviations: a false alarm has probability below 2e-9 per case.
    #[test]
    fn sample_sizes_match_the_probability() {
        for (stream, q) in [(2, 0.001), (3, 0.02), (4, 0.5), (5, 0.99)] {
            let units = 1_000_000;
            let taken = sample(units, q, stream).len() as f64;
            let (mean, deviation) = (units as f64 * q, (units as f64 * q * (1.0 - q)).sqrt());
            assert!((taken - mean).abs() < 6.0 * deviation, "q {q}: {taken} against {mean}");
        }
    }

    /// Neighboring units are independent: correlation of indicator pairs, 6 deviations.
    #[test]
    fn neighbors_are_independent() {
        let units = 1_000_000;
        let taken = sample(units, 0.5, 6);
        let pairs = taken.windows(2).filter(|pair| pair[1] == pair[0] + 1).count() as f64;
        // Pair indicators overlap by one unit: variance n (1/4 - 1/16) + 2 n (1/8 - 1/16).
        let deviation = (units as f64 * 5.0 / 16.0).sqrt();
        assert!((pairs - units as f64 / 4.0).abs() < 6.0 * deviation, "{pairs}");
    }
}
