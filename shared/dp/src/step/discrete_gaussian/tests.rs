#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;
use crate::random::SecureRng;

mod construction;
mod statistics;

fn rng(stream: u64) -> SecureRng {
    SecureRng::seeded_for_simulation(2020, stream)
}

/// Every `sigma` up to the largest, each order of magnitude as likely as any other.
fn any_sigma() -> impl Strategy<Value = u64> {
    (0..=40_u32).prop_flat_map(|log| (1_u64 << log)..=((1_u64 << (log + 1)) - 1).min((1 << 40) + 1))
}

#[test]
fn sigma_is_rounded_up() {
    let sigma = |multiplier: f64| {
        DiscreteGaussian::for_multiplier(NoiseMultiplier::new(multiplier).unwrap())
            .map(|gaussian| gaussian.sigma)
    };
    assert_eq!(sigma(1.0).unwrap(), (1 << 28) + 1);
    assert_eq!(sigma(1.0 + f64::EPSILON).unwrap(), (1 << 28) + 2);
    assert_eq!(sigma(1.0 / 1024.0).unwrap(), (1 << 18) + 1);
    assert_eq!(sigma(4096.0).unwrap(), (1 << 40) + 1);
    assert!(sigma(1.0 / 1025.0).is_err());
    assert!(sigma(4096.5).is_err());
}

#[test]
fn noise_is_added_to_what_is_there() {
    let gaussian = DiscreteGaussian::with_sigma(1 << 20);
    for length in [0, 1, BLOCK_WORDS - 1, BLOCK_WORDS, 2 * BLOCK_WORDS + 1] {
        let (mut from_zero, mut from_more) = (vec![0_i64; length], vec![1 << 51; length]);
        gaussian.add_noise(&mut from_zero, &mut rng(1));
        gaussian.add_noise(&mut from_more, &mut rng(1));
        assert!(from_zero.iter().zip(&from_more).all(|(noise, sum)| sum - noise == 1 << 51));
        assert!(from_zero.iter().filter(|&&noise| noise == 0).count() < 2);
    }
}
