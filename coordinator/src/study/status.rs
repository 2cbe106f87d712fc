//! A study as an administrator sees it, read from the store.

use std::collections::BTreeMap;

use fusiondp_dp::Epsilon;
use fusiondp_protocol::{
    Metric, MetricFigures, Problem, ProblemType, RoundPhase, SiteId, SiteState, SiteStatus, StudyId,
    StudyState, StudyStatus,
};

use crate::error::CoordinatorError;
use crate::round::reporting::SiteOutcome;
use crate::shared::Core;
use crate::store::{MetricRow, RoundRow, Standing, StudyRow, StudySiteRow};

/// Rounds that the rate is measured over.
const RATE_ROUNDS: u32 = 50;

/// The status of one study; `None` if there is no such study.
pub(crate) async fn status(core: &Core, id: &StudyId) -> Result<Option<StudyStatus>, CoordinatorError> {
    let Some(row) = core.store.study(id).await? else { return Ok(None) };
    let plan = row.plan();
    let current = core.store.current_round(id).await?;
    let outcomes = core.store.newest_outcomes(id).await?;
    let sites = core.store.study_sites(id).await?;
    let metrics = core.store.metrics(id).await?;
    let finished = core.store.finished_rounds(id, RATE_ROUNDS).await?;
    Ok(Some(StudyStatus {
        detail: match &plan {
            Err(fault) if !row.state.has_ended() => line(&fault.to_string()),
            _ => detail(core, &row, current.as_ref()).await?,
        },
        study_id: row.id.clone(),
        name: row.name.clone(),
        state: row.state,
        phase: current.as_ref().map(|round| round.phase),
        round: row.rounds_applied,
        rounds: row.rounds,
        // One that this version cannot read is no reason to hide the rest.
        plan: plan.unwrap_or_default(),
        sites: sites.into_iter().map(|site| site_status(core, &row, site, &outcomes)).collect(),
        metrics: newest(&metrics).filter_map(metric).collect(),
        submitted_ms: row.submitted_ms,
        started_ms: row.started_ms,
        ended_ms: row.ended_ms,
        public_loss: row.public_loss.unwrap_or(0.0),
        rounds_per_s: rate(&finished),
    }))
}

/// The statuses of all studies, oldest first, without metrics.
pub(crate) async fn all(core: &Core) -> Result<Vec<StudyStatus>, CoordinatorError> {
    let mut statuses = Vec::new();
    for row in core.store.studies().await? {
        let status = status(core, &row.id).await?;
        statuses.extend(status.map(|status| StudyStatus { metrics: Vec::new(), ..status }));
    }
    Ok(statuses)
}

async fn detail(core: &Core, row: &StudyRow, current: Option<&RoundRow>) -> Result<String, CoordinatorError> {
    if row.state.has_ended() || !row.detail.is_empty() {
        return Ok(line(&row.detail));
    }
    if row.stop_requested {
        return Ok("stops after the current round".to_owned());
    }
    if row.state == StudyState::Enrolling && row.enrolment_deadline_ms.is_none() {
        let first = core.store.next_study().await?.filter(|first| first.id != row.id);
        return Ok(first.map_or_else(String::new, |first| format!("waits for study {} to end", first.id)));
    }
    let waiting = current.filter(|round| round.phase == RoundPhase::Selection);
    Ok(waiting.map_or_else(String::new, |round| line(&round.detail)))
}

fn site_status(
    core: &Core,
    study: &StudyRow,
    row: StudySiteRow,
    outcomes: &BTreeMap<SiteId, (SiteOutcome, String)>,
) -> SiteStatus {
    let outcome = outcomes.get(&row.site).filter(|_| study.state == StudyState::Running);
    let state = match (row.standing, outcome.map(|(outcome, _)| *outcome)) {
        (Standing::Invited, _) => SiteState::Invited,
        (Standing::Declined, _) => SiteState::Declined,
        (Standing::Enrolled, Some(SiteOutcome::Working)) => SiteState::Working,
        (Standing::Enrolled, Some(SiteOutcome::Reported)) => SiteState::Reported,
        (Standing::Enrolled, Some(SiteOutcome::Late)) => SiteState::Late,
        (Standing::Enrolled, Some(SiteOutcome::Missing | SiteOutcome::Failed | SiteOutcome::Refused)) => {
            SiteState::Missing
        }
        (Standing::Enrolled, None) => SiteState::Enrolled,
    };
    let said = outcome.map_or("", |(_, detail)| detail.as_str());
    SiteStatus {
        state,
        detail: line(if row.detail.is_empty() { said } else { &row.detail }),
        rounds_contributed: row.rounds_contributed,
        rounds_missed: row.rounds_missed,
        units: row.units,
        epsilon_replace: figure(row.epsilon_replace),
        epsilon_zero_out: figure(row.epsilon_zero_out),
        last_seen_ms: core.presence.last_seen_ms(&row.site),
        site_id: row.site,
    }
}

/// Stored figures come from validated messages; what cannot be one is shown as no bound at all.
fn figure(value: f64) -> Epsilon {
    Epsilon::new(value).unwrap_or(Epsilon::INFINITE)
}

/// Those of each cohort's newest evaluation: a status stays small however long the study, and the report has all.
fn newest(metrics: &[MetricRow]) -> impl Iterator<Item = &MetricRow> {
    // Ordered by model version, so the last of a cohort is its newest.
    let last: BTreeMap<_, _> = metrics.iter().map(|row| (&row.cohort, row.model_version)).collect();
    metrics.iter().filter(move |row| last.get(&row.cohort) == Some(&row.model_version))
}

/// Only figures that exist: a cohort without positives has no ranking.
fn metric(row: &MetricRow) -> Option<Metric> {
    Some(Metric {
        round: row.round,
        cohort: row.cohort.clone(),
        site_id: row.site.clone(),
        records: row.records,
        positives: row.positives,
        auroc: row.auroc?,
        figures: match row.noise {
            None => MetricFigures::Exact { aupr: row.aupr?, brier: row.brier? },
            Some(noise) => MetricFigures::Noisy { auroc_error: noise.auroc_error? },
        },
    })
}

/// Applied rounds per second over the newest ones.
fn rate(finished: &[RoundRow]) -> f64 {
    let ended = |row: Option<&RoundRow>| row.and_then(|row| row.ended_ms);
    match (ended(finished.first()), ended(finished.last())) {
        (Some(newest), Some(oldest)) if newest > oldest => {
            (finished.len() - 1) as f64 * 1_000.0 / (newest - oldest) as f64
        }
        _ => 0.0,
    }
}

/// One line of the length that a status may carry.
pub(crate) fn line(text: &str) -> String {
    Problem::new(ProblemType::Internal, text).detail
}
