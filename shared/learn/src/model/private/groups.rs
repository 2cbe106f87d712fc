//! Contributions of groups of units in factored form, with the factor that clips each.

use pulp::{Arch, Simd, WithSimd};

use super::factors::Factor;
use super::norms::{root, squared, wide_squares};
use super::{Checked, clip_factor, head};
use crate::model::{Model, ModelError, PairedBatch, PrivateObjective, Workspace};
use crate::real::Real;

/// A run of coordinates of [`Model::private_range`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PrivateBlock {
    /// A linear layer: weight `[outputs, inputs]`, then bias `[outputs]`; units contribute outer products.
    Linear {
        /// Output width.
        outputs: usize,
        /// Input width.
        inputs: usize,
    },
    /// Coordinates that are written out for each unit: gains and shifts of a LayerNorm, or a sensitive head.
    Dense {
        /// Number of coordinates.
        length: usize,
    },
}

/// Gradients of consecutive whole units, in factored form and before clipping.
///
/// Has no `Debug`: the values derive from patients' values.
pub struct FactorGroup<'a, F> {
    model: &'a Model,
    batch: &'a Checked<'a, F>,
    offsets: &'a [usize],
    workspace: &'a Workspace<F>,
}

impl<F: Real> FactorGroup<'_, F> {
    /// Rows of unit u are `offsets[u]..offsets[u + 1]`; U + 1 values, the first 0.
    pub fn offsets(&self) -> &[usize] {
        self.offsets
    }

    /// `min(1, clip_norm / norm)` per unit, `[U]`; 0 for a unit whose norm is not finite.
    pub fn clip_factors(&self) -> &[F] {
        &self.workspace.clip_factors
    }

    /// Gradients over the dense blocks, unit by unit, `[U, dense]`.
    pub fn dense(&self) -> &[F] {
        &self.workspace.dense
    }

    /// Factors per linear block: 1 for the direct loss, 2 for the difference loss.
    pub fn factors_per_block(&self) -> usize {
        if self.batch.hybrid.is_some() { 2 } else { 1 }
    }

    /// Factors of all linear blocks, block after block.
    pub fn factors(&self) -> impl Iterator<Item = Factor<'_, F>> {
        let layers = if self.model.head.is_some() { 0 } else { self.model.tower.layers().len() };
        (0..layers).flat_map(move |layer| {
            let factors = self.model.linear_factors(layer, self.batch, self.workspace);
            (0..factors.as_slice().len()).map(move |index| factors.as_slice()[index])
        })
    }
}

impl Model {
    /// What the coordinates of [`Self::private_range`] are, in order.
    pub fn private_blocks(&self) -> Vec<PrivateBlock> {
        if self.head.is_some() {
            return vec![PrivateBlock::Dense { length: self.private.len() }];
        }
        let mut blocks = Vec::new();
        for layer in self.tower.layers() {
            blocks.push(PrivateBlock::Linear { outputs: layer.outputs, inputs: layer.inputs });
            if layer.norm.is_some() {
                blocks.push(PrivateBlock::Dense { length: 2 * layer.outputs });
            }
        }
        blocks
    }

    /// Hands the units' gradients over [`Self::private_range`] to `sink` in groups, factored, in batch order.
    ///
    /// A unit's clipped gradient is its clip factor times the sum of its outer products and its dense part; it is the one
    /// that [`Self::private_gradients`] writes out. Dropout is off.
    ///
    /// # Errors
    /// A batch or an objective that does not fit, or a clip norm that is not finite and positive; `sink` was not called.
    pub fn private_factors<F: Real>(
        &self,
        params: &[F],
        batch: &PairedBatch<F>,
        objective: &PrivateObjective,
        clip_norm: f64,
        workspace: &mut Workspace<F>,
        mut sink: impl FnMut(&FactorGroup<'_, F>),
    ) -> Result<(), ModelError> {
        let checked = self.check_clipping(params, batch, objective, clip_norm)?;
        if self.head.is_some() {
            self.head_residuals(params, batch, &checked, workspace);
            self.clip_head(batch, clip_norm, workspace);
            sink(&FactorGroup { model: self, batch: &checked, offsets: &batch.unit_offsets, workspace });
            return Ok(());
        }
        let mut offsets = Vec::new();
        self.each_group(params, batch, &checked, workspace, |units, part, workspace| {
            let start = batch.unit_offsets[units.start];
            offsets.clear();
            offsets.extend(batch.unit_offsets[units.start..=units.end].iter().map(|offset| offset - start));
            let model = self;
            Arch::new().dispatch(Clip { model, part, offsets: &offsets, clip_norm, workspace });
            sink(&FactorGroup { model: self, batch: part, offsets: &offsets, workspace });
        });
        Ok(())
    }

    /// Leaves in the workspace the head's gradients and the clip factors of all units.
    fn clip_head<F: Real>(&self, batch: &PairedBatch<F>, clip_norm: f64, workspace: &mut Workspace<F>) {
        let Some(head) = &self.head else { return };
        // Taken out so that the gradients may borrow the rest of the workspace.
        let mut dense = std::mem::take(&mut workspace.dense);
        let mut factors = std::mem::take(&mut workspace.clip_factors);
        dense.clear();
        factors.clear();
        head::HeadGradients { head, batch, workspace }.walk(self.private.len(), |_, gradient| {
            factors.push(clip_factor(wide_squares(gradient).sqrt(), clip_norm).unwrap_or(F::zero()));
            dense.extend_from_slice(gradient);
        });
        (workspace.dense, workspace.clip_factors) = (dense, factors);
    }
}

/// Leaves in the workspace the dense parts and the clip factors of the units of a group.
struct Clip<'a, F> {
    model: &'a Model,
    part: &'a Checked<'a, F>,
    offsets: &'a [usize],
    clip_norm: f64,
    workspace: &'a mut Workspace<F>,
}

impl<F: Real> WithSimd for Clip<'_, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { model, part, offsets, clip_norm, workspace } = self;
        let mut dense = std::mem::take(&mut workspace.dense);
        dense.clear();
        workspace.clip_factors.clear();
        for rows in offsets.windows(2).map(|rows| rows[0]..rows[1]) {
            let start = dense.len();
            model.extend_norm_gradients(part, rows.clone(), workspace, &mut dense);
            let squares = model.linear_squares(simd, part, rows, workspace) + squared(simd, &dense[start..]);
            workspace.clip_factors.push(clip_factor(root(squares), clip_norm).unwrap_or(F::zero()));
        }
        workspace.dense = dense;
    }
}
