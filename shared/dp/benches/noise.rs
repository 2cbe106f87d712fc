//! The private step: noise, rounding to the grid, secret sampling, and the random bytes that they use.
//!
//! Everything is measured through the step as a site runs it; charging the ledger is left out of the time.

#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    convert::Infallible,
    hint::black_box,
    num::NonZeroU32,
    pin::pin,
    task::{Context, Poll, Waker},
};

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use fusiondp_dp::{
    ChargeRequest, ClipNorm, CommittedCharge, Digest, DpEvent, Ledger, LedgerEntry, LedgerStore,
    NoiseMultiplier, PrivateStep, Protection, Released, SamplingProbability, SecureRng, UpdateId,
};
use rand::Rng as _;

/// Private parameters of the authors' sepsis network, rounded up.
const DIMENSION: usize = 21_000;
/// Privacy units of their training set, rounded up, and the probability of a batch of 128.
const UNITS: (u64, f64) = (15_000, 128.0 / 14_293.0);

struct Nowhere;

impl LedgerStore for Nowhere {
    type Error = Infallible;

    async fn append(&mut self, _entries: &[LedgerEntry]) -> Result<(), Infallible> {
        Ok(())
    }
}

fn charge(noise_multiplier: f64, q: f64, units: u64) -> CommittedCharge {
    let request = ChargeRequest {
        time_ms: 1,
        data_set: Digest::of(b"data"),
        study: "bench".to_owned(),
        study_digest: Digest::of(b"study"),
        round: 1,
        local_step: 0,
        event: DpEvent::PoissonSampledGaussian {
            noise_multiplier: NoiseMultiplier::new(noise_multiplier).unwrap(),
            sampling_probability: SamplingProbability::new(q).unwrap(),
            steps: NonZeroU32::MIN,
        },
        clip_norm: ClipNorm::new(1.0).unwrap(),
        unit: "patient".to_owned(),
        units,
        model_digest: Digest::of(b"model"),
        update_id: UpdateId::from_bytes([1; 16]),
        released: Released::PrivateSum,
        protects: Protection::SensitiveValues,
    };
    let (mut ledger, mut store) = (Ledger::open(Vec::new()).unwrap(), Nowhere);
    let charged =
        pin!(ledger.charge(vec![request], &mut store)).poll(&mut Context::from_waker(Waker::noop()));
    match charged {
        Poll::Ready(charges) => charges.unwrap().remove(0),
        Poll::Pending => panic!("a store in memory answers at once"),
    }
}

fn rng() -> SecureRng {
    SecureRng::seeded_for_simulation(1, 1)
}

/// A step whose sample is empty.
fn empty_step(noise_multiplier: f64, dimension: usize) -> PrivateStep {
    PrivateStep::begin(charge(noise_multiplier, 1e-18, 1), 1, dimension, rng()).unwrap()
}

fn random_bytes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("chacha20");
    let (mut bytes, mut rng) = (vec![0_u8; 1 << 20], rng());
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function("fill", |bencher| bencher.iter(|| rng.fill_bytes(black_box(&mut bytes))));
    group.finish();
}

/// One element is one coordinate: drawn, and added to its sum.
fn noise(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("release");
    let settings = [(1.047, DIMENSION), (1.047, 1 << 20), (1.0 / 1024.0, 1 << 20), (4096.0, 1 << 20)];
    for (noise_multiplier, dimension) in settings {
        group.throughput(Throughput::Elements(dimension as u64));
        let id = BenchmarkId::new(format!("multiplier {noise_multiplier}"), dimension);
        group.bench_function(id, |bencher| {
            let setup = || empty_step(noise_multiplier, dimension);
            bencher.iter_batched(setup, |step| step.release().unwrap(), BatchSize::PerIteration);
        });
    }
    group.finish();
}

/// Opening a step: the sampler's tables alone, and with the sample of a whole site.
fn begin(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("begin");
    for noise_multiplier in [1.0 / 1024.0, 1.047, 4096.0] {
        group.bench_function(BenchmarkId::new("tables", noise_multiplier), |bencher| {
            let open = |charge| PrivateStep::begin(charge, 1, 1, rng()).unwrap();
            bencher.iter_batched(|| charge(noise_multiplier, 1e-18, 1), open, BatchSize::SmallInput);
        });
    }
    let (units, q) = UNITS;
    group.throughput(Throughput::Elements(units));
    group.bench_function(BenchmarkId::new("tables and sample", units), |bencher| {
        let open = |charge| PrivateStep::begin(charge, units as usize, 1, rng()).unwrap();
        bencher.iter_batched(|| charge(1.047, q, units), open, BatchSize::SmallInput);
    });
    group.finish();
}

/// Rounding gradients to the grid, checking their norms and adding them; one element is one coordinate of one unit.
fn rounding(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("add_unit");
    let gradient = vec![0.5 / (DIMENSION as f32).sqrt(); DIMENSION];
    let units = 128;
    group.throughput(Throughput::Elements(units * DIMENSION as u64));
    group.bench_function(BenchmarkId::new("128 units", DIMENSION), |bencher| {
        let setup = || PrivateStep::begin(charge(1.0, 1.0, units), units as usize, DIMENSION, rng()).unwrap();
        let add_all = |mut step: PrivateStep| {
            for _ in 0..units {
                step.add_unit(black_box(&gradient)).unwrap();
            }
            step
        };
        bencher.iter_batched(setup, add_all, BatchSize::SmallInput);
    });
    group.finish();
}

criterion_group!(benches, random_bytes, noise, begin, rounding);
criterion_main!(benches);
