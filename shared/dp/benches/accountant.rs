//! The accountants: a long study at once, one round more of it, a site with many unlike steps, certified bounds, and
//! calibration.

#![allow(clippy::unwrap_used, missing_docs)]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use fusiondp_dp::{
    Accountant, Delta, DpEvent, Epsilon, NeighboringRelation, NoiseMultiplier, PldAccountant,
    PrivacyAccountant, RdpAccountant, SamplingProbability, StepCounts, calibrate_noise,
};

/// Steps of the long study.
const STEPS: u32 = 10_000;
/// Noise and sampling of the authors' sepsis study.
const STUDY: (f64, f64) = (1.047, 128.0 / 14_293.0);

fn event(noise_multiplier: f64, q: f64) -> DpEvent {
    DpEvent::PoissonSampledGaussian {
        noise_multiplier: NoiseMultiplier::new(noise_multiplier).unwrap(),
        sampling_probability: SamplingProbability::new(q).unwrap(),
        steps: std::num::NonZeroU32::MIN,
    }
}

fn steps(kinds: &[(f64, f64, u32)]) -> StepCounts {
    let mut counts = StepCounts::default();
    for &(noise_multiplier, q, steps) in kinds {
        counts.add(&event(noise_multiplier, q), u64::from(steps));
    }
    counts
}

fn delta() -> Delta {
    Delta::new(1e-5).unwrap()
}

/// As many kinds of steps, none like another.
fn unlike(kinds: u32) -> StepCounts {
    let kind = |i: u32| (0.9 + 0.03 * f64::from(i), STUDY.1 * (1.0 + 0.01 * f64::from(i)), 40);
    steps(&(0..kinds).map(kind).collect::<Vec<_>>())
}

fn compositions() -> [(&'static str, StepCounts); 4] {
    let (noise, q) = STUDY;
    [
        ("10,000 steps", steps(&[(noise, q, STEPS)])),
        ("one round of another kind", steps(&[(noise, q, STEPS), (2.0, 0.05, 1)])),
        ("five studies", steps(&[0.9, 1.0, 1.1, 1.3, 2.0].map(|noise| (noise, q, STEPS / 5)))),
        ("100 unlike kinds", unlike(100)),
    ]
}

fn accountants(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("accountant");
    group.sample_size(20);
    for (name, steps) in compositions() {
        for relation in [NeighboringRelation::Replace, NeighboringRelation::ZeroOut] {
            group.bench_function(BenchmarkId::new(format!("pld {relation:?}"), name), |bencher| {
                let epsilon =
                    || PldAccountant::default().epsilon_of_steps(black_box(&steps), delta(), relation);
                bencher.iter(|| epsilon().unwrap());
            });
        }
        group.bench_function(BenchmarkId::new("rdp Replace", name), |bencher| {
            let relation = NeighboringRelation::Replace;
            bencher.iter(|| RdpAccountant.epsilon_of_steps(black_box(&steps), delta(), relation).unwrap());
        });
    }
    group.finish();
}

/// The figure after every round of a study, by an accountant that is kept.
fn one_round_more(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("one round more");
    let (noise, q) = STUDY;
    for relation in [NeighboringRelation::Replace, NeighboringRelation::ZeroOut] {
        group.bench_function(BenchmarkId::from_parameter(format!("{relation:?}")), |bencher| {
            let mut accountant = Accountant::default();
            let mut rounds = steps(&[(noise, q, 9_000)]);
            accountant.epsilon_of_steps(&rounds, delta(), relation).unwrap();
            bencher.iter(|| {
                rounds.add(&event(noise, q), 1);
                accountant.epsilon_of_steps(black_box(&rounds), delta(), relation).unwrap()
            });
        });
    }
    group.finish();
}

fn bounds(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("bounds");
    group.sample_size(10);
    let (noise, q) = STUDY;
    let long = steps(&[(noise, q, STEPS)]);
    group.bench_function("10,000 steps", |bencher| {
        let relation = NeighboringRelation::Replace;
        bencher.iter(|| PldAccountant::default().bounds(black_box(&long), delta(), relation).unwrap());
    });
    group.finish();
}

fn calibration(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("calibrate_noise");
    group.sample_size(10);
    let target = Epsilon::new(1.0).unwrap();
    let q = SamplingProbability::new(STUDY.1).unwrap();
    let steps = std::num::NonZeroU32::new(STEPS).unwrap();
    group.bench_function("epsilon 1 in 10,000 steps", |bencher| {
        let relation = NeighboringRelation::Replace;
        bencher.iter(|| calibrate_noise(black_box(target), delta(), relation, q, steps).unwrap());
    });
    group.finish();
}

criterion_group!(benches, accountants, one_round_more, bounds, calibration);
criterion_main!(benches);
