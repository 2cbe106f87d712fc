#![allow(clippy::unwrap_used)]

//! Units of many records, from the engine through the mechanism. The sum before noise is the difference of two releases with
//! equal draws.

use std::convert::Infallible;
use std::num::NonZeroU32;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use fusiondp_dp::{
    ChargeRequest, ClipNorm, Digest, DpEvent, Ledger, LedgerEntry, LedgerStore, NoiseMultiplier, Protection,
    Released, SamplingProbability, UpdateId,
};
use fusiondp_learn::model::{InputShape, ModelSpec};
use ndarray::Array2;
use rand::{Rng as _, RngExt as _};

use super::*;

const CLIP_NORM: f64 = 0.5;
const STEPS_PER_CLIP_NORM: f64 = 268_435_456.0;

/// A ledger that keeps nothing.
struct Nowhere;

impl LedgerStore for Nowhere {
    type Error = Infallible;

    async fn append(&mut self, _: &[LedgerEntry]) -> Result<(), Infallible> {
        Ok(())
    }
}

fn charge() -> CommittedCharge {
    let request = ChargeRequest {
        time_ms: 1,
        data_set: Digest::of(b"data"),
        study: "study".to_owned(),
        study_digest: Digest::of(b"study"),
        round: 1,
        local_step: 0,
        event: DpEvent::PoissonSampledGaussian {
            noise_multiplier: NoiseMultiplier::new(0.01).unwrap(),
            sampling_probability: SamplingProbability::new(1.0).unwrap(),
            steps: NonZeroU32::MIN,
        },
        clip_norm: ClipNorm::new(CLIP_NORM).unwrap(),
        unit: "patient".to_owned(),
        units: 1,
        model_digest: Digest::of(b"model"),
        update_id: UpdateId::from_bytes([1; 16]),
        released: Released::PrivateSum,
        protects: Protection::SensitiveValues,
    };
    let mut ledger = Ledger::open(Vec::new()).unwrap();
    match pin!(ledger.charge(vec![request], &mut Nowhere)).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(charges) => charges.unwrap().remove(0),
        Poll::Pending => panic!("a store in memory answers at once"),
    }
}

/// A network with one hidden layer, its parameters, and what a release of nothing but noise is.
struct Network {
    model: Model,
    params: Vec<f32>,
    noise: Vec<i64>,
}

impl Network {
    fn new(inputs: usize, width: usize) -> Self {
        let shape = InputShape { dense: inputs, bins: Vec::new() };
        let model = Model::new(&ModelSpec::mlp([width], true, 0.0), shape).unwrap();
        let mut network = Self { params: model.initialise(1), noise: Vec::new(), model };
        let mut batch = network.unit(1, 0);
        batch.hybrid = batch.real.clone();
        network.noise = network.release(&batch, &PrivateObjective::default());
        network
    }

    /// One unit of random records whose views are independent.
    fn unit(&self, records: usize, seed: u64) -> PairedBatch<f32> {
        let mut random = SecureRng::seeded_for_simulation(seed, 0);
        let inputs = self.model.input_shape().dense;
        let mut view = || View {
            dense: Array2::from_shape_simple_fn((records, inputs), || random.random_range(-2.0..2.0_f32)),
            bins: Array2::zeros((records, 0)),
        };
        let (real, hybrid) = (view(), view());
        let labels = (0..records).map(|_| f32::from(random.random_bool(0.5))).collect();
        PairedBatch { real, hybrid, labels, unit_offsets: vec![0, records] }
    }

    fn release(&self, batch: &PairedBatch<f32>, objective: &PrivateObjective) -> Vec<i64> {
        let rng = SecureRng::seeded_for_simulation(1, 1);
        let mut step = PrivateStep::begin(charge(), 1, contribution_shape(&self.model), rng).unwrap();
        add_groups(&self.model, &self.params, batch, objective, &mut step, &mut Workspace::default())
            .unwrap();
        step.release().unwrap().values().to_vec()
    }

    /// What a unit adds to the sum, in grid steps.
    fn contribution(&self, batch: &PairedBatch<f32>, objective: &PrivateObjective) -> Vec<i64> {
        let release = self.release(batch, objective);
        release.iter().zip(&self.noise).map(|(value, noise)| value - noise).collect()
    }

    /// A unit's gradient in double precision, before clipping.
    fn gradient(&self, batch: &PairedBatch<f32>, objective: &PrivateObjective) -> Vec<f64> {
        let wide = |view: &View<f32>| View { dense: view.dense.mapv(f64::from), bins: view.bins.clone() };
        let batch = PairedBatch {
            real: wide(&batch.real),
            hybrid: wide(&batch.hybrid),
            labels: batch.labels.iter().map(|&label| f64::from(label)).collect(),
            unit_offsets: batch.unit_offsets.clone(),
        };
        let params: Vec<f64> = self.params.iter().map(|&value| f64::from(value)).collect();
        let mut gradient = Vec::new();
        let keep = |_: usize, unit: &[f64]| gradient.extend_from_slice(unit);
        self.model
            .private_gradients(&params, &batch, objective, 1e9, &mut Workspace::default(), keep)
            .unwrap();
        gradient
    }
}

#[test]
fn units_of_many_records_keep_their_influence() {
    for (inputs, width) in [(6, 6), (36, 128)] {
        let network = Network::new(inputs, width);
        for (name, objective) in
            [("direct", PrivateObjective::direct()), ("paired", PrivateObjective::default())]
        {
            for records in [1, 2, 5, 20, 60, 100, 200, 300, 600, 3000] {
                let (mut zero, mut least, mut most, mut cosine, mut below, mut cancel) =
                    (0, f64::MAX, 0.0_f64, 1.0_f64, 0, f64::MAX);
                let n = if records > 1000 { 8 } else { 80 };
                for seed in 0..n {
                    let batch = network.unit(records, seed);
                    let found = network.contribution(&batch, &objective);
                    assert!(found.iter().map(|&v| i128::from(v).pow(2)).sum::<i128>() <= 1 << 56);
                    let exact = network.gradient(&batch, &objective);
                    let norm = exact.iter().map(|v| v * v).sum::<f64>().sqrt();
                    cancel = cancel.min(norm / CLIP_NORM);
                    if found.iter().all(|&v| v == 0) {
                        zero += 1;
                        continue;
                    }
                    let length =
                        found.iter().map(|&v| (v as f64).powi(2)).sum::<f64>().sqrt() / STEPS_PER_CLIP_NORM;
                    let inner: f64 = found.iter().zip(&exact).map(|(&v, e)| v as f64 * e).sum::<f64>()
                        / STEPS_PER_CLIP_NORM;
                    cosine = cosine.min(inner / norm / length);
                    if norm < CLIP_NORM {
                        below += 1
                    }
                    let kept = length / (norm / CLIP_NORM).min(1.0);
                    least = least.min(kept);
                    most = most.max(kept);
                }
                println!(
                    "{inputs}-{width} {name} {records}: zero {zero}/{n}, kept {least:.5}..{most:.5}, 1-cosine {:.2e}, norm below C {below}, least norm {cancel:.1} C",
                    1.0 - cosine
                );
            }
        }
    }
}
