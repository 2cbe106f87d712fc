//! Gradients of every model and mode against central differences of the loss, in double precision.
#![allow(clippy::unwrap_used)]

mod engine_support;

use engine_support::*;
use fusiondp_learn::model::{Model, PairedBatch, PrivateBlock, PrivateObjective, Workspace, cross_entropy};
use fusiondp_learn::network::DropoutSeed;

/// Central difference of fourth order of `loss` in one coordinate.
fn difference(params: &[f64], coordinate: usize, loss: impl Fn(&[f64]) -> f64) -> f64 {
    let h = 2.5e-4;
    let moved = |step: f64| {
        let mut params = params.to_vec();
        params[coordinate] += step;
        loss(&params)
    };
    (8.0 * (moved(h) - moved(-h)) - (moved(2.0 * h) - moved(-2.0 * h))) / (12.0 * h)
}

fn check_public(name: &str, model: &Model, dropout: Option<DropoutSeed>) {
    let rows = 300; // more than one block
    let (params, view, labels) = (parameters(model, 3), view(model, rows, 5), labels(rows, 5));
    let run = |params: &[f64], gradient: &mut [f64]| {
        let mut workspace = Workspace::default();
        model.public_gradient(params, &view, &labels, dropout, gradient, &mut workspace).unwrap()
    };
    let range = model.public_range();
    let mut gradient = vec![f64::NAN; range.len()];
    run(&params, &mut gradient);
    for coordinate in 0..model.parameters() {
        let numeric = difference(&params, coordinate, |params| run(params, &mut vec![0.0; range.len()]));
        // Coordinates without public gradient do not enter the public loss.
        let expected = gradient.get(coordinate).copied().unwrap_or(0.0);
        assert!((numeric - expected).abs() < 1e-9, "{name}, {coordinate}: {numeric} against {expected}");
    }
}

#[test]
fn public_gradient_is_the_derivative_of_the_public_loss() {
    for (name, model) in models() {
        check_public(name, &model, None);
    }
}

#[test]
fn public_gradient_under_a_fixed_dropout_mask_is_the_derivative_too() {
    for (name, model) in models() {
        check_public(name, &model, Some(DropoutSeed(17)));
    }
}

fn unit_losses(
    model: &Model,
    params: &[f64],
    batch: &PairedBatch<f64>,
    objective: &PrivateObjective,
) -> Vec<f64> {
    model.private_losses(params, batch, objective, &mut Workspace::default()).unwrap()
}

#[test]
fn private_gradients_are_derivatives_of_the_units_losses() {
    for (name, model) in models() {
        for (kind, objective) in objectives() {
            let params: Vec<f64> = parameters(&model, 4);
            let batch = batch(&model, &[1, 3, 1, 0, 2], 8);
            let found = gradients(&model, &params, &batch, &objective, UNCLIPPED);
            for (index, coordinate) in model.private_range().iter().enumerate() {
                for (unit, gradient) in found.iter().enumerate() {
                    let loss = |params: &[f64]| unit_losses(&model, params, &batch, &objective)[unit];
                    let numeric = difference(&params, coordinate, loss);
                    let error = (numeric - gradient[index]).abs() / gradient[index].abs().max(1.0);
                    assert!(error < 1e-9, "{name}, {kind}, unit {unit}, {coordinate}: off by {error:e}");
                }
            }
        }
    }
}

#[test]
fn the_clipped_representation_has_records_on_both_sides_of_its_clip() {
    let (_, model) = models().swap_remove(1);
    let (_, objective) = objectives().swap_remove(3);
    let (params, batch) = (parameters::<f64>(&model, 4), batch(&model, &[1; 40], 8));
    let mut workspace = Workspace::default();
    let real = model.hidden(&params, &batch.real, &mut workspace).unwrap();
    let hybrid = model.hidden(&params, &batch.hybrid, &mut workspace).unwrap();
    let distances = (&real - &hybrid).map_axis(ndarray::Axis(1), |d| d.dot(&d).sqrt());
    let beyond = distances.iter().filter(|&&d| d > objective.representation_scale).count();
    assert!((5..=35).contains(&beyond), "{beyond} of 40");
}

#[test]
fn norms_are_those_of_the_gradients() {
    for (name, model) in models() {
        for (kind, objective) in objectives() {
            let params: Vec<f64> = parameters(&model, 4);
            // The last unit is larger than a block of the Gram form.
            let batch = batch(&model, &[1, 3, 1, 0, 40, 300], 9);
            let norms = model.private_norms(&params, &batch, &objective, &mut Workspace::default()).unwrap();
            let found = gradients(&model, &params, &batch, &objective, UNCLIPPED);
            for (unit, gradient) in found.iter().enumerate() {
                let expected = norm(gradient);
                let error = (norms[unit] - expected).abs();
                assert!(error <= 1e-10 * expected.max(1.0), "{name}, {kind}, unit {unit}: off by {error:e}");
            }
        }
    }
}

#[test]
fn factors_multiply_out_to_the_gradients() {
    for (name, model) in models() {
        let blocks = model.private_blocks().into_iter().map(|block| match block {
            PrivateBlock::Linear { outputs, inputs } => outputs * (inputs + 1),
            PrivateBlock::Matrix { outputs, inputs } => outputs * inputs,
            PrivateBlock::Dense { length } => length,
        });
        assert_eq!(blocks.sum::<usize>(), model.private_range().len(), "{name}");
        for (kind, objective) in objectives() {
            let params: Vec<f64> = parameters(&model, 4);
            // More units than a group has, and one larger than a group.
            let sizes = [&[1; 150][..], &[3, 0, 2, 130, 1]].concat();
            let batch = batch(&model, &sizes, 9);
            for clip_norm in [0.3, UNCLIPPED] {
                let written = gradients(&model, &params, &batch, &objective, clip_norm);
                let found = multiplied_out(&model, &params, &batch, &objective, clip_norm);
                assert_eq!(found.len(), written.len(), "{name}, {kind}");
                for (unit, (a, b)) in found.iter().zip(&written).enumerate() {
                    for (a, b) in a.iter().zip(b) {
                        assert!((a - b).abs() <= 1e-12 * b.abs().max(1.0), "{name}, {kind}, unit {unit}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_units_gradient_is_the_sum_over_its_records() {
    for (name, model) in models() {
        for (kind, objective) in objectives() {
            let params = parameters(&model, 6);
            let units = batch::<f64>(&model, &[4, 1, 7], 10);
            let records = PairedBatch { unit_offsets: (0..=12).collect(), ..units.clone() };
            let by_unit = gradients(&model, &params, &units, &objective, UNCLIPPED);
            let by_record = gradients(&model, &params, &records, &objective, UNCLIPPED);
            for (unit, gradient) in by_unit.iter().enumerate() {
                for (coordinate, found) in gradient.iter().enumerate() {
                    let rows = units.unit_offsets[unit]..units.unit_offsets[unit + 1];
                    let expected: f64 = by_record[rows].iter().map(|g| g[coordinate]).sum();
                    assert!((found - expected).abs() < 1e-12, "{name}, {kind}, unit {unit}");
                }
            }
        }
    }
}

#[test]
fn a_record_of_a_split_model_has_the_norm_of_its_residual_and_weights() {
    let (_, model) = models().swap_remove(4);
    let params: Vec<f64> = parameters(&model, 2);
    let batch = batch(&model, &[1; 20], 3);
    let mut workspace = Workspace::default();
    let logits = model.logits(&params, &batch.real, &mut workspace).unwrap();
    let norms = model.private_norms(&params, &batch, &PrivateObjective::direct(), &mut workspace).unwrap();
    for ((norm, logit), label) in norms.iter().zip(&logits).zip(&batch.labels) {
        let residual = 1.0 / (1.0 + (-logit).exp()) - label;
        // Weights 1, 1/2 and 3/2.
        assert!((norm - residual.abs() * 3.5_f64.sqrt()).abs() < 1e-12);
    }
}

#[test]
fn input_gradients_are_derivatives_of_each_records_loss() {
    for (name, model) in models() {
        let rows = 5;
        let (params, start, labels) = (parameters(&model, 3), view(&model, rows, 5), labels(rows, 5));
        let mut workspace = Workspace::default();
        let gradient = model.input_gradient(&params, &start, &labels, &mut workspace).unwrap();
        for row in 0..rows {
            for column in 0..start.dense.ncols() {
                let value = start.dense[[row, column]];
                let loss = |at: &[f64]| {
                    let mut moved = start.clone();
                    moved.dense[[row, column]] = at[0];
                    let logits = model.logits(&params, &moved, &mut Workspace::default()).unwrap();
                    cross_entropy(logits[row], labels[row])
                };
                let (numeric, found) = (difference(&[value], 0, loss), gradient[[row, column]]);
                assert!((numeric - found).abs() < 1e-9, "{name}, {row} {column}: {numeric} against {found}");
            }
        }
    }
}
