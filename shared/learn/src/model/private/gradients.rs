//! One unit's clipped gradient, written out.

use std::ops::Range;

use super::Checked;
use super::factors::{Factor, Factors};
use crate::kernel::{Accumulate, Matrix, axpy, dot_wide, matmul};
use crate::model::scope::{Part, Source};
use crate::model::{Model, Workspace};
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
        for part in &self.parts {
            let target = &mut gradient[part.places()];
            if let Source::Norm(layer) = part.source {
                let factors = self.norm_factors(layer, batch, workspace);
                target.fill(F::zero());
                let (gain, shift) = target.split_at_mut(part.outputs);
                for one in factors.as_slice() {
                    add_elementwise(one.rows(&rows, part.outputs, part.outputs), gain, shift);
                }
                scale(factor, target);
                continue;
            }
            let factors = self.part_factors(part, batch, workspace);
            if rows.len() == 1 {
                write_record(part, &factors, rows.start, factor, target);
            } else {
                write_records(part, &factors, &rows, factor, target);
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
fn write_record<F: Real>(part: &Part, factors: &Factors<'_, F>, row: usize, factor: F, target: &mut [F]) {
    let (outputs, inputs) = (part.outputs, part.inputs);
    let (weight, bias) = target.split_at_mut(outputs * inputs);
    let rows = row..row + 1;
    match factors {
        Factors::Direct(direct) => {
            let direct = direct.rows(&rows, outputs, inputs);
            write_bias(factor, direct, bias);
            for (target, &left) in weight.chunks_exact_mut(inputs).zip(direct.left) {
                let left = factor * left;
                for (target, &right) in target.iter_mut().zip(direct.right) {
                    *target = left * right;
                }
            }
        }
        Factors::Paired(pair) => {
            let [difference, sum] = pair.map(|part| part.rows(&rows, outputs, inputs));
            write_bias(factor, sum, bias);
            let lefts = difference.left.iter().zip(sum.left);
            for (target, (&left, &left_sum)) in weight.chunks_exact_mut(inputs).zip(lefts) {
                let (left, left_sum) = (factor * left, factor * left_sum);
                for ((target, &d), &a) in target.iter_mut().zip(difference.right).zip(sum.right) {
                    *target = left * d + left_sum * a;
                }
            }
        }
    }
}

/// The bias gradient of one record, where there is a bias.
fn write_bias<F: Real>(scale: F, factor: Factor<'_, F>, bias: &mut [F]) {
    bias.iter_mut().zip(factor.left).for_each(|(bias, &left)| *bias = scale * left);
}

/// A linear layer's gradient of several records: matrix products over the unit's rows.
fn write_records<F: Real>(
    part: &Part,
    factors: &Factors<'_, F>,
    rows: &Range<usize>,
    factor: F,
    target: &mut [F],
) {
    let (outputs, inputs) = (part.outputs, part.inputs);
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
