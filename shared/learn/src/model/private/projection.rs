//! Private gradients along a few given directions.
//!
//! The coefficient of an outer product along a direction V is `<V, left right^T> = <left^T V, right>`: one matrix product for
//! all rows of a group, and no vector of the model's size per unit.

use std::ops::Range;

use super::{Checked, clip_factor, head};
use crate::kernel::{Accumulate, Matrix, dot_wide, matmul};
use crate::model::scope::{Part, Source};
use crate::model::{Model, ModelError, PairedBatch, PrivateObjective, Workspace, check_length};
use crate::real::Real;

/// Directions `[k, P']` over the private coordinates, row by row.
#[derive(Debug, Clone, Copy)]
pub struct Directions<'a, F> {
    values: &'a [F],
    count: usize,
}

impl<'a, F> Directions<'a, F> {
    /// `count` directions that lie one behind the other. They should be orthonormal, so that coefficients are no longer than
    /// gradients; whatever they are, what is clipped and noised are the coefficients.
    pub fn new(values: &'a [F], count: usize) -> Self {
        Self { values, count }
    }

    /// Number of directions k.
    pub fn count(&self) -> usize {
        self.count
    }
}

impl Model {
    /// Hands each unit's coefficients along the directions, `[k]`, clipped to `clip_norm`, to `sink`, in batch order.
    ///
    /// The coefficients are those of the unit's unclipped gradient over [`Self::private_range`]; they are clipped as a
    /// vector, and are zero where their norm is not finite and, exactly, for a unit whose two views agree under
    /// [`PrivateLoss::Difference`](super::super::PrivateLoss). Dropout is off.
    ///
    /// # Errors
    /// A batch, an objective or directions that do not fit, or a clip norm that is not finite and positive; `sink` was not called.
    #[allow(clippy::too_many_arguments, reason = "the arguments of private_gradients and the directions")]
    pub fn private_coefficients<F: Real>(
        &self,
        params: &[F],
        batch: &PairedBatch<F>,
        objective: &PrivateObjective,
        directions: Directions<'_, F>,
        clip_norm: f64,
        workspace: &mut Workspace<F>,
        mut sink: impl FnMut(usize, &[F]),
    ) -> Result<(), ModelError> {
        let checked = self.check_clipping(params, batch, objective, clip_norm)?;
        let (count, length) = (directions.count, self.private.len());
        check_length("directions", count.saturating_mul(length), directions.values.len())?;
        let params = &self.effective(params)[..];
        let mut coefficients = vec![F::zero(); count];
        if let Some(head) = &self.head {
            self.head_residuals(params, batch, &checked, workspace);
            head::HeadGradients { head, batch, workspace }.walk(length, |unit, gradient| {
                for (value, direction) in coefficients.iter_mut().zip(directions.values.chunks_exact(length))
                {
                    *value = F::of(dot_wide(gradient, direction));
                }
                sink(unit, clipped(&mut coefficients, clip_norm));
            });
            return Ok(());
        }
        let offsets = &batch.unit_offsets;
        let mut rows = RowCoefficients::default();
        self.each_group(params, batch, &checked, workspace, |units, part, workspace| {
            rows.compute(self, part, directions, workspace);
            let start = offsets[units.start];
            for unit in units {
                let range = offsets[unit] - start..offsets[unit + 1] - start;
                rows.sum(range, &mut coefficients);
                sink(unit, clipped(&mut coefficients, clip_norm));
            }
        });
        Ok(())
    }
}

/// Scales coefficients into the ball; zero where their norm is not finite.
fn clipped<F: Real>(coefficients: &mut [F], clip_norm: f64) -> &[F] {
    let norm = dot_wide(coefficients, coefficients).sqrt();
    match clip_factor::<F>(norm, clip_norm) {
        Some(factor) => coefficients.iter_mut().for_each(|value| *value *= factor),
        None => coefficients.fill(F::zero()),
    }
    coefficients
}

/// Coefficients of every row of a group, `[rows, k]`, in double precision, as terms of a unit may cancel.
struct RowCoefficients<F> {
    values: Vec<f64>,
    count: usize,
    /// `left^T V` of each row, `[rows, inputs]`.
    product: Vec<F>,
}

impl<F> Default for RowCoefficients<F> {
    fn default() -> Self {
        Self { values: Vec::new(), count: 0, product: Vec::new() }
    }
}

impl<F: Real> RowCoefficients<F> {
    fn compute(
        &mut self,
        model: &Model,
        batch: &Checked<'_, F>,
        directions: Directions<'_, F>,
        workspace: &Workspace<F>,
    ) {
        self.count = directions.count;
        self.values.clear();
        self.values.resize(batch.labels.len() * self.count, 0.0);
        let length = model.private.len();
        for (index, direction) in directions.values.chunks_exact(length).enumerate() {
            for part in &model.parts {
                let along = &direction[part.places()];
                match part.source {
                    Source::Norm(layer) => {
                        let factors = model.norm_factors(layer, batch, workspace);
                        factors.as_slice().iter().for_each(|factor| {
                            self.add_elementwise(index, part.outputs, (factor.left, factor.right), along);
                        });
                        let shift = &along[part.outputs..];
                        self.add_constant(index, factors.as_slice().last(), shift);
                    }
                    _ => {
                        let factors = model.part_factors(part, batch, workspace);
                        for factor in factors.as_slice() {
                            self.add_products(index, part, (factor.left, factor.right), along);
                        }
                        let bias = &along[part.outputs * part.inputs..];
                        self.add_constant(index, factors.as_slice().last(), bias);
                    }
                }
            }
        }
    }

    /// Adds `<left_t^T V, right_t>` to each row's coefficient.
    fn add_products(&mut self, index: usize, part: &Part, (left, right): (&[F], &[F]), along: &[F]) {
        let (outputs, inputs) = (part.outputs, part.inputs);
        let rows = left.len() / outputs;
        self.product.resize(rows * inputs, F::zero());
        let along = Matrix::new(along, outputs, inputs);
        matmul(Matrix::new(left, rows, outputs), along, &mut self.product, Accumulate::Replace);
        let pairs = self.product.chunks_exact(inputs).zip(right.chunks_exact(inputs));
        for (value, (product, right)) in self.values.iter_mut().skip(index).step_by(self.count).zip(pairs) {
            *value += dot_wide(product, right);
        }
    }

    /// Adds `<left_t * right_t, V>` to each row's coefficient.
    fn add_elementwise(&mut self, index: usize, width: usize, (left, right): (&[F], &[F]), along: &[F]) {
        let pairs = left.chunks_exact(width).zip(right.chunks_exact(width));
        for (value, (left, right)) in self.values.iter_mut().skip(index).step_by(self.count).zip(pairs) {
            let terms = left.iter().zip(right).zip(along);
            *value += terms.map(|((&l, &r), &v)| l.wide() * r.wide() * v.wide()).sum::<f64>();
        }
    }

    /// Adds `<left_t, V>` to each row's coefficient, where the factor has a bias to add to.
    fn add_constant(&mut self, index: usize, factor: Option<&super::Factor<'_, F>>, along: &[F]) {
        let Some(factor) = factor.filter(|factor| factor.constant && !along.is_empty()) else { return };
        let rows = factor.left.chunks_exact(along.len());
        for (value, left) in self.values.iter_mut().skip(index).step_by(self.count).zip(rows) {
            *value += dot_wide(left, along);
        }
    }

    /// The sum over some rows.
    fn sum(&self, rows: Range<usize>, into: &mut [F]) {
        for (index, value) in into.iter_mut().enumerate() {
            let terms = self.values[rows.start * self.count..rows.end * self.count].iter();
            *value = F::of(terms.skip(index).step_by(self.count).sum());
        }
    }
}
