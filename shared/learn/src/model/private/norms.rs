//! Ghost norms.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};

use super::Checked;
use super::factors::{Factor, Factors};
use super::gradients::add_elementwise;
use crate::kernel::{Accumulate, Matrix, dot, dot_wide, matmul, transpose};
use crate::model::{Grams, Model, Workspace};
use crate::real::Real;

impl Model {
    /// Norm of the gradient of the unit with these rows.
    pub(super) fn unit_norm<F: Real>(
        &self,
        batch: &Checked<'_, F>,
        rows: Range<usize>,
        workspace: &mut Workspace<F>,
    ) -> f64 {
        let mut scratch = std::mem::take(&mut workspace.unit_norms);
        scratch.clear();
        self.extend_norm_gradients(batch, rows.clone(), workspace, &mut scratch);
        let squares = Arch::new().dispatch(Squares { model: self, batch, rows, dense: &scratch, workspace });
        workspace.unit_norms = scratch;
        root(squares)
    }

    /// Squared norm of the part of a unit's gradient that belongs to linear layers.
    #[inline(always)]
    pub(super) fn linear_squares<F: Real, S: Simd>(
        &self,
        simd: S,
        batch: &Checked<'_, F>,
        rows: Range<usize>,
        workspace: &mut Workspace<F>,
    ) -> f64 {
        // Taken out so that factors may borrow the rest of the workspace.
        let mut grams = std::mem::take(&mut workspace.grams);
        let mut total = 0.0;
        for (index, layer) in self.tower.layers().iter().enumerate() {
            let (outputs, inputs) = (layer.outputs, layer.inputs);
            let factors = self.linear_factors(index, batch, workspace);
            total += match factors {
                _ if rows.len() != 1 => gram_norm(&factors, &rows, (outputs, inputs), &mut grams),
                Factors::Direct(factor) => direct_norm(simd, factor.rows(&rows, outputs, inputs)),
                Factors::Paired(pair) => paired_norm(pair.map(|factor| factor.rows(&rows, outputs, inputs))),
            };
        }
        workspace.grams = grams;
        total
    }

    /// Appends a unit's gradient of each layer's gain, `sum_t left_t * right_t`, and shift, `sum_t left_t`.
    #[inline(always)]
    pub(super) fn extend_norm_gradients<F: Real>(
        &self,
        batch: &Checked<'_, F>,
        rows: Range<usize>,
        workspace: &Workspace<F>,
        into: &mut Vec<F>,
    ) {
        for (index, layer) in self.tower.layers().iter().enumerate().filter(|(_, layer)| layer.norm.is_some())
        {
            let (start, width) = (into.len(), layer.outputs);
            into.resize(start + 2 * width, F::zero());
            let (gain, shift) = into[start..].split_at_mut(width);
            for factor in self.norm_factors(index, batch, workspace).as_slice() {
                add_elementwise(factor.rows(&rows, width, width), gain, shift);
            }
        }
    }
}

/// Square root of a sum of squares. A tiny negative sum can only be rounding of a zero gradient; `max` would turn NaN into 0.
#[inline(always)]
pub(super) fn root(squares: f64) -> f64 {
    if squares < 0.0 { 0.0 } else { squares.sqrt() }
}

/// Squared norm of the gradient of a unit, given its gains and shifts.
struct Squares<'a, 'b, F> {
    model: &'a Model,
    batch: &'a Checked<'b, F>,
    rows: Range<usize>,
    dense: &'a [F],
    workspace: &'a mut Workspace<F>,
}

impl<F: Real> WithSimd for Squares<'_, '_, F> {
    type Output = f64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f64 {
        let Self { model, batch, rows, dense, workspace } = self;
        model.linear_squares(simd, batch, rows, workspace) + squared(simd, dense)
    }
}

/// `|b|^2 (|a|^2 + 1)` of one record.
#[inline(always)]
fn direct_norm<F: Real, S: Simd>(simd: S, factor: Factor<'_, F>) -> f64 {
    squared(simd, factor.left) * (squared(simd, factor.right) + 1.0)
}

/// Squared norm of `b_r (a_r - a_h)^T + s a_h^T` and of the bias gradient `s` of one record, with `s = b_r + b_h`.
#[inline(always)]
fn paired_norm<F: Real>([difference, sum]: [Factor<'_, F>; 2]) -> f64 {
    let own = wide_squares(difference.left) * wide_squares(difference.right)
        + wide_squares(sum.left) * (wide_squares(sum.right) + 1.0);
    own + 2.0 * dot_wide(difference.left, sum.left) * dot_wide(difference.right, sum.right)
}

/// Squared norm of a unit of several records: `sum_{t,t'} <left_t, left_t'> <right_t, right_t'>` over rows and factors.
///
/// Inner products come from matrix products of at most [`BLOCK`] rows, so memory does not grow with the unit.
fn gram_norm<F: Real>(
    factors: &Factors<'_, F>,
    rows: &Range<usize>,
    (outputs, inputs): (usize, usize),
    grams: &mut Grams<F>,
) -> f64 {
    let factors = factors.as_slice();
    let mut total = 0.0;
    for (i, first) in factors.iter().enumerate() {
        for second in &factors[i..] {
            // Pairs of unlike factors occur in both orders.
            let weight = if std::ptr::eq(first, second) { 1.0 } else { 2.0 };
            for a in blocks(rows) {
                for b in blocks(rows) {
                    let (a, b) = (first.rows(&a, outputs, inputs), second.rows(&b, outputs, inputs));
                    total += weight * gram_product(a, b, (outputs, inputs), grams);
                }
            }
        }
    }
    total
}

/// Rows of a Gram block.
const BLOCK: usize = 256;

fn blocks(rows: &Range<usize>) -> impl Iterator<Item = Range<usize>> + use<> {
    let end = rows.end;
    rows.clone().step_by(BLOCK).map(move |start| start..end.min(start + BLOCK))
}

/// `sum_{t,t'} <a.left_t, b.left_t'> (<a.right_t, b.right_t'> + 1 if both are constant)`.
fn gram_product<F: Real>(
    a: Factor<'_, F>,
    b: Factor<'_, F>,
    (outputs, inputs): (usize, usize),
    grams: &mut Grams<F>,
) -> f64 {
    let (m, n) = (a.left.len() / outputs, b.left.len() / outputs);
    gram(a.left, b.left, outputs, &mut grams.transposed, &mut grams.left);
    gram(a.right, b.right, inputs, &mut grams.transposed, &mut grams.right);
    let constant = if a.constant && b.constant { 1.0 } else { 0.0 };
    let products = grams.left[..m * n].iter().zip(&grams.right[..m * n]);
    products.map(|(left, right)| left.wide() * (right.wide() + constant)).sum()
}

fn gram<F: Real>(a: &[F], b: &[F], width: usize, transposed: &mut Vec<F>, into: &mut Vec<F>) {
    let (m, n) = (a.len() / width, b.len() / width);
    into.resize(m * n, F::zero());
    transpose(b, n, width, transposed);
    matmul(Matrix::new(a, m, width), Matrix::new(transposed, width, n), into, Accumulate::Replace);
}

/// Sum of squares, in the type's own precision: nothing cancels.
#[inline(always)]
pub(super) fn squared<F: Real, S: Simd>(simd: S, values: &[F]) -> f64 {
    dot(simd, values, values).wide()
}

/// Sum of squares in double precision, for sums whose terms may cancel.
#[inline(always)]
pub(super) fn wide_squares<F: Real>(values: &[F]) -> f64 {
    dot_wide(values, values)
}
