//! The private part: clipped, rounded and noised sum over a secret sample of privacy units.
//!
//! The charge is consumed before anything is drawn; the sample never leaves this function; the sum leaves it with noise
//! only. Sensitivity is proven by the mechanism on each unit's rounded vector and does not depend on the engine.

use fusiondp_dp::{CommittedCharge, PrivateRelease, PrivateStep, SecureRng, StepError};
use fusiondp_learn::model::{PairedBatch, View, Workspace};

use super::{Session, TrainError};

/// Records that are gathered at once; a unit with more is gathered alone.
const CHUNK_ROWS: usize = 2_048;

/// Buffers of the private part. Has no `Debug`: they hold patients' values.
pub struct PrivateScratch {
    batch: PairedBatch<f32>,
    rows: Vec<usize>,
    workspace: Workspace<f32>,
}

impl PrivateScratch {
    /// Empty buffers for a session's model.
    pub fn new(session: &Session) -> Self {
        let batch = PairedBatch::empty(session.model().input_shape());
        Self { batch, rows: Vec::new(), workspace: Workspace::default() }
    }
}

/// Computes one private step at `params`.
///
/// # Errors
/// The charge does not fit the session, or the model refuses; nothing is released then, and the charge stays spent.
pub fn private_release(
    session: &Session,
    params: &[f32],
    charge: CommittedCharge,
    rng: SecureRng,
    scratch: &mut PrivateScratch,
) -> Result<PrivateRelease, TrainError> {
    let real = session.real().ok_or(TrainError::Incomplete { what: "true values" })?;
    let dimension = session.model().private_range().len();
    let mut step = PrivateStep::begin(charge, session.units().count(), dimension, rng)?;
    let sampled = step.sampled_units().to_vec();
    let mut rest = sampled.as_slice();
    while !rest.is_empty() {
        let (chunk, after) = rest.split_at(chunk_length(session, rest));
        gather(session, real, chunk, scratch);
        add_chunk(session, params, &mut step, scratch)?;
        rest = after;
    }
    Ok(step.release()?)
}

/// Units of the next chunk: at least one, then as many as fit.
fn chunk_length(session: &Session, sampled: &[usize]) -> usize {
    let mut rows = 0;
    let fits = sampled.iter().take_while(|&&unit| {
        rows += session.units().rows(unit).len();
        rows <= CHUNK_ROWS
    });
    fits.count().max(1)
}

fn gather(session: &Session, real: &View<f32>, chunk: &[usize], scratch: &mut PrivateScratch) {
    let PrivateScratch { batch, rows, .. } = scratch;
    rows.clear();
    batch.unit_offsets.clear();
    batch.unit_offsets.push(0);
    for &unit in chunk {
        rows.extend(session.units().rows(unit));
        batch.unit_offsets.push(rows.len());
    }
    real.select(rows, &mut batch.real);
    // The direct loss reads no hybrid view, and dp-sgd has none.
    if let Some(public) = session.public() {
        public.select(rows, &mut batch.hybrid);
    }
    batch.labels.clear();
    batch.labels.extend(rows.iter().map(|&row| session.labels()[row]));
}

fn add_chunk(
    session: &Session,
    params: &[f32],
    step: &mut PrivateStep,
    scratch: &mut PrivateScratch,
) -> Result<(), TrainError> {
    let clip_norm = step.engine_clip_norm();
    let mut outcome: Result<(), StepError> = Ok(());
    let PrivateScratch { batch, workspace, .. } = scratch;
    session.model().private_gradients(
        params,
        batch,
        session.objective(),
        clip_norm,
        workspace,
        |_, gradient| {
            if outcome.is_ok() {
                outcome = step.add_unit(gradient);
            }
        },
    )?;
    Ok(outcome?)
}
