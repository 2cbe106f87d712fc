//! One unit's clipped gradient, written out.

use std::ops::Range;

use super::Checked;
use super::factors::{Factor, Factors};
use crate::kernel::{Accumulate, Matrix, axpy, dot_wide, matmul};
use crate::model::{Model, Workspace};
use crate::network::Layer;
use crate::real::Real;

impl Model {
    /// Writes `factor` times the gradient of the unit with these rows to the workspace's unit buffer.
    pub(super) fn write_unit<F: Real>(
        &self,
        batch: &Checked<'_, F>,
        rows: Range<usize>,
        factor: F,
        workspace: &mut Workspace<F>,
    ) {
        let mut gradient = std::mem::take(&mut workspace.unit);
        for (index, layer) in self.tower.layers().iter().enumerate() {
            let factors = self.linear_factors(index, batch, workspace);
            if rows.len() == 1 {
                write_record(layer, &factors, rows.start, factor, &mut gradient);
            } else {
                write_records(layer, &factors, &rows, factor, &mut gradient);
            }
            if let Some(norm) = &layer.norm {
                let factors = self.norm_factors(index, batch, workspace);
                let (gain, shift) = gradient[norm.gain.start..norm.shift.end].split_at_mut(layer.outputs);
                gain.fill(F::zero());
                shift.fill(F::zero());
                for part in factors.as_slice() {
                    add_elementwise(part.rows(&rows, layer.outputs, layer.outputs), gain, shift);
                }
                scale(factor, gain);
                scale(factor, shift);
            }
        }
        workspace.unit = gradient;
    }
}

/// Scales a gradient that is longer than `clip_norm` back to it.
///
/// Products over the rows of a unit cancel, and what single precision loses then differs between the Gram form of the norm
/// and the gradient as written.
pub(super) fn shrink_into_ball<F: Real>(gradient: &mut [F], clip_norm: f64) {
    let norm = dot_wide(gradient, gradient).sqrt();
    if norm > clip_norm {
        scale(F::of(clip_norm / norm), gradient);
    }
}

/// A linear layer's gradient of one record: outer products that carry the clip factor in their left side.
fn write_record<F: Real>(layer: &Layer, factors: &Factors<'_, F>, row: usize, factor: F, gradient: &mut [F]) {
    let (outputs, inputs) = (layer.outputs, layer.inputs);
    let (weight, bias) = gradient[layer.weight.start..layer.bias.end].split_at_mut(outputs * inputs);
    let rows = row..row + 1;
    match factors {
        Factors::Direct(direct) => {
            let direct = direct.rows(&rows, outputs, inputs);
            for ((target, bias), &left) in weight.chunks_exact_mut(inputs).zip(bias).zip(direct.left) {
                let left = factor * left;
                *bias = left;
                for (target, &right) in target.iter_mut().zip(direct.right) {
                    *target = left * right;
                }
            }
        }
        Factors::Paired(pair) => {
            let [difference, sum] = pair.map(|part| part.rows(&rows, outputs, inputs));
            let lefts = difference.left.iter().zip(sum.left);
            for ((target, bias), (&left, &left_sum)) in weight.chunks_exact_mut(inputs).zip(bias).zip(lefts) {
                let (left, left_sum) = (factor * left, factor * left_sum);
                *bias = left_sum;
                for ((target, &d), &a) in target.iter_mut().zip(difference.right).zip(sum.right) {
                    *target = left * d + left_sum * a;
                }
            }
        }
    }
}

/// A linear layer's gradient of several records: matrix products over the unit's rows.
fn write_records<F: Real>(
    layer: &Layer,
    factors: &Factors<'_, F>,
    rows: &Range<usize>,
    factor: F,
    gradient: &mut [F],
) {
    let (outputs, inputs) = (layer.outputs, layer.inputs);
    let target = &mut gradient[layer.weight.start..layer.bias.end];
    target.fill(F::zero());
    let (weight, bias) = target.split_at_mut(outputs * inputs);
    for part in factors.as_slice() {
        let part = part.rows(rows, outputs, inputs);
        let left = Matrix::new(part.left, rows.len(), outputs).t();
        matmul(left, Matrix::new(part.right, rows.len(), inputs), weight, Accumulate::Add);
        if part.constant {
            part.left.chunks_exact(outputs).for_each(|left| axpy(F::one(), left, bias));
        }
    }
    scale(factor, target);
}

/// Adds `sum_t left_t * right_t` to `gain` and, where the factor is constant, `sum_t left_t` to `shift`.
#[inline(always)]
pub(super) fn add_elementwise<F: Real>(factor: Factor<'_, F>, gain: &mut [F], shift: &mut [F]) {
    let width = gain.len();
    for (left, right) in factor.left.chunks_exact(width).zip(factor.right.chunks_exact(width)) {
        for ((gain, &left), &right) in gain.iter_mut().zip(left).zip(right) {
            *gain += left * right;
        }
        if factor.constant {
            axpy(F::one(), left, shift);
        }
    }
}

fn scale<F: Real>(factor: F, values: &mut [F]) {
    values.iter_mut().for_each(|value| *value *= factor);
}
