//! Milliseconds per training step of the gradient engine, one thread, `f32`.
//!
//! The setting is the 36-64-128-64-1 network with LayerNorm and GELU, 4,096 public records and 128 privacy units of one record
//! in both views, with the consistency term. Run with `cargo run --release -p fusiondp-learn --example step_time`.

use std::time::Instant;

use fusiondp_learn::model::{
    InputShape, Model, ModelError, ModelSpec, PairedBatch, PrivateObjective, View, Workspace,
};
use fusiondp_learn::network::DropoutSeed;
use ndarray::Array2;

const PUBLIC: usize = 4_096;
const UNITS: usize = 128;
const INPUTS: usize = 36;
const REPEATS: usize = 200;

fn main() -> Result<(), ModelError> {
    let spec = ModelSpec::Mlp { widths: vec![64, 128, 64], layer_norm: true, dropout: 0.1 };
    let model = Model::new(&spec, InputShape { dense: INPUTS, bins: Vec::new() })?;
    let params: Vec<f32> = model.initialise(1);
    let mut workspace = Workspace::default();

    let public = view(PUBLIC, 0.3);
    let labels = labels(PUBLIC);
    let mut gradient = vec![0.0; model.parameters()];
    for (name, dropout) in [("public, no dropout", None), ("public, dropout", Some(DropoutSeed(7)))] {
        time(name, || {
            model.public_gradient(&params, &public, &labels, dropout, &mut gradient, &mut workspace).map(drop)
        })?;
    }

    let batch = PairedBatch::of_single_records(view(UNITS, 0.3), view(UNITS, 0.5), labels[..UNITS].to_vec());
    let objective = PrivateObjective {
        consistency_weight: 0.5,
        representation_scale: 0.9,
        ..PrivateObjective::default()
    };
    time("private norms", || model.private_norms(&params, &batch, &objective, &mut workspace).map(drop))?;
    let mut sum = vec![0.0_f32; model.parameters()];
    time("private gradients", || {
        model.private_gradients(&params, &batch, &objective, 1.8, &mut workspace, |_, unit| {
            sum.iter_mut().zip(unit).for_each(|(sum, g)| *sum += g);
        })
    })
}

/// Prints the shortest of repeated runs, which other load on the machine disturbs least.
fn time(name: &str, mut step: impl FnMut() -> Result<(), ModelError>) -> Result<(), ModelError> {
    let mut shortest = f64::INFINITY;
    for _ in 0..REPEATS {
        let start = Instant::now();
        step()?;
        shortest = shortest.min(start.elapsed().as_secs_f64() * 1e3);
    }
    println!("{name:20} {shortest:7.3} ms");
    Ok(())
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
