//! Dropout whose mask is a function of (seed, layer, row, unit).
//!
//! A mask that is computed and not drawn needs no generator state, does not depend on how a batch is cut into blocks,
//! and can be repeated: finite differences with a fixed mask need nothing more than the same seed.

use pulp::Simd;

use super::NetworkError;
use crate::real::Real;

/// Seed of one batch's dropout mask. Take a new one for each step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DropoutSeed(pub u64);

/// Inverted dropout: a unit is kept with probability `1 - rate` and then multiplied by `1 / (1 - rate)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dropout {
    rate: f64,
    seed: u64,
    first_row: u64,
}

impl Dropout {
    /// Dropout at `rate` in `[0, 1)`. For training on public values only: the mask is not secret.
    ///
    /// # Errors
    /// A rate outside `[0, 1)`.
    pub fn new(rate: f64, seed: DropoutSeed) -> Result<Self, NetworkError> {
        if !(0.0..1.0).contains(&rate) {
            return Err(NetworkError::DropoutRate { rate });
        }
        Ok(Self { rate, seed: seed.0, first_row: 0 })
    }

    /// The same mask for a block of rows that starts at `row` of the batch.
    #[must_use]
    pub(crate) fn at_row(self, row: usize) -> Self {
        Self { first_row: row as u64, ..self }
    }

    /// Masks of a network that reads the same rows as others; the first one's are those of a network alone.
    #[must_use]
    pub(crate) fn of_member(self, member: usize) -> Self {
        Self { seed: self.seed.wrapping_add((member as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)), ..self }
    }

    /// Writes the multipliers of one row of one layer, 0 or `1 / (1 - rate)`, to whole [`MASK_BLOCK`]s of `mask`.
    ///
    /// A unit is dropped if 16 bits of its own lie below `floor(rate 2^16)`: the realized rate is at most `rate` and less than
    /// 2^-16 below it. One hash of 32 bits serves two units, which are 16 apart.
    #[inline(always)]
    pub(crate) fn fill<F: Real, S: Simd>(&self, simd: S, layer: usize, row: usize, mask: &mut [F]) {
        let row = self.first_row.wrapping_add(row as u64);
        let key = split_mix(self.seed ^ split_mix(((layer as u64) << 40) ^ row));
        let threshold = (self.rate * 65_536.0) as u32;
        let kept = F::of(1.0 / (1.0 - self.rate));
        for (block, mask) in mask.as_chunks_mut::<MASK_BLOCK>().0.iter_mut().enumerate() {
            let words = words(simd, key, block as u32);
            let (low, high) = mask.as_chunks_mut::<WORDS>().0.split_at_mut(1);
            F::choose(simd, &words, 0, threshold, kept, &mut low[0]);
            F::choose(simd, &words, 16, threshold, kept, &mut high[0]);
        }
    }
}

/// Hashes that serve a [`MASK_BLOCK`]: vectors of the widest instruction set.
const WORDS: usize = 16;

/// Units whose multipliers are computed at once.
pub(crate) const MASK_BLOCK: usize = 2 * WORDS;

/// 32 bits for each word of a block: a function of key, block and place, whatever the vectors.
#[inline(always)]
fn words<S: Simd>(simd: S, key: u64, block: u32) -> [u32; WORDS] {
    let (low, high) = (key as u32, (key >> 32) as u32);
    let mut words = [0; WORDS];
    for (place, word) in (WORDS as u32 * block..).zip(&mut words) {
        *word = place.wrapping_mul(0x9e37_79b9) ^ low;
    }
    let high = simd.splat_u32s(high);
    for word in S::as_mut_simd_u32s(&mut words).0 {
        *word = mix(simd, simd.add_u32s(*word, high));
    }
    words
}

/// Finalizer of SplitMix64 (Steele, Lea, Flood 2014).
fn split_mix(value: u64) -> u64 {
    let z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Finalizer of MurmurHash3 on 32 bits in every lane.
#[inline(always)]
fn mix<S: Simd>(simd: S, value: S::u32s) -> S::u32s {
    let z = simd.mul_u32s(fold(simd, value, 16), simd.splat_u32s(0x85eb_ca6b));
    let z = simd.mul_u32s(fold(simd, z, 13), simd.splat_u32s(0xc2b2_ae35));
    fold(simd, z, 16)
}

/// `value ^ value >> by`. Not a closure, which is not inlined into code for wider registers.
#[inline(always)]
fn fold<S: Simd>(simd: S, value: S::u32s, by: u32) -> S::u32s {
    simd.xor_u32s(value, simd.wrapping_dyn_shr_u32s(value, simd.splat_u32s(by)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use pulp::{Arch, WithSimd};

    use super::*;

    impl Dropout {
        /// The multipliers of one row, for whole blocks.
        fn mask<const N: usize>(&self, layer: usize, row: usize) -> [f64; N] {
            let mut mask = [f64::NAN; N];
            self.fill(pulp::Scalar::new(), layer, row, &mut mask);
            mask
        }
    }

    #[test]
    fn keeps_the_stated_share_and_its_mean() {
        let dropout = Dropout::new(0.4, DropoutSeed(3)).unwrap();
        let (mut kept, mut sum) = (0_u32, 0.0);
        for row in 0..2_000 {
            let mask = dropout.mask::<128>(1, row);
            kept += mask.iter().map(|&m| u32::from(m > 0.0)).sum::<u32>();
            sum += mask.iter().sum::<f64>();
        }
        // 256,000 trials: a deviation of 5 sigma has probability below 1e-6, and the seed is fixed.
        let share = f64::from(kept) / 256_000.0;
        assert!((share - 0.6).abs() < 5.0 * (0.24_f64 / 256_000.0).sqrt(), "share {share}");
        assert!((sum / 256_000.0 - share / 0.6).abs() < 1e-12);
    }

    #[test]
    fn rows_layers_and_seeds_have_their_own_masks() {
        let mask = |seed, layer, row| Dropout::new(0.5, DropoutSeed(seed)).unwrap().mask::<64>(layer, row);
        let base = mask(1, 0, 0);
        for other in [mask(2, 0, 0), mask(1, 1, 0), mask(1, 0, 1)] {
            let equal = base.iter().zip(&other).filter(|(a, b)| a == b).count();
            assert!((12..=52).contains(&equal), "{equal} of 64 units agree");
        }
    }

    #[test]
    fn a_block_continues_the_mask_of_its_batch() {
        let dropout = Dropout::new(0.3, DropoutSeed(9)).unwrap();
        assert_eq!(dropout.mask::<32>(0, 300), dropout.at_row(256).mask::<32>(0, 44));
    }

    struct Fill<'a>(Dropout, &'a mut [f32]);

    impl WithSimd for Fill<'_> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            self.0.fill(simd, 2, 17, self.1);
        }
    }

    #[test]
    fn every_instruction_set_and_precision_has_the_same_mask() {
        let dropout = Dropout::new(0.3, DropoutSeed(5)).unwrap();
        let mut single = [f32::NAN; 96];
        Arch::new().dispatch(Fill(dropout, &mut single));
        let double = dropout.mask::<96>(2, 17);
        assert!(single.iter().zip(&double).all(|(&s, &d)| s == d as f32));
        // Units that share a hash, and neighbors, agree no more often than others: 6 deviations of 48 and 95 pairs.
        let kept: Vec<bool> = double.iter().map(|&m| m > 0.0).collect();
        for (distance, pairs) in [(16, 80.0), (1, 95.0)] {
            let equal = kept.iter().zip(&kept[distance..]).filter(|(a, b)| a == b).count();
            let (share, deviation) = (0.58, (0.58_f64 * 0.42 / pairs).sqrt());
            assert!((equal as f64 / pairs - share).abs() < 6.0 * deviation, "{equal} of {pairs}");
        }
    }

    #[test]
    fn refuses_rates_outside_the_range() {
        for rate in [-0.1, 1.0, f64::NAN, f64::INFINITY] {
            assert!(Dropout::new(rate, DropoutSeed(0)).is_err(), "{rate}");
        }
    }
}
