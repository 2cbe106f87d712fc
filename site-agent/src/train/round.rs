//! The parts that a task needs, put together into the bytes of an update. Blocking CPU work.

use std::num::NonZeroUsize;

use fusiondp_dp::{CommittedCharge, Digest, PrivateRelease, Released};
use fusiondp_protocol::chunks::{encode_f32, encode_i64};
use fusiondp_protocol::messages::TrainingTask;

use super::local_steps::{LocalWork, local_update};
use super::public_step::PublicValues;
use super::step::{StepScratch, StepWork};
use super::{Session, TrainError};
use crate::policy::PublicPermit;
use crate::random::{Draw, RandomSource};

/// What one task is computed from besides the session.
pub struct RoundWork {
    /// The task's model version: parameters `[P]`, in a private round of a study that projects also directions `[k, P']`.
    pub params: Vec<f32>,
    /// Permission of a public part without noise; `None` in a study that has none, or noises it.
    pub public: Option<PublicPermit>,
    /// Charges of the noised parts, in the order of [`Plan::releases`](fusiondp_protocol::plan::Plan::releases) for each local
    /// step; empty in a round without noise.
    pub charges: Vec<CommittedCharge>,
    /// Where randomness comes from.
    pub random: RandomSource,
    /// Threads to compute on; the result does not depend on them.
    pub threads: NonZeroUsize,
}

/// The values of an update, as they may leave.
pub struct RoundOutput {
    /// Little-endian values: f32 first, i64 after them.
    pub payload: Vec<u8>,
    /// Digest of the payload.
    pub digest: Digest,
    /// Count of f32 values.
    pub public_values: u64,
    /// Count of i64 values.
    pub private_values: u64,
    /// Mean loss over the public batch; 0 without a public part.
    pub public_loss: f64,
}

impl RoundWork {
    /// Computes the update.
    ///
    /// # Errors
    /// What either part refuses; nothing leaves then, and the charges stay spent.
    pub fn compute(self, session: &Session, task: &TrainingTask) -> Result<RoundOutput, TrainError> {
        let releases = task.plan.releases(task.round).len() * task.plan.local_steps as usize;
        if self.charges.len() != releases {
            return Err(TrainError::Incomplete { what: "the charges of its noised parts" });
        }
        if self.params.len() != session.model_values(task.private_part) {
            return Err(TrainError::Incomplete { what: "the values of its model version" });
        }
        let batch = task.plan.public_batch_of(&session.study().training, session.records() as u64);
        let draw = Draw {
            study: session.document().digest(),
            round: task.round,
            attempt: task.attempt,
            local_step: 1,
        };
        if task.plan.local_steps > 1 {
            return self.model_difference(session, task.plan.local_steps, batch, draw);
        }
        self.gradients(session, batch, draw)
    }

    fn gradients(self, session: &Session, batch: usize, draw: Draw) -> Result<RoundOutput, TrainError> {
        let Self { params, public: permit, charges, random, threads } = self;
        let mut scratch = StepScratch::new(session, threads);
        let public = permit.as_ref().map(|_| random.public(draw)).transpose()?.map(|rng| (batch, rng));
        let (mut private, mut records) = (None, None);
        for charge in charges {
            match &charge.entry().charge().released {
                Released::PrivateSum => private = Some((charge, random.private(draw)?)),
                Released::PublicSum => records = Some((charge, random.records(draw)?)),
                Released::Counts { .. } => {
                    return Err(TrainError::Incomplete { what: "charges of training" });
                }
            }
        }
        let (params, directions) = params.split_at(session.model().parameters());
        let work = StepWork { params, directions, public, private, records };
        let step = work.compute(session, &mut scratch)?;
        let public = match (step.public, permit, step.records) {
            (Some(gradient), Some(permit), None) => gradient.permitted(permit),
            (None, None, Some(release)) => PublicValues::of_noised(session, release),
            _ => PublicValues::none(),
        };
        Ok(output(public, step.private))
    }

    fn model_difference(
        self,
        session: &Session,
        local_steps: u32,
        batch: usize,
        draw: Draw,
    ) -> Result<RoundOutput, TrainError> {
        let Self { params, public, charges, random, threads } = self;
        let public = public.map(|permit| (permit, batch));
        let work = LocalWork { public, charges, local_steps, random, threads, draw };
        Ok(output(local_update(session, &params, work)?, None))
    }
}

/// The bytes that leave: by type nothing but permitted values and a noised sum.
fn output(public: PublicValues, private: Option<PrivateRelease>) -> RoundOutput {
    let (public, public_loss) = public.into_parts();
    let private = private.map_or_else(Vec::new, |release| release.into_parts().values);
    let mut payload = Vec::new();
    encode_f32(&public, &mut payload);
    encode_i64(&private, &mut payload);
    RoundOutput {
        digest: Digest::of(&payload),
        payload,
        public_values: public.len() as u64,
        private_values: private.len() as u64,
        public_loss,
    }
}
