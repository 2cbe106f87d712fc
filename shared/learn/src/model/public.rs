//! The public gradient: mean over public records, hybrid view, no clipping, no noise.

use std::ops::Range;

use ndarray::{Array2, ArrayView2, Axis, Slice};

use super::{
    HeadGradient, Model, ModelError, ModelSpec, View, Workspace, blocks, check_labels, check_length, loss,
};
use crate::kernel::Matrix;
use crate::network::{Dropout, DropoutSeed};
use crate::real::Real;

impl Model {
    /// Mean loss of the hybrid view, and its gradient over [`Self::public_range`] in `gradient`, which is overwritten.
    ///
    /// The loss is the cross-entropy of the logit; for a `split` model whose head learns from the private gradient alone,
    /// of the tower's logit without the head; for a tower of several networks, the mean of the losses of each. With `dropout`, hidden units are dropped at the rate of the model. The
    /// mean of no records is 0 with gradient 0.
    ///
    /// # Errors
    /// Arguments that do not fit the model or each other, or a label that is neither 0 nor 1.
    pub fn public_gradient<F: Real>(
        &self,
        params: &[F],
        view: &View<F>,
        labels: &[F],
        dropout: Option<DropoutSeed>,
        gradient: &mut [F],
        workspace: &mut Workspace<F>,
    ) -> Result<f64, ModelError> {
        let share = BatchShare { first_row: 0, batch_rows: view.rows() };
        self.public_share(params, view, labels, share, dropout, gradient, workspace)
    }

    /// What some consecutive rows of a batch add to its mean loss, and to its gradient over [`Self::public_range`] in
    /// `gradient`, which is overwritten.
    ///
    /// `view` and `labels` hold these rows alone. The shares of a batch add up to [`Self::public_gradient`] up to rounding, and
    /// exactly so if they are always cut and added in the same way.
    ///
    /// # Errors
    /// As [`Self::public_gradient`].
    #[allow(clippy::too_many_arguments, reason = "the arguments of public_gradient and the share")]
    pub fn public_share<F: Real>(
        &self,
        params: &[F],
        view: &View<F>,
        labels: &[F],
        share: BatchShare,
        dropout: Option<DropoutSeed>,
        gradient: &mut [F],
        workspace: &mut Workspace<F>,
    ) -> Result<f64, ModelError> {
        let dense = self.check_view("bins of the view", params, view)?;
        check_labels(labels, view.rows())?;
        check_length("public gradient", self.public.len(), gradient.len())?;
        let dropout = match dropout {
            Some(seed) if self.dropout > 0.0 => Some(Dropout::new(self.dropout, seed)?),
            _ => None,
        };
        gradient.fill(F::zero());
        let mut total = 0.0;
        for rows in blocks(view.rows()) {
            let block = Block {
                dense: dense.slice(rows.clone()),
                bins: bins(&view.bins, rows.clone()),
                labels: &labels[rows.clone()],
                weight: F::of(1.0 / share.batch_rows as f64),
            };
            let dropout = dropout.map(|dropout| dropout.at_row(share.first_row + rows.start));
            total += self.add_block(params, &block, dropout, gradient, workspace);
        }
        Ok(if view.rows() == 0 { 0.0 } else { total / share.batch_rows as f64 })
    }

    /// Adds the weighted gradient of a block of rows; returns the sum of its losses.
    fn add_block<F: Real>(
        &self,
        params: &[F],
        block: &Block<'_, F>,
        dropout: Option<Dropout>,
        gradient: &mut [F],
        workspace: &mut Workspace<F>,
    ) -> f64 {
        let members = self.tower.members();
        let share = F::of(1.0 / members.len() as f64);
        members
            .map(|member| self.add_member(params, member, block, dropout, gradient, workspace, share))
            .sum()
    }

    /// What one network of the tower adds, at its share of the mean over all of them.
    #[allow(clippy::too_many_arguments, reason = "those of add_block, and which network")]
    fn add_member<F: Real>(
        &self,
        params: &[F],
        member: usize,
        block: &Block<'_, F>,
        dropout: Option<Dropout>,
        gradient: &mut [F],
        workspace: &mut Workspace<F>,
        share: F,
    ) -> f64 {
        let (tape, residuals) = (&mut workspace.real, &mut workspace.real_residuals);
        let tower = self.tower_params(params);
        self.tower.run_member(tower, member, block.dense, dropout, tape);
        residuals.clear();
        residuals.extend_from_slice(tape.output());
        let head = self.head.as_ref().filter(|_| self.head_takes_public_gradient());
        if let Some(head) = head {
            head.add_logits(&params[self.tower.parameters()..], block.bins, residuals);
        }
        let mut total = 0.0;
        for (value, &label) in residuals.iter_mut().zip(block.labels) {
            total += (loss::cross_entropy(*value, label) * share).wide();
            *value = loss::residual(*value, label) * (block.weight * share);
        }
        let (tower_gradient, head_gradient) = gradient.split_at_mut(self.tower.parameters());
        self.tower.add_gradient(tower, member, block.dense, residuals, tape, tower_gradient);
        if let Some(head) = head {
            for (indices, &residual) in block.bins.rows().into_iter().zip(&*residuals) {
                head.scatter(indices, residual, head_gradient);
            }
        }
        total
    }

    fn head_takes_public_gradient(&self) -> bool {
        matches!(self.spec, ModelSpec::Split { head_gradient: HeadGradient::HybridAndPrivate, .. })
    }
}

/// Which rows of a batch a share is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchShare {
    /// Place of the first row in the batch.
    pub first_row: usize,
    /// Rows of the whole batch.
    pub batch_rows: usize,
}

/// A run of rows of the batch.
struct Block<'a, F> {
    dense: Matrix<'a, F>,
    bins: ArrayView2<'a, u16>,
    labels: &'a [F],
    /// Weight of a record: one over the batch size.
    weight: F,
}

/// Bins of some rows; none for a model without a head, whose views need not have any.
fn bins(bins: &Array2<u16>, rows: Range<usize>) -> ArrayView2<'_, u16> {
    let last = bins.nrows();
    bins.slice_axis(Axis(0), Slice::from(rows.start.min(last)..rows.end.min(last)))
}
