//! The mechanism as a whole: charge, sample, sum, noise.
//!
//! The sum before noise is not accessible. Two steps under equal simulation seeds draw the same sample and the same
//! noise, so the difference of their releases is exactly the difference of their sums.

#![allow(clippy::unwrap_used)]

use std::{
    convert::Infallible,
    num::NonZeroU32,
    pin::pin,
    task::{Context, Poll, Waker},
};

use fusiondp_dp::{
    ChargeRequest, ClipNorm, CommittedCharge, Digest, DpEvent, Ledger, LedgerEntry, LedgerStore,
    NoiseMultiplier, PrivateRelease, PrivateStep, Protection, Released, SamplingProbability, SecureRng,
    StepError, UpdateId,
};
use proptest::prelude::*;

const CLIP_NORM: f64 = 0.7;
const STEPS_PER_CLIP_NORM: f64 = 268_435_456.0;
/// Grid steps between two values of a dense coordinate.
const DENSE_STEPS: f64 = 256.0;

#[derive(Default)]
struct MemoryStore(Vec<LedgerEntry>);

impl LedgerStore for MemoryStore {
    type Error = Infallible;

    async fn append(&mut self, entries: &[LedgerEntry]) -> Result<(), Infallible> {
        self.0.extend_from_slice(entries);
        Ok(())
    }
}

#[derive(Clone, Copy)]
struct Setting {
    noise: f64,
    q: f64,
    steps: u32,
    units: u64,
    clip_norm: f64,
}

const EVERYONE: Setting = Setting { noise: 1.0, q: 1.0, steps: 1, units: 4, clip_norm: CLIP_NORM };

fn charge(setting: Setting) -> CommittedCharge {
    let request = ChargeRequest {
        time_ms: 1,
        data_set: Digest::of(b"data"),
        study: "study".to_owned(),
        study_digest: Digest::of(b"study"),
        round: 1,
        local_step: 0,
        event: DpEvent::PoissonSampledGaussian {
            noise_multiplier: NoiseMultiplier::new(setting.noise).unwrap(),
            sampling_probability: SamplingProbability::new(setting.q).unwrap(),
            steps: NonZeroU32::new(setting.steps).unwrap(),
        },
        clip_norm: ClipNorm::new(setting.clip_norm).unwrap(),
        unit: "patient".to_owned(),
        units: setting.units,
        model_digest: Digest::of(b"model"),
        update_id: UpdateId::from_bytes([1; 16]),
        released: Released::PrivateSum,
        protects: Protection::SensitiveValues,
    };
    let (mut ledger, mut store) = (Ledger::open(Vec::new()).unwrap(), MemoryStore::default());
    let charged =
        pin!(ledger.charge(vec![request], &mut store)).poll(&mut Context::from_waker(Waker::noop()));
    match charged {
        Poll::Ready(charges) => charges.unwrap().remove(0),
        Poll::Pending => panic!("a store in memory answers at once"),
    }
}

fn begin(setting: Setting, dimension: usize, seed: u64) -> Result<PrivateStep, StepError> {
    let rng = SecureRng::seeded_for_simulation(seed, 0);
    PrivateStep::begin(charge(setting), usize::try_from(setting.units).unwrap(), dimension, rng)
}

/// Releases the given contributions of all units, without sampling.
fn release(contributions: &[Vec<f32>], seed: u64) -> PrivateRelease {
    let setting = Setting { units: contributions.len() as u64, ..EVERYONE };
    let mut step = begin(setting, contributions[0].len(), seed).unwrap();
    for contribution in contributions {
        step.add_unit(contribution).unwrap();
    }
    step.release().unwrap()
}

fn distance(a: &PrivateRelease, b: &PrivateRelease) -> f64 {
    let square = |(x, y): (&i64, &i64)| ((x - y) as f64).powi(2);
    a.values().iter().zip(b.values()).map(square).sum::<f64>().sqrt()
}

fn any_contribution(dimension: usize) -> impl Strategy<Value = Vec<f32>> {
    let coordinate = prop_oneof![4 => -0.5..0.5_f32, 1 => any::<f32>(), 1 => Just(0.0)];
    prop::collection::vec(coordinate, dimension)
}

proptest! {
    /// Whatever the engine hands over, also garbage.
    #[test]
    fn neighbors_differ_by_at_most_the_stated_sensitivity(
        (units, other) in (1..12_usize)
            .prop_flat_map(|d| (prop::collection::vec(any_contribution(d), 1..5), any_contribution(d))),
        seed in any::<u64>(),
    ) {
        let mut replaced = units.clone();
        replaced[0] = other;
        let mut zeroed = units.clone();
        zeroed[0].fill(0.0);
        let released = release(&units, seed);
        prop_assert!(distance(&released, &release(&replaced, seed)) <= 2.0 * STEPS_PER_CLIP_NORM);
        prop_assert!(distance(&released, &release(&zeroed, seed)) <= STEPS_PER_CLIP_NORM);
    }

    #[test]
    fn the_order_of_units_does_not_matter(
        units in (1..6_usize).prop_flat_map(|d| prop::collection::vec(any_contribution(d), 1..6)),
        seed in any::<u64>(),
    ) {
        let mut reversed = units.clone();
        reversed.reverse();
        let (forwards, backwards) = (release(&units, seed), release(&reversed, seed));
        prop_assert_eq!(forwards.values(), backwards.values());
    }

    /// A vector clipped in single precision to the engine's norm arrives: at most half a step per coordinate is lost.
    #[test]
    fn what_the_engine_clips_is_not_lost(
        direction in prop::collection::vec(-1.0..1.0_f32, 1..3000),
        seed in any::<u64>(),
    ) {
        let dimension = direction.len();
        let norm = direction.iter().map(|v| v * v).sum::<f32>().sqrt();
        prop_assume!(norm > 1e-3);
        let setting = Setting { units: 1, ..EVERYONE };
        let clip = begin(setting, dimension, seed).unwrap().engine_clip_norm();
        let clipped: Vec<f32> = direction.iter().map(|v| v * (clip as f32 / norm)).collect();
        let moved = distance(&release(&[clipped], seed), &release(&[vec![0.0; dimension]], seed));
        let expected = clip / CLIP_NORM * STEPS_PER_CLIP_NORM;
        prop_assert!((moved - expected).abs() <= 0.6 * DENSE_STEPS * (dimension as f64).sqrt() + 1e-5 * expected);
    }
}

/// With equal views every contribution is the zero vector, and the release is noise alone.
#[test]
fn zero_contributions_leave_noise_alone() {
    let nothing = vec![vec![0.0; 5]; 3];
    assert_eq!(release(&nothing, 7).values(), release(&nothing, 7).values());
    assert!(release(&nothing, 7).values().iter().all(|&value| value != 0));
    assert_eq!(release(&nothing, 7).grid_step(), CLIP_NORM / STEPS_PER_CLIP_NORM);
}

/// An empty sample releases noise of the same kind: its size must not show.
#[test]
fn an_empty_sample_still_releases_noise() {
    let setting = Setting { q: 1e-15, noise: 2.0, ..EVERYONE };
    let step = begin(setting, 40_000, 3).unwrap();
    assert!(step.sampled_units().is_empty());
    let release = step.release().unwrap();
    let square: f64 = release.values().iter().map(|&v| (v as f64 / STEPS_PER_CLIP_NORM).powi(2)).sum();
    // Mean square of 40,000 normals: relative deviation sqrt(2/n); 6 deviations.
    assert!((square / 40_000.0 / 4.0 - 1.0).abs() < 6.0 * (2.0 / 40_000.0_f64).sqrt());
}

/// Mean and covariance of the noise in units of the gradient against `(noise multiplier * clip norm)²` times the identity.
///
/// 10 means and 55 covariances at 6 deviations each: a false alarm has probability below 2e-7.
#[test]
fn noise_has_the_stated_mean_and_covariance() {
    const DIMENSION: usize = 10;
    let (rounds, setting) = (20_000, Setting { noise: 1.3, units: 2, ..EVERYONE });
    let variance = (setting.noise * setting.clip_norm).powi(2);
    let contribution = vec![0.1_f32; DIMENSION];
    let mut samples: Vec<Vec<f64>> = Vec::new();
    for round in 0..rounds {
        let mut step = begin(setting, DIMENSION, round).unwrap();
        step.add_unit(&contribution).unwrap();
        step.add_unit(&contribution).unwrap();
        let parts = step.release().unwrap().into_parts();
        samples.push(parts.values.iter().map(|&v| v as f64 * parts.grid_step - 0.2).collect());
    }
    let average =
        |value: &dyn Fn(&[f64]) -> f64| samples.iter().map(|s| value(s)).sum::<f64>() / rounds as f64;
    let six_deviations = |variance: f64| 6.0 * (variance / rounds as f64).sqrt();
    for i in 0..DIMENSION {
        let mean = average(&|sample| sample[i]);
        // The rounding of 0.1 to the grid adds at most one grid step.
        assert!(mean.abs() < six_deviations(variance) + 2e-6, "mean {i}: {mean}");
        let square = average(&|sample| sample[i] * sample[i]);
        let limit = six_deviations(2.0 * variance * variance);
        assert!((square - variance).abs() < limit, "variance {i}: {square}");
        for j in 0..i {
            let product = average(&|sample| sample[i] * sample[j]);
            assert!(product.abs() < six_deviations(variance * variance), "covariance {i} {j}: {product}");
        }
    }
}

#[test]
fn every_sampled_unit_must_be_added_exactly_once() {
    let mut step = begin(EVERYONE, 2, 1).unwrap();
    assert_eq!(step.sampled_units(), [0, 1, 2, 3]);
    assert_eq!(
        step.add_unit(&[0.0; 3]),
        Err(StepError::Shape { what: "dense coordinates", expected: 2, found: 3 })
    );
    for _ in 0..3 {
        step.add_unit(&[0.0; 2]).unwrap();
    }
    assert_eq!(step.release().unwrap_err(), StepError::MissingContributions);
    let mut step = begin(EVERYONE, 2, 1).unwrap();
    for _ in 0..4 {
        step.add_unit(&[0.0; 2]).unwrap();
    }
    assert_eq!(step.add_unit(&[0.0; 2]), Err(StepError::TooManyContributions));
    assert!(step.release().is_ok());
}

#[test]
fn a_step_must_be_what_was_charged_and_fit_the_grid() {
    let refusal = |setting, dimension| begin(setting, dimension, 1).unwrap_err();
    assert_eq!(refusal(Setting { steps: 2, ..EVERYONE }, 1), StepError::SeveralSteps { steps: 2 });
    assert_eq!(refusal(EVERYONE, 0), StepError::Dimension { dimension: 0 });
    let fine = Setting { noise: 1e-4, ..EVERYONE };
    assert_eq!(refusal(fine, 1), StepError::NoiseMultiplier { noise_multiplier: 1e-4 });
    let huge = Setting { clip_norm: 1e31, ..EVERYONE };
    assert_eq!(refusal(huge, 1), StepError::ClipNorm { clip_norm: 1e31 });
    let rng = SecureRng::seeded_for_simulation(1, 1);
    let differ = PrivateStep::begin(charge(EVERYONE), 5, 1, rng).unwrap_err();
    assert_eq!(differ, StepError::UnitsDiffer { charged: 4, given: 5 });
}

#[test]
fn debug_shows_neither_sample_nor_values() {
    let step = begin(EVERYONE, 2, 1).unwrap();
    assert_eq!(format!("{step:?}"), "PrivateStep { dimension: 2, sequence: 0, .. }");
    let released = release(&[vec![0.0; 2]], 1);
    assert_eq!(format!("{released:?}"), "PrivateRelease { dimension: 2, sequence: 0, .. }");
}

#[test]
fn a_release_carries_the_entry_that_paid_for_it() {
    let parts = release(&[vec![0.0; 2]], 1).into_parts();
    assert_eq!(parts.entry.sequence(), 0);
    assert_eq!(parts.entry.charge().update_id, UpdateId::from_bytes([1; 16]));
    assert_eq!(parts.values.len(), 2);
}
