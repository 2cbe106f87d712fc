//! The private gradient: one clipped gradient per privacy unit, never a `[B, P]` matrix.
//!
//! A unit's gradient of a linear map is a sum of outer products `sum_t left_t (x) right_t`. With the direct loss there is one
//! product per record, the output derivative b and the input a. With the difference loss there are two per record, and
//!
//! ```text
//! b_r a_r^T + b_h a_h^T  =  b_r (a_r - a_h)^T + (b_r + b_h) a_h^T
//! ```
//!
//! (r: real view, h: hybrid view, b_h with its minus sign). The right-hand form is the one used: both of its products
//! are exactly zero where the views agree, whatever the order of additions and however products are fused, and it does not
//! lose digits where the views are close. LayerNorm's gain has the same form with elementwise products.
//!
//! | file | what |
//! |---|---|
//! | `factors` | both passes, down to left and right factors per layer |
//! | `norms` | ghost norms from the factors (Gram form for units of several records) |
//! | `groups` | factors and clip factors of groups of units, which the private sum is made of |
//! | `gradients` | one unit's clipped gradient written out at a time, to check the above by |
//! | `projection` | units' coefficients along given directions, from the factors |
//! | `head` | the sensitive head of a split model, where gradients are written out for their norms too |

mod factors;
mod gradients;
mod groups;
mod head;
mod norms;
mod projection;

use std::ops::Range;

use super::{Model, ModelError, PairedBatch, PrivateLoss, PrivateObjective, Workspace};
use super::{check_labels, check_length};
use crate::kernel::Matrix;
use crate::real::Real;

pub use factors::Factor;
pub use groups::{FactorGroup, PrivateBlock};
pub use projection::Directions;

impl Model {
    /// Norm of each unit's gradient over [`Self::private_range`], before clipping; one per unit, in batch order.
    ///
    /// Never writes a gradient out: for records with layer input a and output derivative b,
    /// `||g||^2 = sum_{t,t'} <a_t, a_t'> <b_t, b_t'>` over the unit's rows in both views (Goodfellow 2015,
    /// arXiv 1510.01799, extended to pairs). Inner products are summed in `f64`.
    ///
    /// # Errors
    /// A batch or an objective that does not fit.
    pub fn private_norms<F: Real>(
        &self,
        params: &[F],
        batch: &PairedBatch<F>,
        objective: &PrivateObjective,
        workspace: &mut Workspace<F>,
    ) -> Result<Vec<f64>, ModelError> {
        let checked = self.check_private(params, batch, objective)?;
        let params = &self.effective(params)[..];
        if let Some(head) = &self.head {
            self.head_residuals(params, batch, &checked, workspace);
            let private = head::HeadGradients { head, batch, workspace };
            return Ok(private.norms(self.private.len()));
        }
        let mut norms = Vec::with_capacity(batch.units());
        self.each_unit(params, batch, &checked, workspace, |_, part, rows, workspace| {
            norms.push(self.unit_norm(part, rows, workspace));
        });
        Ok(norms)
    }

    /// Hands each unit's gradient over [`Self::private_range`], clipped to `clip_norm`, to `sink`, in batch order.
    ///
    /// `sink` receives the unit's index in the batch and its gradient times `min(1, clip_norm / norm)`, in one buffer
    /// that is used again for the next unit. A unit whose norm is not finite gives the zero vector, and so does, exactly, a
    /// unit whose two views agree under [`PrivateLoss::Difference`]. Dropout is off.
    ///
    /// # Errors
    /// A batch or an objective that does not fit, or a clip norm that is not finite and positive; `sink` was not called.
    pub fn private_gradients<F: Real>(
        &self,
        params: &[F],
        batch: &PairedBatch<F>,
        objective: &PrivateObjective,
        clip_norm: f64,
        workspace: &mut Workspace<F>,
        mut sink: impl FnMut(usize, &[F]),
    ) -> Result<(), ModelError> {
        let checked = self.check_clipping(params, batch, objective, clip_norm)?;
        let params = &self.effective(params)[..];
        if let Some(head) = &self.head {
            self.head_residuals(params, batch, &checked, workspace);
            head::HeadGradients { head, batch, workspace }.each(self.private.len(), clip_norm, sink);
            return Ok(());
        }
        workspace.unit.resize(self.private.len(), F::zero());
        self.each_unit(params, batch, &checked, workspace, |unit, part, rows, workspace| {
            let norm = self.unit_norm(part, rows.clone(), workspace);
            match clip_factor(norm, clip_norm) {
                Some(factor) => {
                    let records = rows.len();
                    self.write_unit(part, rows, factor, workspace);
                    if records > 1 {
                        gradients::shrink_into_ball(&mut workspace.unit, clip_norm);
                    }
                }
                None => workspace.unit.fill(F::zero()),
            }
            sink(unit, &workspace.unit);
        });
        Ok(())
    }

    /// Private loss of each unit, the function that [`Self::private_gradients`] differentiates; in batch order.
    ///
    /// # Errors
    /// A batch or an objective that does not fit.
    pub fn private_losses<F: Real>(
        &self,
        params: &[F],
        batch: &PairedBatch<F>,
        objective: &PrivateObjective,
        workspace: &mut Workspace<F>,
    ) -> Result<Vec<f64>, ModelError> {
        let checked = self.check_private(params, batch, objective)?;
        let params = &self.effective(params)[..];
        if self.head.is_some() {
            self.head_residuals(params, batch, &checked, workspace);
            let losses = &workspace.losses;
            return Ok(batch
                .unit_offsets
                .windows(2)
                .map(|rows| losses[rows[0]..rows[1]].iter().sum())
                .collect());
        }
        let mut losses = Vec::with_capacity(batch.units());
        self.each_unit(params, batch, &checked, workspace, |_, _, rows, workspace| {
            losses.push(workspace.losses[rows].iter().sum());
        });
        Ok(losses)
    }

    /// Visits each unit with its group and its rows therein.
    fn each_unit<F: Real>(
        &self,
        params: &[F],
        batch: &PairedBatch<F>,
        checked: &Checked<'_, F>,
        workspace: &mut Workspace<F>,
        mut visit: impl FnMut(usize, &Checked<'_, F>, Range<usize>, &mut Workspace<F>),
    ) {
        let offsets = &batch.unit_offsets;
        self.each_group(params, batch, checked, workspace, |units, part, workspace| {
            let start = offsets[units.start];
            for unit in units {
                visit(unit, part, offsets[unit] - start..offsets[unit + 1] - start, workspace);
            }
        });
    }

    /// Runs both passes over groups of whole units and visits each group with its units and its rows.
    ///
    /// Groups keep the activations in the second-level cache. They do not show in the result: a unit's values depend on its
    /// own rows alone.
    fn each_group<F: Real>(
        &self,
        params: &[F],
        batch: &PairedBatch<F>,
        checked: &Checked<'_, F>,
        workspace: &mut Workspace<F>,
        mut visit: impl FnMut(Range<usize>, &Checked<'_, F>, &mut Workspace<F>),
    ) {
        let offsets = &batch.unit_offsets;
        self.tower.load(params, &mut workspace.weights);
        let mut first = 0;
        while first < batch.units() {
            let start = offsets[first];
            let fitting = offsets[first + 1..].partition_point(|&end| end - start <= GROUP);
            let last = first + fitting.max(1);
            let part = checked.rows(start..offsets[last]);
            self.factors(params, &part, workspace);
            visit(first..last, &part, workspace);
            first = last;
        }
    }

    fn check_clipping<'a, F: Real>(
        &self,
        params: &[F],
        batch: &'a PairedBatch<F>,
        objective: &'a PrivateObjective,
        clip_norm: f64,
    ) -> Result<Checked<'a, F>, ModelError> {
        if !(clip_norm > 0.0 && clip_norm.is_finite()) {
            return Err(ModelError::ClipNorm { value: clip_norm });
        }
        self.check_private(params, batch, objective)
    }

    fn check_private<'a, F: Real>(
        &self,
        params: &[F],
        batch: &'a PairedBatch<F>,
        objective: &'a PrivateObjective,
    ) -> Result<Checked<'a, F>, ModelError> {
        objective.validate()?;
        let real = self.check_view("bins of the real view", params, &batch.real)?;
        check_labels(&batch.labels, real.rows())?;
        batch.check_offsets()?;
        let labels = &batch.labels[..];
        if objective.loss == PrivateLoss::Direct {
            return Ok(Checked { objective, labels, real, hybrid: None });
        }
        check_length("hybrid view", real.rows(), batch.hybrid.rows())?;
        let hybrid = self.check_view("bins of the hybrid view", params, &batch.hybrid)?;
        if self.head.is_some() {
            head::check_public_features(real, hybrid)?;
        }
        Ok(Checked { objective, labels, real, hybrid: Some(hybrid) })
    }
}

/// Rows of a group of units; a larger unit is its own group.
const GROUP: usize = 128;

/// Records and an objective that fit the model.
struct Checked<'a, F> {
    objective: &'a PrivateObjective,
    labels: &'a [F],
    /// Dense input of the real view.
    real: Matrix<'a, F>,
    /// Dense input of the hybrid view; `None` under [`PrivateLoss::Direct`], which does not read it.
    hybrid: Option<Matrix<'a, F>>,
}

impl<'a, F> Checked<'a, F> {
    fn rows(&self, rows: Range<usize>) -> Self {
        Self {
            objective: self.objective,
            labels: &self.labels[rows.clone()],
            real: self.real.slice(rows.clone()),
            hybrid: self.hybrid.as_ref().map(|hybrid| hybrid.slice(rows)),
        }
    }
}

/// `min(1, clip_norm / norm)`; `None` where the norm is not finite, or so large that the factor is no normal number.
fn clip_factor<F: Real>(norm: f64, clip_norm: f64) -> Option<F> {
    let factor = F::of(if norm > clip_norm { clip_norm / norm } else { 1.0 });
    (norm.is_finite() && factor.is_normal()).then_some(factor)
}
