//! The gradient engine on the 36-64-128-64-1 network with LayerNorm and GELU, one thread, `f32`.
//!
//! Run with `cargo bench -p fusiondp-learn`. Matrix products are counted as two operations per multiplication and addition, so
//! their throughput reads as operations per second.
#![allow(clippy::unwrap_used, missing_docs)]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use fusiondp_learn::model::{InputShape, Model, ModelSpec, PairedBatch, PrivateObjective, View, Workspace};
use fusiondp_learn::network::{DropoutSeed, Mlp, Normalization, Tape};
use ndarray::Array2;

const PUBLIC: usize = 4_096;
const INPUTS: usize = 36;
const WIDTHS: [usize; 3] = [64, 128, 64];

fn model() -> Model {
    let spec = ModelSpec::mlp(WIDTHS, true, 0.1);
    Model::new(&spec, InputShape { dense: INPUTS, bins: Vec::new() }).unwrap()
}

fn matrix(rows: usize, columns: usize, phase: f32) -> Array2<f32> {
    Array2::from_shape_fn((rows, columns), |(r, c)| ((r * 37 + c * 11) as f32 * 0.618 + phase).sin())
}

fn view(rows: usize, phase: f32) -> View<f32> {
    View { dense: matrix(rows, INPUTS, phase), bins: Array2::from_shape_fn((rows, 0), |_| 0) }
}

fn labels(rows: usize) -> Vec<f32> {
    (0..rows).map(|r| f32::from(r % 3 == 0)).collect()
}

/// Operations of the matrix products of one public gradient: forward, gradient of every weight, and derivative of every
/// layer's input but the first's.
fn operations(rows: usize) -> u64 {
    let widths = [&[INPUTS][..], &WIDTHS, &[1]].concat();
    let products: Vec<usize> = widths.windows(2).map(|pair| pair[0] * pair[1]).collect();
    let all: usize = products.iter().sum();
    (2 * rows * (3 * all - products[0])) as u64
}

fn public_gradient(c: &mut Criterion) {
    let (model, mut workspace) = (model(), Workspace::default());
    let params: Vec<f32> = model.initialise(1);
    let (view, labels) = (view(PUBLIC, 0.3), labels(PUBLIC));
    let mut gradient = vec![0.0; model.parameters()];
    let mut group = c.benchmark_group("public gradient, 4096 records");
    group.throughput(Throughput::Elements(operations(PUBLIC)));
    for (name, dropout) in [("without dropout", None), ("with dropout", Some(DropoutSeed(7)))] {
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

fn private_factors(c: &mut Criterion) {
    let (model, mut workspace) = (model(), Workspace::default());
    let params: Vec<f32> = model.initialise(1);
    let paired = PrivateObjective {
        consistency_weight: 0.5,
        representation_scale: 0.9,
        ..PrivateObjective::default()
    };
    let mut group = c.benchmark_group("private factors");
    for (name, objective) in [("dp-sgd", PrivateObjective::direct()), ("fusiondp", paired)] {
        for units in [128, PUBLIC] {
            let batch = PairedBatch::of_single_records(view(units, 0.3), view(units, 0.5), labels(units));
            group.throughput(Throughput::Elements(units as u64));
            group.bench_function(format!("{name}, {units} units"), |b| {
                b.iter(|| {
                    let workspace = &mut workspace;
                    model.private_factors(&params, &batch, &objective, 1.8, workspace, |_| ()).unwrap();
                });
            });
        }
    }
    group.finish();
}

/// Linear maps: a product forward, and backward that of the weight's gradient.
fn products(c: &mut Criterion) {
    let mut group = c.benchmark_group("matrix products, 4096 rows");
    for (inputs, outputs) in [(36, 64), (64, 128), (128, 64), (512, 512)] {
        let map = Mlp::new(inputs, &[], outputs, Normalization::None).unwrap();
        let mut params = vec![0.0_f32; map.parameters()];
        map.initialise(1, &mut params);
        let (input, d_output) = (matrix(PUBLIC, inputs, 0.3), matrix(PUBLIC, outputs, 0.7));
        let (mut tape, mut gradient) = (Tape::default(), vec![0.0; map.parameters()]);
        group.throughput(Throughput::Elements((2 * PUBLIC * inputs * outputs) as u64));
        group.bench_function(format!("forward {inputs} to {outputs}"), |b| {
            b.iter(|| map.forward(&params, input.view(), None, &mut tape).map(|_| ()).unwrap());
        });
        group.bench_function(format!("weight gradient {inputs} to {outputs}"), |b| {
            b.iter(|| {
                map.backward(&params, input.view(), d_output.view(), &mut tape, &mut gradient).unwrap();
            });
        });
    }
    group.finish();
}

/// A hidden layer of one input, whose cost is that of its elementwise part.
fn elementwise(c: &mut Criterion) {
    let mut group = c.benchmark_group("hidden units, forward");
    group.throughput(Throughput::Elements((PUBLIC * 128) as u64));
    let input = matrix(PUBLIC, 1, 0.3);
    for (name, normalization) in [("GELU", Normalization::None), ("LayerNorm and GELU", Normalization::Layer)]
    {
        let network = Mlp::new(1, &[128], 1, normalization).unwrap();
        let mut params = vec![0.0_f32; network.parameters()];
        network.initialise(1, &mut params);
        let mut tape = Tape::default();
        group.bench_function(name, |b| {
            b.iter(|| network.forward(&params, input.view(), None, &mut tape).map(|_| ()).unwrap());
        });
    }
    group.finish();
}

criterion_group!(benches, public_gradient, private_factors, products, elementwise);
criterion_main!(benches);
