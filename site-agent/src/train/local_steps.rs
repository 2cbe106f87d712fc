//! Several steps at the site, for studies that average models.
//!
//! Each step is plain gradient descent on `g_pub + alpha g_priv`, where the private sum is divided by the site's own
//! `q N_k`. Every private sum is noised before it is used, so the difference that leaves is post-processing of releases
//! that were charged one by one.

use std::num::NonZeroUsize;

use fusiondp_dp::{CommittedCharge, DpEvent, PrivateRelease};

use super::public_step::PublicValues;
use super::step::{StepScratch, StepWork};
use super::{Session, TrainError};
use crate::policy::PublicPermit;
use crate::random::{Draw, RandomSource};

/// What local steps need besides the session.
pub struct LocalWork {
    /// Permission to let gradients of the hybrid view out, and the records per step; `None` without a public part.
    pub public: Option<(PublicPermit, usize)>,
    /// One charge per step; none in a round without a private part.
    pub charges: Vec<CommittedCharge>,
    /// Number of steps.
    pub local_steps: u32,
    /// Where randomness comes from.
    pub random: RandomSource,
    /// Threads to compute on; the result does not depend on them.
    pub threads: NonZeroUsize,
    /// The draw of the first step.
    pub draw: Draw,
}

/// Takes the steps from `params` and returns the model difference, `[P]`, after minus before, with the mean public loss.
///
/// # Errors
/// What either part refuses; nothing leaves then, and the charges stay spent.
pub fn local_update(session: &Session, params: &[f32], work: LocalWork) -> Result<PublicValues, TrainError> {
    let rate = session.study().training.local_learning_rate;
    let rate = rate.ok_or(TrainError::Incomplete { what: "a local learning rate" })?;
    let mut scratch = StepScratch::new(session, work.threads);
    let mut current = params.to_vec();
    let mut charges = work.charges.into_iter();
    let mut losses = 0.0;
    for local_step in 1..=work.local_steps {
        let draw = Draw { local_step, ..work.draw };
        let public = match &work.public {
            Some((_, batch)) => Some((*batch, work.random.public(draw)?)),
            None => None,
        };
        let charge = charges.next();
        let event = charge.as_ref().map(CommittedCharge::event);
        let private = match charge {
            Some(charge) => Some((charge, work.random.private(draw)?)),
            None => None,
        };
        let step = StepWork { params: &current, directions: &[], public, private, records: None }
            .compute(session, &mut scratch)?;
        let mut direction = vec![0.0; current.len()];
        if let Some(gradient) = step.public {
            losses += gradient.loss();
            add(&mut direction[session.model().public_range()], gradient.values());
        }
        if let (Some(release), Some(event)) = (step.private, event) {
            add_private(&mut direction, session, &release, event);
        }
        current.iter_mut().zip(&direction).for_each(|(value, slope)| *value -= (rate * slope) as f32);
    }
    let difference = current.iter().zip(params).map(|(after, before)| after - before).collect();
    let loss = losses / f64::from(work.local_steps.max(1));
    PublicValues::of_local_steps(difference, loss, work.public.map(|(permit, _)| permit))
}

fn add_private(direction: &mut [f64], session: &Session, release: &PrivateRelease, event: DpEvent) {
    let expected = event.sampling_probability().get() * session.units().count() as f64;
    let weight = session.study().fusion.calibration_weight * release.grid_step() / expected;
    let values = release.values().iter().map(|&steps| steps as f64);
    session.model().private_range().add(weight, values, direction);
}

fn add(sum: &mut [f64], values: &[f32]) {
    sum.iter_mut().zip(values).for_each(|(sum, value)| *sum += f64::from(*value));
}
