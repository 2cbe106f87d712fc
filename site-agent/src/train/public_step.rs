//! The public part: mean gradient of the hybrid view over a public batch, without clipping and noise.

use fusiondp_learn::model::{View, Workspace};
use fusiondp_learn::network::DropoutSeed;
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::index;

use super::{Session, TrainError};
use crate::policy::PublicPermit;

/// Mean gradient over a public batch. Depends on public features, imputed values and labels; leaves the site only as
/// [`PublicValues`].
pub struct PublicGradient {
    values: Vec<f32>,
    loss: f64,
}

/// What the site's policy permits to leave without noise of its own: a public gradient, or the difference that local
/// steps made of public gradients and of private sums that were noised before.
///
/// Nothing but what is permitted becomes one:
///
/// ```compile_fail
/// let values = fusiondp_site_agent::train::public_step::PublicValues { values: vec![0.0], loss: 0.0 };
/// ```
pub struct PublicValues {
    values: Vec<f32>,
    loss: f64,
}

/// Buffers of the public part.
pub struct PublicScratch {
    batch: View<f32>,
    labels: Vec<f32>,
    workspace: Workspace<f32>,
}

impl PublicScratch {
    /// Empty buffers for a session's model.
    pub fn new(session: &Session) -> Self {
        let batch = View::empty(session.model().input_shape());
        Self { batch, labels: Vec::new(), workspace: Workspace::default() }
    }
}

impl PublicGradient {
    /// Draws `batch` records uniformly without replacement and computes their mean gradient over the model's public
    /// coordinates, `[P_pub]`, with dropout.
    ///
    /// # Errors
    /// The study has no public part, the model refuses, or the gradient is not finite.
    pub fn compute(
        session: &Session,
        params: &[f32],
        batch: usize,
        rng: &mut StdRng,
        scratch: &mut PublicScratch,
    ) -> Result<Self, TrainError> {
        let view = session.public().ok_or(TrainError::Incomplete { what: "a public view" })?;
        let rows = index::sample(rng, view.rows(), batch.min(view.rows())).into_vec();
        view.select(&rows, &mut scratch.batch);
        scratch.labels.clear();
        scratch.labels.extend(rows.iter().map(|&row| session.labels()[row]));
        let model = session.model();
        let mut values = vec![0.0; model.public_range().len()];
        let dropout = Some(DropoutSeed(rng.next_u64()));
        let PublicScratch { batch, labels, workspace } = scratch;
        let loss = model.public_gradient(params, batch, labels, dropout, &mut values, workspace)?;
        if !loss.is_finite() || values.iter().any(|value| !value.is_finite()) {
            return Err(TrainError::Diverged);
        }
        Ok(Self { values, loss })
    }

    /// The gradient as it may leave.
    pub fn permitted(self, permit: PublicPermit) -> PublicValues {
        let PublicGradient { values, loss } = self;
        permit.consume();
        PublicValues { values, loss }
    }

    /// For local steps, whose result leaves as [`PublicValues::of_local_steps`].
    pub(super) fn values(&self) -> &[f32] {
        &self.values
    }

    /// Mean loss over the batch, finite, >= 0.
    pub(super) fn loss(&self) -> f64 {
        self.loss
    }
}

impl PublicValues {
    /// The model difference of local steps and the mean loss of their public batches. Without a permit the steps had no
    /// public part, and the difference is made of noised private sums alone.
    ///
    /// # Errors
    /// A value is not finite.
    pub(super) fn of_local_steps(
        difference: Vec<f32>,
        loss: f64,
        permit: Option<PublicPermit>,
    ) -> Result<Self, TrainError> {
        if difference.iter().any(|value| !value.is_finite()) {
            return Err(TrainError::Diverged);
        }
        if let Some(permit) = permit {
            permit.consume();
        }
        Ok(Self { values: difference, loss })
    }

    /// Nothing, of a round without a public part.
    pub(super) fn none() -> Self {
        Self { values: Vec::new(), loss: 0.0 }
    }

    /// The values and the mean loss.
    pub(super) fn into_parts(self) -> (Vec<f32>, f64) {
        (self.values, self.loss)
    }
}
