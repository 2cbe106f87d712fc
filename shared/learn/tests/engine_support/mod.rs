//! Models and batches for the engine's tests.
#![allow(dead_code, clippy::unwrap_used)]

use std::collections::BTreeMap;

use fusiondp_learn::model::{
    AdapterSpec, FactorGroup, HeadFeature, HeadGradient, InputShape, Model, ModelSpec, PairedBatch,
    PrivateBlock, PrivateLoss, PrivateObjective, PrivateScope, View, Workspace,
};
use fusiondp_learn::real::Real;
use ndarray::Array2;

/// Deterministic values: a 64-bit linear congruential generator, high bits.
pub(crate) struct Values(u64);

impl Values {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1234_5678)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    /// Uniform on [-1, 1).
    pub(crate) fn real(&mut self) -> f64 {
        self.next() as f64 / 2.0_f64.powi(30) - 1.0
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.next() as usize % bound
    }
}

/// A model of every kind and mode.
pub(crate) fn models() -> Vec<(&'static str, Model)> {
    let mlp = |widths: &[usize], layer_norm, dropout| ModelSpec::mlp(widths, layer_norm, dropout);
    let scoped = |layers: Option<&[&str]>, rank: Option<usize>| ModelSpec::Mlp {
        widths: vec![7, 6],
        layer_norm: true,
        dropout: 0.4,
        private: PrivateScope {
            layers: layers.map(|layers| layers.iter().map(|&name| name.into()).collect()),
            adapters: rank.map(|rank| AdapterSpec { rank, scale: 0.5 }),
        },
    };
    let split = |members, head_gradient| ModelSpec::Split {
        widths: vec![6, 5],
        layer_norm: true,
        dropout: 0.3,
        members,
        head_gradient,
        head: BTreeMap::new(),
    };
    // Unlike weights, so that each formula has to carry them.
    let binned = [(3, 1.0), (2, 0.5), (4, 1.5)];
    let binned = binned.map(|(bins, weight)| HeadFeature { weight, ..HeadFeature::new(bins) }).to_vec();
    let dense = InputShape { dense: 5, bins: vec![] };
    let binned = InputShape { dense: 5, bins: binned };
    [
        ("linear", ModelSpec::Linear {}, &dense),
        ("mlp", mlp(&[7, 6], true, 0.4), &dense),
        ("mlp without LayerNorm", mlp(&[7, 6], false, 0.4), &dense),
        ("mlp of one hidden layer", mlp(&[4], true, 0.0), &dense),
        ("split, private head", split(1, HeadGradient::PrivateOnly), &binned),
        ("split, hybrid and private head", split(1, HeadGradient::HybridAndPrivate), &binned),
        ("split of three, private head", split(3, HeadGradient::PrivateOnly), &binned),
        ("split of three, hybrid and private head", split(3, HeadGradient::HybridAndPrivate), &binned),
        ("mlp with private layers", scoped(Some(&["L.0", "N.1", "L.2"]), None), &dense),
        ("mlp with adapters", scoped(None, Some(2)), &dense),
        ("mlp with an adapter and private layers", scoped(Some(&["L.2", "N.0", "L.1"]), Some(3)), &dense),
    ]
    .map(|(name, spec, shape)| (name, Model::new(&spec, shape.clone()).unwrap()))
    .into()
}

/// Objectives of every form that matters.
pub(crate) fn objectives() -> Vec<(&'static str, PrivateObjective)> {
    let difference = |consistency_weight, representation_scale, representation_clip| PrivateObjective {
        loss: PrivateLoss::Difference,
        consistency_weight,
        representation_scale,
        representation_clip,
    };
    vec![
        ("direct", PrivateObjective::direct()),
        ("difference", difference(0.0, 1.0, false)),
        ("difference, consistency", difference(0.7, 0.9, false)),
        // Random views are about 1 apart: some records lie beyond the clip and some within.
        ("difference, clipped consistency", difference(0.7, 1.1, true)),
    ]
}

/// Parameters away from the special values of the initialization.
pub(crate) fn parameters<F: Real>(model: &Model, seed: u64) -> Vec<F> {
    let mut values = Values::new(seed);
    let initial: Vec<f64> = model.initialise(seed);
    initial.into_iter().map(|p| F::of(p + 0.4 * values.real())).collect()
}

/// A view of random records.
pub(crate) fn view<F: Real>(model: &Model, rows: usize, seed: u64) -> View<F> {
    let (mut values, shape) = (Values::new(seed), model.input_shape());
    View {
        dense: Array2::from_shape_fn((rows, shape.dense), |_| F::of(2.0 * values.real())),
        bins: Array2::from_shape_fn((rows, shape.bins.len()), |(_, j)| {
            values.below(shape.bins[j].bins) as u16
        }),
    }
}

pub(crate) fn labels<F: Real>(rows: usize, seed: u64) -> Vec<F> {
    let mut values = Values::new(seed ^ 0xabc);
    (0..rows).map(|_| F::of(values.below(2) as f64)).collect()
}

/// A batch of units of these sizes; the public features of a split model are the same in both views.
pub(crate) fn batch<F: Real>(model: &Model, sizes: &[usize], seed: u64) -> PairedBatch<F> {
    let mut unit_offsets = vec![0];
    for size in sizes {
        unit_offsets.push(unit_offsets.last().unwrap() + size);
    }
    let rows = *unit_offsets.last().unwrap();
    let real = view(model, rows, seed);
    let mut hybrid = view(model, rows, seed + 1);
    if !model.input_shape().bins.is_empty() {
        hybrid.dense = real.dense.clone();
    }
    PairedBatch { real, hybrid, labels: labels(rows, seed), unit_offsets }
}

/// The units of a batch at these positions, as a batch.
pub(crate) fn pick<F: Real>(model: &Model, batch: &PairedBatch<F>, units: &[usize]) -> PairedBatch<F> {
    let mut picked = PairedBatch::empty(model.input_shape());
    let mut rows = Vec::new();
    for &unit in units {
        rows.extend(batch.unit_offsets[unit]..batch.unit_offsets[unit + 1]);
        picked.unit_offsets.push(rows.len());
    }
    batch.real.select(&rows, &mut picked.real);
    batch.hybrid.select(&rows, &mut picked.hybrid);
    picked.labels = rows.iter().map(|&row| batch.labels[row]).collect();
    picked
}

/// Every unit's clipped gradient.
pub(crate) fn gradients<F: Real>(
    model: &Model,
    params: &[F],
    batch: &PairedBatch<F>,
    objective: &PrivateObjective,
    clip_norm: f64,
) -> Vec<Vec<F>> {
    let mut all = Vec::new();
    let mut workspace = Workspace::default();
    let sink = |unit: usize, gradient: &[F]| {
        assert_eq!(unit, all.len());
        all.push(gradient.to_vec());
    };
    model.private_gradients(params, batch, objective, clip_norm, &mut workspace, sink).unwrap();
    all
}

pub(crate) fn norm<F: Real>(gradient: &[F]) -> f64 {
    gradient.iter().map(|g| g.wide() * g.wide()).sum::<f64>().sqrt()
}

/// Every unit's clipped gradient, multiplied out from its factors.
pub(crate) fn multiplied_out<F: Real>(
    model: &Model,
    params: &[F],
    batch: &PairedBatch<F>,
    objective: &PrivateObjective,
    clip_norm: f64,
) -> Vec<Vec<F>> {
    let mut all = Vec::new();
    let mut workspace = Workspace::default();
    let sink = |group: &FactorGroup<'_, F>| {
        for unit in 0..group.clip_factors().len() {
            all.push(unit_of(model, group, unit));
        }
    };
    model.private_factors(params, batch, objective, clip_norm, &mut workspace, sink).unwrap();
    all
}

fn unit_of<F: Real>(model: &Model, group: &FactorGroup<'_, F>, unit: usize) -> Vec<F> {
    let mut gradient = Vec::new();
    let (mut factors, mut dense) = (group.factors(), 0);
    let width = group.dense().len() / group.clip_factors().len();
    for block in model.private_blocks() {
        match block {
            PrivateBlock::Dense { length } => {
                gradient.extend_from_slice(&group.dense()[unit * width + dense..][..length]);
                dense += length;
            }
            PrivateBlock::Linear { outputs, inputs } | PrivateBlock::Matrix { outputs, inputs } => {
                let bias = usize::from(matches!(block, PrivateBlock::Linear { .. }));
                let mut sum = vec![F::zero(); outputs * (inputs + bias)];
                for factor in factors.by_ref().take(group.factors_per_block()) {
                    for row in group.offsets()[unit]..group.offsets()[unit + 1] {
                        for i in 0..outputs {
                            let left = factor.left[row * outputs + i];
                            for j in 0..inputs {
                                sum[i * inputs + j] += left * factor.right[row * inputs + j];
                            }
                            if factor.constant {
                                sum[outputs * inputs + i] += left;
                            }
                        }
                    }
                }
                gradient.extend(sum);
            }
        }
    }
    gradient.iter().map(|&g| g * group.clip_factors()[unit]).collect()
}

/// A clip norm that clips nothing.
pub(crate) const UNCLIPPED: f64 = 1e12;
