//! The private sum of the 36-64-128-64-1 network, without noise: gradients, clipping, proof and sum. One thread, `f32`.
#![allow(clippy::unwrap_used, missing_docs)]

use std::convert::Infallible;
use std::num::NonZeroU32;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use fusiondp_dp::{
    ChargeRequest, ClipNorm, CommittedCharge, Digest, DpEvent, Ledger, LedgerEntry, LedgerStore,
    NoiseMultiplier, PrivateStep, Protection, Released, SamplingProbability, SecureRng, UpdateId,
};
use fusiondp_learn::model::{InputShape, Model, ModelSpec, PairedBatch, PrivateObjective, View, Workspace};
use fusiondp_learn::network::DropoutSeed;
use fusiondp_site_agent::train::private_step::{add_groups, contribution_shape};
use ndarray::Array2;

const INPUTS: usize = 36;
const CLIP_NORM: f64 = 1.8;

struct Memory;

impl LedgerStore for Memory {
    type Error = Infallible;

    async fn append(&mut self, _entries: &[LedgerEntry]) -> Result<(), Infallible> {
        Ok(())
    }
}

fn charge(units: usize) -> CommittedCharge {
    let request = ChargeRequest {
        time_ms: 1,
        data_set: Digest::of(b"data"),
        study: "study".to_owned(),
        study_digest: Digest::of(b"study"),
        round: 1,
        local_step: 0,
        event: DpEvent::PoissonSampledGaussian {
            noise_multiplier: NoiseMultiplier::new(1.0).unwrap(),
            sampling_probability: SamplingProbability::new(1.0).unwrap(),
            steps: NonZeroU32::MIN,
        },
        clip_norm: ClipNorm::new(CLIP_NORM).unwrap(),
        unit: "patient".to_owned(),
        units: units as u64,
        model_digest: Digest::of(b"model"),
        update_id: UpdateId::from_bytes([1; 16]),
        released: Released::PrivateSum,
        protects: Protection::SensitiveValues,
    };
    let mut ledger = Ledger::open(Vec::new()).unwrap();
    match pin!(ledger.charge(vec![request], &mut Memory)).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(charges) => charges.unwrap().remove(0),
        Poll::Pending => panic!("a store in memory answers at once"),
    }
}

fn model() -> Model {
    let spec = ModelSpec::mlp([64, 128, 64], true, 0.1);
    Model::new(&spec, InputShape { dense: INPUTS, bins: Vec::new() }).unwrap()
}

fn view(rows: usize, phase: f32) -> View<f32> {
    let value = |(r, c): (usize, usize)| ((r * 37 + c * 11) as f32 * 0.618 + phase).sin();
    View {
        dense: Array2::from_shape_fn((rows, INPUTS), value),
        bins: Array2::from_shape_fn((rows, 0), |_| 0),
    }
}

fn labels(rows: usize) -> Vec<f32> {
    (0..rows).map(|r| f32::from(r % 3 == 0)).collect()
}

fn private_sums(c: &mut Criterion) {
    let model = model();
    let params: Vec<f32> = model.initialise(1);
    let mut group = c.benchmark_group("private sum, no noise");
    let paired = PrivateObjective {
        consistency_weight: 0.5,
        representation_scale: 0.9,
        ..PrivateObjective::default()
    };
    for (name, objective) in [("dp-sgd", PrivateObjective::direct()), ("fusiondp", paired)] {
        for units in [128, 4_096] {
            let batch = PairedBatch::of_single_records(view(units, 0.3), view(units, 0.5), labels(units));
            group.throughput(Throughput::Elements(units as u64));
            let mut workspace = Workspace::default();
            let rng = SecureRng::seeded_for_simulation(1, 1);
            let begin =
                |rng| PrivateStep::begin(charge(units), units, contribution_shape(&model), rng).unwrap();
            let mut step = begin(rng);
            group.bench_function(format!("{name}, {units} units"), |b| {
                b.iter_custom(|iterations| {
                    let mut elapsed = Duration::ZERO;
                    for _ in 0..iterations {
                        step = begin(SecureRng::seeded_for_simulation(1, 1));
                        let start = std::time::Instant::now();
                        add_groups(&model, &params, &batch, &objective, &mut step, &mut workspace).unwrap();
                        elapsed += start.elapsed();
                    }
                    elapsed
                });
            });
        }
    }
    group.finish();
}

fn public_gradient(c: &mut Criterion) {
    let model = model();
    let params: Vec<f32> = model.initialise(1);
    let mut workspace = Workspace::default();
    let (view, labels) = (view(4_096, 0.3), labels(4_096));
    let mut gradient = vec![0.0; model.parameters()];
    let mut group = c.benchmark_group("public gradient, 4096 records");
    for (name, dropout) in [("no dropout", None), ("dropout", Some(DropoutSeed(7)))] {
        group.bench_function(name, |b| {
            b.iter(|| {
                model
                    .public_gradient(&params, &view, &labels, dropout, &mut gradient, &mut workspace)
                    .unwrap()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, public_gradient, private_sums);
criterion_main!(benches);
