//! Evaluation: asks sites for metrics of a model version and pools what they send.
//!
//! Evaluations run beside the rounds and never hold one up; only the final one is waited for, and only until its
//! deadline. What sites send are counts by logit and mean losses, in the clear, or counts with noise: the report says which.

use fusiondp_learn::metrics::{LogitHistogram, NoisyTable};
use fusiondp_protocol::study::MetricRelease;
use fusiondp_protocol::{
    CohortName, EvaluationTask, MetricSummary, NoisyCounts, ReleasedMetrics, SiteId, StudyState,
};

use super::{StudyContext, look_again};
use crate::error::{CoordinatorError, Interruption};
use crate::round::RoundKey;
use crate::shared::Core;
use crate::store::{EvaluationRow, EvaluationSite, MetricNoise, MetricRow, Standing, StudyRow};

/// Opens the evaluation that is due before a round begins, if one is.
pub(crate) async fn open_due(core: &Core, context: &StudyContext, key: RoundKey) -> Result<(), Interruption> {
    let settings = &context.study().evaluation;
    let applied = key.round - 1;
    let due = settings.every_rounds > 0 && applied > 0 && applied.is_multiple_of(settings.every_rounds);
    match &settings.during {
        Some(cohort) if due && key.attempt == 1 => {
            open(core, context, key.model_version, applied, cohort).await
        }
        _ => Ok(()),
    }
}

/// Opens the evaluations of the final model.
pub(crate) async fn open_final(
    core: &Core,
    context: &StudyContext,
    row: &StudyRow,
) -> Result<(), Interruption> {
    let settings = &context.study().evaluation;
    let mut cohorts = vec![settings.final_cohort.as_ref(), settings.during.as_ref()];
    cohorts.dedup();
    for cohort in cohorts.into_iter().flatten() {
        open(core, context, row.final_version, row.rounds_applied, cohort).await?;
    }
    Ok(())
}

async fn open(
    core: &Core,
    context: &StudyContext,
    model_version: u64,
    round: u32,
    cohort: &CohortName,
) -> Result<(), Interruption> {
    if context.study().evaluation.release == MetricRelease::None {
        return Ok(());
    }
    let evaluation = EvaluationRow {
        model_version,
        cohort: cohort.clone(),
        round,
        open: true,
        opened_ms: core.clock.now_ms(),
        deadline_ms: core.round_deadline(context),
    };
    let sites = core.store.study_sites(context.id()).await?;
    let enrolled: Vec<SiteId> =
        sites.into_iter().filter(|site| site.standing == Standing::Enrolled).map(|site| site.site).collect();
    core.store.open_evaluation(context.id(), &evaluation, &enrolled).await?;
    post(core, context, &evaluation).await
}

/// Puts every open evaluation on the board: what a restart has lost. The deadlines begin anew, because the time that
/// the coordinator was down is not the sites' fault.
pub(crate) async fn post_open(core: &Core, context: &StudyContext) -> Result<(), Interruption> {
    core.store.extend_evaluations(context.id(), core.round_deadline(context)).await?;
    for evaluation in core.store.open_evaluations(context.id()).await? {
        post(core, context, &evaluation).await?;
    }
    Ok(())
}

async fn post(core: &Core, context: &StudyContext, evaluation: &EvaluationRow) -> Result<(), Interruption> {
    let missing = || CoordinatorError::Missing { what: "evaluated model", study: context.id().to_string() };
    let (model_digest, _) = core.model(context.id(), evaluation.model_version).await?.ok_or_else(missing)?;
    let task = EvaluationTask {
        study_id: context.id().clone(),
        study_digest: context.digest(),
        model_version: evaluation.model_version,
        model_digest,
        cohort: evaluation.cohort.clone(),
        deadline_ms: evaluation.deadline_ms,
    };
    for row in core.store.evaluation_sites(context.id(), evaluation).await? {
        if row.asked {
            core.board.post_evaluation(&row.site, task.clone(), core.clock.now_ms());
        }
    }
    Ok(())
}

/// Closes evaluations as their answers come in, until it is dropped.
pub(crate) async fn collect(core: &Core, context: &StudyContext) -> Interruption {
    loop {
        let evaluated = context.evaluated.notified();
        if let Err(interruption) = sweep(core, context).await {
            return interruption;
        }
        look_again(evaluated).await;
    }
}

/// Waits until every evaluation is closed.
pub(crate) async fn finish(core: &Core, context: &StudyContext) -> Result<(), Interruption> {
    loop {
        let evaluated = context.evaluated.notified();
        super::check_stop(core, context).await?;
        if sweep(core, context).await? == 0 {
            return Ok(());
        }
        look_again(evaluated).await;
    }
}

/// Closes what can be closed and returns how many evaluations stay open.
async fn sweep(core: &Core, context: &StudyContext) -> Result<usize, Interruption> {
    let mut open = 0;
    for evaluation in core.store.open_evaluations(context.id()).await? {
        let waiting = core.store.evaluation_waits_for(context.id(), &evaluation).await? > 0;
        if waiting && core.clock.now_ms() < evaluation.deadline_ms {
            open += 1;
            continue;
        }
        close(core, context, &evaluation).await?;
    }
    Ok(open)
}

async fn close(core: &Core, context: &StudyContext, evaluation: &EvaluationRow) -> Result<(), Interruption> {
    let sites = core.store.close_evaluation(context.id(), evaluation, metrics).await?;
    for site in &sites {
        let cohort = Some(&evaluation.cohort);
        core.board.withdraw_evaluation(&site.site, context.id(), evaluation.model_version, cohort);
        if site.report.is_none() {
            let detail = if site.detail.is_empty() { "no answer by the deadline" } else { &site.detail };
            let message = format!("no metrics on cohort {}: {detail}", evaluation.cohort);
            let now_ms = core.clock.now_ms();
            core.store.record_warning(context.id(), Some(&site.site), &message, now_ms).await?;
        }
    }
    core.changed();
    tracing::info!(
        study = %context.id(),
        model_version = evaluation.model_version,
        cohort = %evaluation.cohort,
        reports = sites.iter().filter(|site| site.report.is_some()).count(),
        "evaluation closed"
    );
    Ok(())
}

/// The figures of one evaluation: pooled over sites, and each site's own. All reports of a study are of one kind, which is
/// checked when they come in.
pub(crate) fn metrics(evaluation: &EvaluationRow, sites: &[EvaluationSite]) -> Vec<MetricRow> {
    let reports = || sites.iter().filter_map(|site| Some((&site.site, &site.report.as_ref()?.metrics)));
    let exact: Vec<_> = reports()
        .filter_map(|(site, metrics)| match metrics {
            ReleasedMetrics::Summary(summary) => Some((site, summary)),
            ReleasedMetrics::Noisy(_) => None,
        })
        .collect();
    let noisy: Vec<_> = reports()
        .filter_map(|(site, metrics)| match metrics {
            ReleasedMetrics::Summary(_) => None,
            ReleasedMetrics::Noisy(counts) => Some((site, counts.units, table(counts)?)),
        })
        .collect();
    let mut rows = Vec::with_capacity(sites.len() + 1);
    rows.extend(pooled(&exact).map(|pooled| metric(evaluation, None, &pooled)));
    rows.extend(exact.iter().map(|(site, summary)| metric(evaluation, Some((*site).clone()), summary)));
    rows.extend(pooled_table(&noisy).map(|(units, table)| noisy_metric(evaluation, None, units, &table)));
    rows.extend(
        noisy
            .iter()
            .map(|(site, units, table)| noisy_metric(evaluation, Some((*site).clone()), *units, table)),
    );
    rows
}

/// One report as if all sites' records lay at one: counts add up, means are weighted by records.
fn pooled(reports: &[(&SiteId, &MetricSummary)]) -> Option<MetricSummary> {
    let (_, first) = reports.first()?;
    let mut sum = MetricSummary { records: 0, positives: 0, brier: 0.0, log_loss: 0.0, ..(*first).clone() };
    sum.positive_counts.fill(0);
    sum.negative_counts.fill(0);
    for (_, report) in reports {
        sum.records += report.records;
        sum.positives += report.positives;
        add(&mut sum.positive_counts, &report.positive_counts);
        add(&mut sum.negative_counts, &report.negative_counts);
    }
    // By shares: a site may report any finite loss, and the mean must stay finite too.
    for (_, report) in reports {
        let share = report.records as f64 / sum.records as f64;
        sum.brier += share * report.brier;
        sum.log_loss = (sum.log_loss + share * report.log_loss).min(f64::MAX);
    }
    Some(sum)
}

fn add(total: &mut [u64], counts: &[u64]) {
    for (sum, count) in total.iter_mut().zip(counts) {
        *sum += count;
    }
}

fn metric(evaluation: &EvaluationRow, site: Option<SiteId>, report: &MetricSummary) -> MetricRow {
    // A cohort without positives has no ranking to measure; its other figures stand.
    let histogram =
        LogitHistogram::from_counts(report.positive_counts.clone(), report.negative_counts.clone()).ok();
    MetricRow {
        model_version: evaluation.model_version,
        round: evaluation.round,
        cohort: evaluation.cohort.clone(),
        site,
        records: report.records,
        positives: report.positives,
        auroc: histogram.as_ref().and_then(|one| one.auroc().ok()),
        aupr: histogram.as_ref().and_then(|one| one.aupr().ok()),
        brier: Some(report.brier.clamp(0.0, 1.0)),
        log_loss: Some(report.log_loss),
        noise: None,
    }
}

/// The counts of a report, with the noise that its charge names.
fn table(counts: &NoisyCounts) -> Option<NoisyTable> {
    let deviation = counts.charge.entry.charge().event.noise_multiplier().get();
    NoisyTable::from_cells(&counts.in_units(), deviation)
}

/// Units and counts of all sites together. Tables of one study have the same intervals.
fn pooled_table(tables: &[(&SiteId, u64, NoisyTable)]) -> Option<(u64, NoisyTable)> {
    let (_, units, first) = tables.first()?;
    let mut sum = (*units, first.clone());
    for (_, units, table) in &tables[1..] {
        if sum.1.add(table) {
            sum.0 += units;
        }
    }
    Some(sum)
}

fn noisy_metric(
    evaluation: &EvaluationRow,
    site: Option<SiteId>,
    units: u64,
    table: &NoisyTable,
) -> MetricRow {
    let (auroc, positives) = (table.auroc(), table.positives());
    MetricRow {
        model_version: evaluation.model_version,
        round: evaluation.round,
        cohort: evaluation.cohort.clone(),
        site,
        records: units,
        // A cast of a number below 0 gives 0.
        positives: (positives.value.round() as u64).min(units),
        auroc: auroc.map(|estimate| estimate.value),
        aupr: None,
        brier: None,
        log_loss: None,
        noise: Some(MetricNoise {
            auroc_error: auroc.map(|estimate| estimate.error),
            positives_error: positives.error,
        }),
    }
}

/// Whether a study in this state still takes reports.
pub(crate) fn takes_reports(state: StudyState) -> bool {
    matches!(state, StudyState::Running | StudyState::Evaluating)
}

#[cfg(test)]
mod tests;
