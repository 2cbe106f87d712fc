//! Enrollment: offers the study to its sites and derives the plan from those that join.

use fusiondp_learn::server::ServerState;
use fusiondp_protocol::{EnrolmentOffer, Plan, SiteSize, chunks};

use super::{StudyContext, look_again_by};
use crate::error::{CoordinatorError, Interruption, StudyFailure};
use crate::shared::Core;
use crate::store::{ModelKind, NewModel, Standing, StudyRow, StudySiteRow, StudyStart};

/// Time that sites have at least, however old the deadline is when the coordinator comes back.
const RESUMED_MS: u64 = 30_000;

/// Runs enrollment to its end; the study is running afterwards.
pub(crate) async fn run(
    core: &Core,
    context: &super::SharedContext,
    row: &StudyRow,
) -> Result<(), Interruption> {
    let deadline_ms = open(core, context, row).await?;
    let sites = gather(core, context, deadline_ms).await?;
    core.board.withdraw_study(context.id());
    close(core, context, sites).await
}

async fn open(core: &Core, context: &StudyContext, row: &StudyRow) -> Result<u64, Interruption> {
    let now_ms = core.clock.now_ms();
    let timeout_ms = u64::from(context.study().federation.enrolment_timeout_s) * 1_000;
    let deadline_ms = match row.enrolment_deadline_ms {
        Some(deadline_ms) => deadline_ms.max(now_ms.saturating_add(timeout_ms.min(RESUMED_MS))),
        None => now_ms.saturating_add(timeout_ms),
    };
    if !core.store.open_enrolment(context.id(), deadline_ms).await? {
        return Err(Interruption::Stopped);
    }
    core.changed();
    let offer = EnrolmentOffer::new(context.document(), deadline_ms);
    for site in core.store.study_sites(context.id()).await? {
        if site.standing == Standing::Invited {
            core.board.post_enrolment(&site.site, offer.clone());
        }
    }
    tracing::info!(study = %context.id(), deadline_ms, "enrollment is open");
    Ok(deadline_ms)
}

/// Waits until every site has answered or the deadline has passed.
async fn gather(
    core: &Core,
    context: &StudyContext,
    deadline_ms: u64,
) -> Result<Vec<StudySiteRow>, Interruption> {
    loop {
        let answered = context.answered.notified();
        super::check_stop(core, context).await?;
        let sites = core.store.study_sites(context.id()).await?;
        let open = sites.iter().any(|site| site.standing == Standing::Invited);
        let now_ms = core.clock.now_ms();
        if !open || now_ms >= deadline_ms {
            return Ok(sites);
        }
        look_again_by(core, deadline_ms, answered).await;
    }
}

async fn close(
    core: &Core,
    context: &super::SharedContext,
    sites: Vec<StudySiteRow>,
) -> Result<(), Interruption> {
    let (enrolled, others): (Vec<_>, Vec<_>) =
        sites.into_iter().partition(|site| site.standing == Standing::Enrolled);
    let needed = context.study().federation.min_sites;
    if enrolled.len() < needed as usize {
        return Err(
            StudyFailure::Enrolment { needed, enrolled: enrolled.len(), answers: answers(&others) }.into()
        );
    }
    let start = derive(context.clone(), enrolled).await?;
    core.store.start_study(context.id(), &start, core.clock.now_ms()).await?;
    core.changed();
    tracing::info!(study = %context.id(), total_units = start.plan.total_units, "the plan stands");
    let model = start.model;
    core.cache_model(context.id(), model.version, model.digest, model.parameters.into());
    Ok(())
}

fn answers(others: &[StudySiteRow]) -> String {
    let said = |site: &StudySiteRow| {
        let detail = if site.detail.is_empty() { "no answer by the end of enrollment" } else { &site.detail };
        format!("{}: {detail}", site.site)
    };
    if others.is_empty() {
        return "no other site was invited".to_owned();
    }
    others.iter().map(said).collect::<Vec<_>>().join("; ")
}

/// Calibrates the noise and makes the first model, off the async threads: the accountant may take seconds.
async fn derive(
    context: super::SharedContext,
    enrolled: Vec<StudySiteRow>,
) -> Result<StudyStart, Interruption> {
    let sizes: Vec<SiteSize> = enrolled
        .into_iter()
        .map(|row| SiteSize { site: row.site, units: row.units, records: row.records })
        .collect();
    let work = move || -> Result<StudyStart, Interruption> {
        let plan = Plan::derive(context.document(), &sizes).map_err(StudyFailure::Plan)?;
        let study = context.study();
        let parameters = context.model().initialise::<f32>(study.training.initialization_seed);
        let state = ServerState::new(context.model(), study.server_settings(), parameters)
            .map_err(CoordinatorError::from)?;
        let sites = sizes.into_iter().map(|size| size.site).collect();
        let model = trained_model(1, 0, &state, plan.is_private_round(1));
        Ok(StudyStart { plan, model, sites })
    };
    tokio::task::spawn_blocking(work).await.map_err(CoordinatorError::from)?
}

/// The storable form of a server state. Where the next round is private, the version carries the directions that private
/// gradients are projected onto, if there are any.
pub(crate) fn trained_model(
    version: u64,
    round: u32,
    state: &ServerState,
    next_is_private: bool,
) -> NewModel {
    let mut values = state.parameters().to_vec();
    if next_is_private {
        values.extend(state.directions());
    }
    let (digest, parameters) = encode(&values);
    NewModel { version, kind: ModelKind::Trained, round, digest, parameters, state: Some(state.to_bytes()) }
}

/// The storable form of the parameters a study ends with.
pub(crate) fn final_model(version: u64, round: u32, state: &ServerState) -> NewModel {
    let (digest, parameters) = encode(&state.final_parameters());
    NewModel { version, kind: ModelKind::Final, round, digest, parameters, state: None }
}

fn encode(parameters: &[f32]) -> (fusiondp_dp::Digest, Vec<u8>) {
    let mut bytes = Vec::new();
    chunks::encode_f32(parameters, &mut bytes);
    (fusiondp_dp::Digest::of(&bytes), bytes)
}
