//! Private gradient of a split model: its sensitive head alone.

use super::factors::{Sign, residuals};
use super::{Checked, clip_factor};
use crate::kernel::{Matrix, dot_wide};
use crate::model::head::Head;
use crate::model::{Model, ModelError, PairedBatch, Workspace};
use crate::real::Real;

impl Model {
    /// Losses and residuals of both views. The tower reads public features, which both views share, and runs once.
    pub(super) fn head_residuals<F: Real>(
        &self,
        params: &[F],
        batch: &PairedBatch<F>,
        checked: &Checked<'_, F>,
        workspace: &mut Workspace<F>,
    ) {
        // Taken out so that the pass may borrow the rest of the workspace.
        let mut tower = std::mem::take(&mut workspace.tower);
        self.tower_logits(params, checked.real, workspace, &mut tower);
        workspace.tower = tower;
        let Workspace { real_residuals, hybrid_residuals, d_hidden: logits, losses, tower, .. } = workspace;
        let labels = checked.labels;
        losses.clear();
        losses.resize(labels.len(), 0.0);
        logits.clone_from(tower);
        self.add_head(params, &batch.real, logits);
        residuals(logits, labels, Sign::Plus, real_residuals, losses);
        hybrid_residuals.clear();
        if checked.hybrid.is_some() {
            logits.clone_from(tower);
            self.add_head(params, &batch.hybrid, logits);
            residuals(logits, labels, Sign::Minus, hybrid_residuals, losses);
        }
    }
}

/// An error unless both views have the same public features.
pub(super) fn check_public_features<F: Real>(
    real: Matrix<'_, F>,
    hybrid: Matrix<'_, F>,
) -> Result<(), ModelError> {
    match real.values().iter().zip(hybrid.values()).position(|(real, hybrid)| real != hybrid) {
        Some(index) => Err(ModelError::PublicFeaturesDiffer { row: index / real.columns() }),
        None => Ok(()),
    }
}

/// Gradients of the head from residuals: `r onehot(x) + r_h onehot(x_hyb)`, where r_h carries its minus sign.
pub(super) struct HeadGradients<'a, F> {
    pub(super) head: &'a Head,
    pub(super) batch: &'a PairedBatch<F>,
    pub(super) workspace: &'a mut Workspace<F>,
}

impl<F: Real> HeadGradients<'_, F> {
    /// Norm of each unit's gradient.
    pub(super) fn norms(mut self, weights: usize) -> Vec<f64> {
        let mut norms = Vec::with_capacity(self.batch.units());
        self.walk(weights, |_, gradient| norms.push(dot_wide(gradient, gradient).sqrt()));
        norms
    }

    /// Clipped gradient of each unit.
    pub(super) fn each(mut self, weights: usize, clip_norm: f64, mut sink: impl FnMut(usize, &[F])) {
        self.walk(weights, |unit, gradient| {
            let norm = dot_wide(gradient, gradient).sqrt();
            match clip_factor::<F>(norm, clip_norm) {
                Some(factor) => gradient.iter_mut().for_each(|value| *value *= factor),
                None => gradient.fill(F::zero()),
            }
            sink(unit, gradient);
        });
    }

    /// Writes each unit's unclipped gradient into one buffer.
    pub(super) fn walk(&mut self, weights: usize, mut visit: impl FnMut(usize, &mut [F])) {
        let Workspace { unit: gradient, real_residuals, hybrid_residuals, .. } = &mut *self.workspace;
        gradient.resize(weights, F::zero());
        for (unit, rows) in self.batch.unit_offsets.windows(2).enumerate() {
            gradient.fill(F::zero());
            for (row, &residual) in (rows[0]..).zip(&real_residuals[rows[0]..rows[1]]) {
                self.head.scatter(self.batch.real.bins.row(row), residual, gradient);
                if let Some(&residual) = hybrid_residuals.get(row) {
                    self.head.scatter(self.batch.hybrid.bins.row(row), residual, gradient);
                }
            }
            visit(unit, gradient);
        }
    }
}
