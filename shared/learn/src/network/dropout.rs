//! Dropout whose mask is a function of (seed, layer, row, unit).
//!
//! A mask that is computed and not drawn needs no generator state, does not depend on how a batch is cut into blocks,
//! and can be repeated: finite differences with a fixed mask need nothing more than the same seed.

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

    /// Applies the multipliers of one row of one layer, 0 or `1 / (1 - rate)`, to an activation and its slope.
    #[inline(always)]
    pub(crate) fn apply<F: Real>(&self, layer: usize, row: usize, activation: &mut [F], slope: &mut [F]) {
        let row = self.first_row.wrapping_add(row as u64);
        let key = split_mix(self.seed ^ split_mix(((layer as u64) << 40) ^ row));
        let (low, high) = (key as u32, (key >> 32) as u32);
        let threshold = (self.rate * 2.0_f64.powi(32)) as u32;
        let keep = F::of(1.0 / (1.0 - self.rate));
        for (unit, (activation, slope)) in activation.iter_mut().zip(slope).enumerate() {
            let bits = mix(low ^ (unit as u32).wrapping_mul(0x9e37_79b9)) ^ high;
            let multiplier = if mix(bits) >= threshold { keep } else { F::zero() };
            *activation *= multiplier;
            *slope *= multiplier;
        }
    }
}

/// Finalizer of SplitMix64 (Steele, Lea, Flood 2014).
fn split_mix(value: u64) -> u64 {
    let z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Finalizer of MurmurHash3 on 32 bits: shifts and products that vectorize.
#[inline(always)]
fn mix(value: u32) -> u32 {
    let z = (value ^ (value >> 16)).wrapping_mul(0x85eb_ca6b);
    let z = (z ^ (z >> 13)).wrapping_mul(0xc2b2_ae35);
    z ^ (z >> 16)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn keeps_the_stated_share_and_its_mean() {
        let dropout = Dropout::new(0.4, DropoutSeed(3)).unwrap();
        let (mut kept, mut sum) = (0_u32, 0.0);
        for row in 0..2_000 {
            let mut mask = [1.0_f64; 128];
            dropout.apply(1, row, &mut mask, &mut [1.0; 128]);
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
        let mask = |seed, layer, row| {
            let mut mask = [1.0_f32; 64];
            Dropout::new(0.5, DropoutSeed(seed)).unwrap().apply(layer, row, &mut mask, &mut [1.0; 64]);
            mask
        };
        let base = mask(1, 0, 0);
        for other in [mask(2, 0, 0), mask(1, 1, 0), mask(1, 0, 1)] {
            let equal = base.iter().zip(&other).filter(|(a, b)| a == b).count();
            assert!((12..=52).contains(&equal), "{equal} of 64 units agree");
        }
    }

    #[test]
    fn a_block_continues_the_mask_of_its_batch() {
        let dropout = Dropout::new(0.3, DropoutSeed(9)).unwrap();
        let (mut whole, mut block) = ([1.0_f32; 16], [1.0_f32; 16]);
        dropout.apply(0, 300, &mut whole, &mut [1.0; 16]);
        dropout.at_row(256).apply(0, 44, &mut block, &mut [1.0; 16]);
        assert_eq!(whole, block);
    }

    #[test]
    fn refuses_rates_outside_the_range() {
        for rate in [-0.1, 1.0, f64::NAN, f64::INFINITY] {
            assert!(Dropout::new(rate, DropoutSeed(0)).is_err(), "{rate}");
        }
    }
}
