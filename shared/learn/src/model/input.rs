//! Derivatives by the input: what an adversary of the trained model needs.

use ndarray::Array2;

use super::{Model, ModelError, View, Workspace, blocks, check_labels, loss};
use crate::kernel::{Accumulate, Matrix, matmul};
use crate::real::Real;

impl Model {
    /// Derivative of each record's cross-entropy by its dense input, `[N, D]`, without dropout.
    ///
    /// Bins of a sensitive head have no derivative; they enter through the logit.
    ///
    /// # Errors
    /// Parameters, a view or labels that do not fit the model.
    pub fn input_gradient<F: Real>(
        &self,
        params: &[F],
        view: &View<F>,
        labels: &[F],
        workspace: &mut Workspace<F>,
    ) -> Result<Array2<F>, ModelError> {
        let mut residuals = self.logits(params, view, workspace)?;
        check_labels(labels, view.rows())?;
        let dense = self.check_view("bins of the view", params, view)?;
        let share = F::of(1.0 / self.tower.members().len() as f64);
        for (residual, &label) in residuals.iter_mut().zip(labels) {
            *residual = loss::residual(*residual, label) * share;
        }
        let params = &self.effective(params)[..];
        let tower = self.tower_params(params);
        let width = self.shape.dense;
        let mut gradient = vec![F::zero(); view.rows() * width];
        let Workspace { weights, real: tape, .. } = workspace;
        for rows in blocks(view.rows()) {
            let target = &mut gradient[rows.start * width..rows.end * width];
            for member in self.tower.members() {
                self.tower.run(tower, weights, member, dense.slice(rows.clone()), None, tape);
                let (params, network) = (self.tower.params_of(tower, member), self.tower.network());
                network.propagate(params, &residuals[rows.clone()], None, tape);
                let first = &network.layers()[0];
                let upstream = Matrix::new(&tape.layers[0].delta, rows.len(), first.outputs);
                let weight = Matrix::new(&params[first.weight.clone()], first.outputs, first.inputs);
                matmul(upstream, weight, target, Accumulate::Add);
            }
        }
        // Unwrap safety: the buffer holds one row of this width per record.
        #[allow(clippy::unwrap_used)]
        let gradient = Array2::from_shape_vec((view.rows(), width), gradient).unwrap();
        Ok(gradient)
    }
}
