//! Coefficients along directions against the gradients written out, and against derivatives of the loss.
#![allow(clippy::unwrap_used)]

mod engine_support;

use engine_support::*;
use fusiondp_learn::model::{
    Directions, InputShape, Model, ModelError, ModelSpec, PairedBatch, PrivateObjective, Workspace,
};
use fusiondp_learn::real::Real;

/// Random directions `[count, P']`.
fn directions<F: Real>(model: &Model, count: usize, seed: u64) -> Vec<F> {
    let mut values = Values::new(seed);
    (0..count * model.private_range().len()).map(|_| F::of(values.real())).collect()
}

/// Random orthonormal directions `[count, P']`.
fn orthonormal(model: &Model, count: usize, seed: u64) -> Vec<f64> {
    let length = model.private_range().len();
    let mut rows: Vec<Vec<f64>> = Vec::new();
    for row in directions::<f64>(model, count, seed).chunks(length) {
        let mut row = row.to_vec();
        for _ in 0..2 {
            for other in &rows {
                let along: f64 = row.iter().zip(other).map(|(a, b)| a * b).sum();
                row.iter_mut().zip(other).for_each(|(a, b)| *a -= along * b);
            }
        }
        let scale = 1.0 / norm(&row);
        rows.push(row.iter().map(|a| a * scale).collect());
    }
    rows.concat()
}

fn coefficients<F: Real>(
    model: &Model,
    params: &[F],
    batch: &PairedBatch<F>,
    objective: &PrivateObjective,
    directions: Directions<'_, F>,
    clip_norm: f64,
) -> Vec<Vec<F>> {
    let mut all = Vec::new();
    let sink = |unit: usize, found: &[F]| {
        assert_eq!(unit, all.len());
        all.push(found.to_vec());
    };
    let mut workspace = Workspace::default();
    model
        .private_coefficients(params, batch, objective, directions, clip_norm, &mut workspace, sink)
        .unwrap();
    all
}

#[test]
fn coefficients_are_inner_products_with_the_gradients() {
    for (name, model) in models() {
        for (kind, objective) in objectives() {
            let params: Vec<f64> = parameters(&model, 4);
            let batch = batch(&model, &[&[1; 130][..], &[3, 0, 2, 140, 1]].concat(), 9);
            let values = directions(&model, 3, 7);
            let along = Directions::new(&values, 3);
            let found = coefficients(&model, &params, &batch, &objective, along, UNCLIPPED);
            let written = gradients(&model, &params, &batch, &objective, UNCLIPPED);
            assert_eq!(found.len(), written.len());
            for (unit, (found, gradient)) in found.iter().zip(&written).enumerate() {
                for (value, direction) in found.iter().zip(values.chunks(gradient.len())) {
                    let expected: f64 = gradient.iter().zip(direction).map(|(a, b)| a * b).sum();
                    let error = (value - expected).abs() / norm(gradient).max(1.0);
                    assert!(error < 1e-11, "{name}, {kind}, unit {unit}: off by {error:e}");
                }
            }
        }
    }
}

#[test]
fn coefficients_are_derivatives_of_the_units_losses_along_the_directions() {
    for (name, model) in models() {
        for (kind, objective) in objectives() {
            let params: Vec<f64> = parameters(&model, 4);
            let batch = batch(&model, &[1, 3, 2], 8);
            let values = orthonormal(&model, 2, 7);
            let along = Directions::new(&values, 2);
            let found = coefficients(&model, &params, &batch, &objective, along, UNCLIPPED);
            for (index, direction) in values.chunks(model.private_range().len()).enumerate() {
                let losses = |step: f64| {
                    let mut moved = params.clone();
                    model.private_range().add(step, direction.iter().copied(), &mut moved);
                    model.private_losses(&moved, &batch, &objective, &mut Workspace::default()).unwrap()
                };
                let h = 2.5e-4;
                let (up, down, far_up, far_down) = (losses(h), losses(-h), losses(2.0 * h), losses(-2.0 * h));
                for (unit, found) in found.iter().enumerate() {
                    let slope = 8.0 * (up[unit] - down[unit]) - (far_up[unit] - far_down[unit]);
                    let error = (slope / (12.0 * h) - found[index]).abs() / found[index].abs().max(1.0);
                    assert!(error < 1e-9, "{name}, {kind}, unit {unit}: off by {error:e}");
                }
            }
        }
    }
}

#[test]
fn a_complete_basis_gives_the_clipped_gradient_back() {
    let tiny = InputShape { dense: 3, bins: vec![] };
    for spec in [ModelSpec::Linear {}, ModelSpec::mlp([3], true, 0.0)] {
        let model = Model::new(&spec, tiny.clone()).unwrap();
        let (params, length) = (parameters::<f64>(&model, 4), model.private_range().len());
        let (batch, basis) = (batch(&model, &[1, 2, 3, 1], 8), orthonormal(&model, length, 5));
        for (kind, objective) in objectives() {
            for clip_norm in [0.2, UNCLIPPED] {
                let along = Directions::new(&basis, length);
                let found = coefficients(&model, &params, &batch, &objective, along, clip_norm);
                let plain = gradients(&model, &params, &batch, &objective, clip_norm);
                for (found, plain) in found.iter().zip(&plain) {
                    let mut lifted = vec![0.0; length];
                    for (value, direction) in found.iter().zip(basis.chunks(length)) {
                        lifted.iter_mut().zip(direction).for_each(|(sum, v)| *sum += value * v);
                    }
                    let off = lifted.iter().zip(plain).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
                    assert!(off < 1e-12 * norm(plain).max(1.0), "{kind}: off by {off:e}");
                }
            }
        }
    }
}

#[test]
fn coefficients_are_clipped_whatever_the_directions_and_zero_for_equal_views() {
    for (name, model) in models() {
        for (kind, objective) in objectives() {
            let params: Vec<f32> = parameters(&model, 4);
            let mut batch = batch::<f32>(&model, &[1, 3, 0, 2], 9);
            let mut values: Vec<f32> = directions(&model, 4, 7);
            values.iter_mut().for_each(|value| *value *= 1e6);
            let run = |batch: &_, values: &[f32]| {
                coefficients(&model, &params, batch, &objective, Directions::new(values, 4), 0.5)
            };
            for found in run(&batch, &values) {
                assert!(norm(&found) <= 0.5 * (1.0 + 1e-6), "{name}, {kind}: {}", norm(&found));
            }
            values[1] = f32::NAN;
            assert!(run(&batch, &values).iter().flatten().all(|value| value.is_finite()), "{name}, {kind}");
            values[1] = 1.0;
            batch.hybrid = batch.real.clone();
            if objective != PrivateObjective::direct() {
                assert!(run(&batch, &values).iter().flatten().all(|&value| value == 0.0), "{name}, {kind}");
            }
        }
    }
}

#[test]
fn directions_of_another_length_are_refused() {
    let (_, model) = models().swap_remove(1);
    let (params, batch) = (parameters::<f64>(&model, 4), batch(&model, &[1], 8));
    let (values, objective) = (vec![0.0; model.private_range().len() + 1], PrivateObjective::direct());
    let along = Directions::new(&values, 1);
    let error = model
        .private_coefficients(&params, &batch, &objective, along, 1.0, &mut Workspace::default(), |_, _| {})
        .unwrap_err();
    assert!(matches!(error, ModelError::Length { what: "directions", .. }), "{error}");
}
