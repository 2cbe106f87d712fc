//! The private part: clipped, rounded and noised sum over a secret sample of privacy units.
//!
//! The charge is consumed before anything is drawn; the sample never leaves this function; the sum leaves it with noise
//! only. The engine hands each unit's gradient over as factors of outer products; the mechanism rounds the factors, proves
//! each unit's sensitivity in exact integers whatever the engine computed, and adds.

use fusiondp_dp::{
    Block, CommittedCharge, ContributionShape, Factor, PrivateRelease, PrivateStep, Released, SecureRng,
    StepError, UnitGroup,
};
use fusiondp_learn::model::{
    self, Directions, FactorGroup, Model, PairedBatch, PrivateBlock, PrivateLoss, PrivateObjective, View,
    Workspace,
};

use super::workspace::KeptWorkspace;
use super::{Session, TrainError};

/// Records that are gathered at once; a unit with more is gathered alone.
const CHUNK_ROWS: usize = 2_048;

/// Buffers of the private part. Has no `Debug`: they hold patients' values.
pub struct PrivateScratch {
    batch: PairedBatch<f32>,
    rows: Vec<usize>,
    workspace: KeptWorkspace,
}

impl PrivateScratch {
    /// Empty buffers for a session's model.
    pub fn new(session: &Session) -> Self {
        let batch = PairedBatch::empty(session.model().input_shape());
        Self { batch, rows: Vec::new(), workspace: KeptWorkspace::take() }
    }
}

/// Where a private step is computed.
#[derive(Clone, Copy)]
pub struct PrivatePoint<'a> {
    /// The parameters, `[P]`.
    pub params: &'a [f32],
    /// What gradients are projected onto, `[k, P']`, in a study that projects them; else empty.
    pub directions: &'a [f32],
}

/// Computes one private step.
///
/// In a study that projects, what is clipped, rounded, summed and noised are the k coefficients of each unit, so the
/// guarantee does not depend on where the directions come from.
///
/// # Errors
/// The charge does not fit the session, or the model refuses; nothing is released then, and the charge stays spent.
pub fn private_release(
    session: &Session,
    at: PrivatePoint<'_>,
    charge: CommittedCharge,
    rng: SecureRng,
    scratch: &mut PrivateScratch,
) -> Result<PrivateRelease, TrainError> {
    if charge.entry().charge().released != Released::PrivateSum {
        return Err(TrainError::Incomplete { what: "the charge of a private sum" });
    }
    let real = session.real().ok_or(TrainError::Incomplete { what: "true values" })?;
    let count = session.study().fusion.private_directions.map(|directions| directions as usize);
    let shape = count.map_or_else(|| contribution_shape(session.model()), ContributionShape::from);
    let mut step = PrivateStep::begin(charge, session.units().count(), shape, rng)?;
    let views = Views { first: real, hybrid: session.public() };
    each_chunk(session, &views, &mut step, scratch, |step, batch, workspace| {
        let (model, objective) = (session.model(), session.objective());
        match count {
            None => add_groups(model, at.params, batch, objective, step, workspace),
            Some(count) => {
                let directions = Directions::new(at.directions, count);
                add_coefficients(model, at.params, directions, batch, objective, step, workspace)
            }
        }
    })?;
    Ok(step.release()?)
}

/// Computes the public part of a step in a study that protects whole records: each unit's gradient of the public loss in the
/// hybrid view, clipped, rounded, summed and noised as a private one. `params` are those of the whole model, `[P]`.
///
/// # Errors
/// As [`private_release`].
pub fn record_release(
    session: &Session,
    params: &[f32],
    charge: CommittedCharge,
    rng: SecureRng,
    scratch: &mut PrivateScratch,
) -> Result<PrivateRelease, TrainError> {
    if charge.entry().charge().released != Released::PublicSum {
        return Err(TrainError::Incomplete { what: "the charge of a public sum" });
    }
    let model = session.record_model().ok_or(TrainError::Incomplete { what: "a public part to protect" })?;
    let public = session.public().ok_or(TrainError::Incomplete { what: "a public view" })?;
    let objective =
        PrivateObjective { loss: PrivateLoss::Direct, consistency_weight: 0.0, ..*session.objective() };
    let params = &params[session.model().public_range()];
    let mut step = PrivateStep::begin(charge, session.units().count(), contribution_shape(model), rng)?;
    // The direct loss reads one view, here the hybrid one.
    let views = Views { first: public, hybrid: None };
    each_chunk(session, &views, &mut step, scratch, |step, batch, workspace| {
        add_groups(model, params, batch, &objective, step, workspace)
    })?;
    Ok(step.release()?)
}

/// What a step reads of the sampled units.
struct Views<'a> {
    /// The view of the direct loss, the first one of the difference.
    first: &'a View<f32>,
    /// The view that is subtracted. The direct loss reads none, and dp-sgd has none.
    hybrid: Option<&'a View<f32>>,
}

/// Hands the sampled units over, some at a time.
fn each_chunk(
    session: &Session,
    views: &Views<'_>,
    step: &mut PrivateStep,
    scratch: &mut PrivateScratch,
    mut add: impl FnMut(&mut PrivateStep, &PairedBatch<f32>, &mut Workspace<f32>) -> Result<(), TrainError>,
) -> Result<(), TrainError> {
    let sampled = step.sampled_units().to_vec();
    let mut rest = sampled.as_slice();
    while !rest.is_empty() {
        let (chunk, after) = rest.split_at(chunk_length(session, rest));
        gather(session, views, chunk, scratch);
        let PrivateScratch { batch, workspace, .. } = scratch;
        add(step, batch, workspace)?;
        rest = after;
    }
    Ok(())
}

/// What the model's private coordinates are, as the mechanism names it.
pub fn contribution_shape(model: &Model) -> ContributionShape {
    let blocks = model.private_blocks().into_iter().map(|block| match block {
        PrivateBlock::Linear { outputs, inputs } => Block::Linear { outputs, inputs },
        PrivateBlock::Matrix { outputs, inputs } => Block::Matrix { outputs, inputs },
        PrivateBlock::Dense { length } => Block::Dense { length },
    });
    ContributionShape::new(blocks.collect())
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

fn gather(session: &Session, views: &Views<'_>, chunk: &[usize], scratch: &mut PrivateScratch) {
    let PrivateScratch { batch, rows, .. } = scratch;
    rows.clear();
    batch.unit_offsets.clear();
    batch.unit_offsets.push(0);
    for &unit in chunk {
        rows.extend(session.units().rows(unit));
        batch.unit_offsets.push(rows.len());
    }
    views.first.select(rows, &mut batch.real);
    if let Some(hybrid) = views.hybrid {
        hybrid.select(rows, &mut batch.hybrid);
    }
    batch.labels.clear();
    batch.labels.extend(rows.iter().map(|&row| session.labels()[row]));
}

/// Adds all units of a batch to a step.
///
/// # Errors
/// The model refuses the batch, or the step more units than were sampled.
pub fn add_groups(
    model: &Model,
    params: &[f32],
    batch: &PairedBatch<f32>,
    objective: &PrivateObjective,
    step: &mut PrivateStep,
    workspace: &mut Workspace<f32>,
) -> Result<(), TrainError> {
    let clip_norm = step.engine_clip_norm();
    let mut outcome: Result<(), StepError> = Ok(());
    model.private_factors(params, batch, objective, clip_norm, workspace, |group| {
        if outcome.is_ok() {
            outcome = add_group(step, group);
        }
    })?;
    Ok(outcome?)
}

/// Adds the coefficients of all units of a batch to a step.
///
/// # Errors
/// The model refuses the batch or the directions, or the step more units than were sampled.
#[allow(clippy::too_many_arguments, reason = "the arguments of add_groups and the directions")]
pub fn add_coefficients(
    model: &Model,
    params: &[f32],
    directions: Directions<'_, f32>,
    batch: &PairedBatch<f32>,
    objective: &PrivateObjective,
    step: &mut PrivateStep,
    workspace: &mut Workspace<f32>,
) -> Result<(), TrainError> {
    let clip_norm = step.engine_clip_norm();
    let mut outcome: Result<(), StepError> = Ok(());
    let add = |_: usize, coefficients: &[f32]| {
        if outcome.is_ok() {
            outcome = step.add_unit(coefficients);
        }
    };
    model.private_coefficients(params, batch, objective, directions, clip_norm, workspace, add)?;
    Ok(outcome?)
}

fn add_group(step: &mut PrivateStep, group: &FactorGroup<'_, f32>) -> Result<(), StepError> {
    let factors: Vec<Factor<'_>> = group.factors().map(lent).collect();
    let linear: Vec<&[Factor<'_>]> = factors.chunks(group.factors_per_block()).collect();
    step.add_units(&UnitGroup {
        offsets: group.offsets(),
        clip_factors: group.clip_factors(),
        linear: &linear,
        dense: group.dense(),
    })
}

fn lent<'a>(factor: model::Factor<'a, f32>) -> Factor<'a> {
    Factor { left: factor.left, right: factor.right, constant: factor.constant }
}

#[cfg(test)]
mod tests;
