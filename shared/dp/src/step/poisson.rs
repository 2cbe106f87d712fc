//! Secret Poisson sampling of units.

use std::cmp::Ordering;

use rand::Rng;

use super::words::{BLOCK_QUARTERS, WordBlock};
use crate::params::SamplingProbability;

/// 2^64, the number of values of a random word.
const WORDS: f64 = 18_446_744_073_709_551_616.0;
/// The lower 48 bits of a word.
const REST: u64 = (1 << 48) - 1;

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
    let threshold = Threshold((q.get() * WORDS) as u64);
    let mut block = WordBlock::new();
    let mut sampled = Vec::new();
    for first in (0..units).step_by(BLOCK_QUARTERS) {
        let quarters = block.draw_quarters(BLOCK_QUARTERS.min(units - first), rng);
        let taken =
            (first..).zip(quarters).filter(|&(_, highest)| threshold.is_above(highest, || rng.next_u64()));
        sampled.extend(taken.map(|(unit, _)| unit));
    }
    sampled
}

/// What a unit's uniform word must lie below.
#[derive(Clone, Copy)]
struct Threshold(u64);

impl Threshold {
    /// Whether a uniform word lies below, of which the highest 16 bits are known.
    ///
    /// They decide unless they equal those of the threshold, once in 2^16 units; only then the other 48 bits are drawn,
    /// the highest of a word. The comparison is the one of whole words.
    fn is_above(self, highest: u16, draw: impl FnOnce() -> u64) -> bool {
        match u64::from(highest).cmp(&(self.0 >> 48)) {
            Ordering::Less => true,
            Ordering::Greater => false,
            Ordering::Equal => draw() >> 16 < self.0 & REST,
        }
    }
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

    /// 16 bits per unit, in their order, across blocks; a quarter is below 2^62 or not by its highest bits alone, but for ties.
    #[test]
    fn each_unit_has_bits_of_its_own() {
        for units in [1, BLOCK_QUARTERS, 3 * BLOCK_QUARTERS + 5] {
            let mut rng = SecureRng::seeded_for_simulation(11, 7);
            let words = (0..units.div_ceil(4)).map(|_| rng.next_u64());
            let quarters: Vec<u64> =
                words.flat_map(|word| [0, 16, 32, 48].map(|shift| word >> shift & 0xffff)).collect();
            let taken: Vec<usize> = (0..units).filter(|&unit| quarters[unit] < 0x4000).collect();
            // The threshold is 0x4000 followed by zeros: no rest lies below, and ties are told apart like whole words.
            let threshold = Threshold(1 << 62);
            assert!(!threshold.is_above(0x4000, || 0) && threshold.is_above(0x3fff, || u64::MAX));
            let ties = quarters[..units].iter().filter(|&&quarter| quarter == 0x4000).count();
            assert_eq!(ties, 0, "a tie would draw another word: choose another stream");
            assert_eq!(sample(units, 0.25, 7), taken);
        }
    }

    /// Every decision is that of the whole word, whatever part of it is drawn.
    #[test]
    fn a_word_in_two_parts_compares_like_a_whole_one() {
        let mut rng = SecureRng::seeded_for_simulation(11, 8);
        for _ in 0..2_000 {
            let threshold = rng.next_u64();
            let near = [threshold, threshold.wrapping_sub(1), threshold.wrapping_add(1), threshold ^ 1 << 47];
            for word in near.into_iter().chain([rng.next_u64(), 0, u64::MAX]) {
                let rest = || word << 16 | 0xabcd;
                let taken = Threshold(threshold).is_above((word >> 48) as u16, rest);
                assert_eq!(taken, word < threshold, "{word:#x} against {threshold:#x}");
            }
        }
    }

    /// Below 2^-16 the highest bits decide nothing: all units are told apart by the rest. 6 deviations.
    #[test]
    fn probabilities_below_a_quarter_are_kept() {
        let (units, q) = (20_000_000, 5e-6);
        let taken = sample(units, q, 9).len() as f64;
        let mean = units as f64 * q;
        assert!((taken - mean).abs() < 6.0 * mean.sqrt(), "{taken} against {mean}");
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
