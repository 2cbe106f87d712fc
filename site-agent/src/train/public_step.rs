//! The public part: mean gradient of the hybrid view over a public batch, without clipping and noise.
//!
//! A batch is cut into stripes of fixed size, which may be computed on several threads. Their shares are added in order, so
//! the gradient does not depend on the number of threads, to the bit.

use std::collections::BTreeMap;
use std::ops::Range;

use fusiondp_dp::PrivateRelease;
use fusiondp_learn::model::{BatchShare, View};
use fusiondp_learn::network::DropoutSeed;
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::index;

use super::workspace::KeptWorkspace;
use super::{Session, TrainError};
use crate::policy::PublicPermit;

/// Mean gradient over a public batch. Depends on public features, imputed values and labels; leaves the site only as
/// [`PublicValues`].
pub struct PublicGradient {
    values: Vec<f32>,
    loss: f64,
}

/// What may leave without further noise: a public gradient that the site's policy permits, a public gradient that was noised
/// under a charge of its own, or the difference that local steps made of public gradients and of noised private sums.
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
    workspace: KeptWorkspace,
}

impl PublicScratch {
    /// Empty buffers for a session's model.
    pub fn new(session: &Session) -> Self {
        let batch = View::empty(session.model().input_shape());
        Self { batch, labels: Vec::new(), workspace: KeptWorkspace::take() }
    }
}

/// Rows of a stripe.
const STRIPE: usize = 512;

/// A drawn batch, to be computed stripe by stripe.
pub(super) struct PublicBatch {
    rows: Vec<usize>,
    dropout: DropoutSeed,
}

impl PublicBatch {
    /// Draws `batch` records uniformly without replacement, and the seed of the dropout mask.
    ///
    /// # Errors
    /// The study has no public part.
    pub(super) fn draw(session: &Session, batch: usize, rng: &mut StdRng) -> Result<Self, TrainError> {
        let view = session.public().ok_or(TrainError::Incomplete { what: "a public view" })?;
        let rows = index::sample(rng, view.rows(), batch.min(view.rows())).into_vec();
        Ok(Self { rows, dropout: DropoutSeed(rng.next_u64()) })
    }

    /// Number of stripes.
    pub(super) fn stripes(&self) -> usize {
        self.rows.len().div_ceil(STRIPE)
    }

    /// Computes one stripe's share of the mean gradient.
    ///
    /// # Errors
    /// The study has no public part, or the model refuses.
    pub(super) fn stripe(
        &self,
        session: &Session,
        params: &[f32],
        stripe: usize,
        scratch: &mut PublicScratch,
    ) -> Result<Share, TrainError> {
        let view = session.public().ok_or(TrainError::Incomplete { what: "a public view" })?;
        let PublicScratch { batch, labels, workspace } = scratch;
        let range: Range<usize> = stripe * STRIPE..self.rows.len().min((stripe + 1) * STRIPE);
        let rows = &self.rows[range.clone()];
        view.select(rows, batch);
        labels.clear();
        labels.extend(rows.iter().map(|&row| session.labels()[row]));
        let share = BatchShare { first_row: range.start, batch_rows: self.rows.len() };
        let mut values = vec![0.0; session.model().public_range().len()];
        let dropout = Some(self.dropout);
        let model = session.model();
        let loss = model.public_share(params, batch, labels, share, dropout, &mut values, workspace)?;
        Ok(Share { values, loss })
    }
}

/// One stripe's share of gradient and loss.
pub(super) struct Share {
    values: Vec<f32>,
    loss: f64,
}

/// Adds shares in the order of their stripes, whatever the order in which they arrive.
pub(super) struct PublicSum {
    values: Vec<f32>,
    loss: f64,
    next: usize,
    /// Shares that came before their turn.
    waiting: BTreeMap<usize, Share>,
}

impl PublicSum {
    /// The sum of no shares.
    pub(super) fn new(session: &Session) -> Self {
        let values = vec![0.0; session.model().public_range().len()];
        Self { values, loss: 0.0, next: 0, waiting: BTreeMap::new() }
    }

    /// Takes the share of a stripe.
    pub(super) fn add(&mut self, stripe: usize, share: Share) {
        self.waiting.insert(stripe, share);
        while let Some(share) = self.waiting.remove(&self.next) {
            self.values.iter_mut().zip(&share.values).for_each(|(sum, value)| *sum += value);
            self.loss += share.loss;
            self.next += 1;
        }
    }

    /// The gradient, when all shares are there.
    ///
    /// # Errors
    /// It is not finite.
    pub(super) fn finish(self) -> Result<PublicGradient, TrainError> {
        if !self.loss.is_finite() || self.values.iter().any(|value| !value.is_finite()) {
            return Err(TrainError::Diverged);
        }
        Ok(PublicGradient { values: self.values, loss: self.loss })
    }
}

impl PublicGradient {
    /// Draws `batch` records uniformly without replacement and computes their mean gradient over the model's public
    /// coordinates, `[P_pub]`, with dropout, on this thread alone.
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
        let batch = PublicBatch::draw(session, batch, rng)?;
        let mut sum = PublicSum::new(session);
        for stripe in 0..batch.stripes() {
            sum.add(stripe, batch.stripe(session, params, stripe, scratch)?);
        }
        sum.finish()
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

    /// A noised sum of the units' public gradients as the mean over records that it estimates: divided by the sampling
    /// probability and the number of records, both public. No permission is needed; the release was paid for.
    pub(super) fn of_noised(session: &Session, release: PrivateRelease) -> Self {
        let expected = release.entry().charge().event.sampling_probability().get() * session.records() as f64;
        let weight = release.grid_step() / expected;
        let values = release.values().iter().map(|&steps| (steps as f64 * weight) as f32).collect();
        Self { values, loss: 0.0 }
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
