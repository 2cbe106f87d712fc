//! `report.json`.

use fusiondp_dp::{NeighboringRelation, Protection};
use fusiondp_protocol::plan::RecordsPlan;
use fusiondp_protocol::study::PrivacyTarget;
use fusiondp_protocol::{Plan, SiteId};
use serde::{Serialize, Serializer};

use super::ReportError;
use super::facts::Facts;
use super::profile::Profiles;
use super::spent::{CohortSpent, Spent};
use super::text::{count, share};
use crate::store::Claim;
use crate::study::StudyContext;
use crate::study::accounting::EpsilonPair;
use crate::text::epsilon;

/// The whole document. Keys are stable: programs read them.
#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    pub(crate) study: StudyFacts,
    /// Sites enrolled.
    pub(crate) sites: usize,
    pub(crate) site_details: Vec<SiteDetail>,
    /// Pooled over sites, of the evaluation that `evaluated` names; null where nothing was released.
    pub(crate) auroc: Option<f64>,
    pub(crate) aupr: Option<f64>,
    pub(crate) brier: Option<f64>,
    /// Standard error of `auroc` by the noise of the counts; null where counts left in the clear.
    pub(crate) auroc_error: Option<f64>,
    /// Which evaluation the figures above are of; null without one.
    pub(crate) evaluated: Option<Evaluated>,
    /// Sites whose records those figures pool; null without them.
    pub(crate) evaluated_sites: Option<usize>,
    /// The consortium's figures, upper bounds.
    pub(crate) epsilon: EpsilonPair,
    /// The consortium's figures of whole records, upper bounds; null where the study does not protect them.
    pub(crate) records_epsilon: Option<EpsilonPair>,
    /// How public gradients were protected; null where they left without noise, or do not exist.
    pub(crate) record_protection: Option<RecordProtection>,
    pub(crate) delta: f64,
    /// Cost of metrics with noise; null without them.
    pub(crate) counts: Option<Counts>,
    /// Rounds applied.
    pub(crate) rounds: u32,
    /// From the plan to the end.
    pub(crate) seconds: f64,
    /// Null in a study without a private part.
    pub(crate) noise_multiplier: Option<f64>,
    pub(crate) sampling_probability: Option<f64>,
    pub(crate) clip_norm: f64,
    pub(crate) headline_relation: NeighboringRelation,
    /// Sites that may hold the same patient.
    pub(crate) max_overlap: u32,
    /// The whole plan's figures for one site.
    pub(crate) planned_epsilon: Option<EpsilonPair>,
    pub(crate) participation: Vec<Participation>,
    pub(crate) losses: Vec<Loss>,
    pub(crate) metrics: Vec<MetricEntry>,
    pub(crate) warnings: Vec<WarningEntry>,
    /// The whole curve of the consortium's figures; null where charges are missing in the mirror, or none was made.
    #[serde(rename = "privacy_curve", serialize_with = "curve_json")]
    pub(crate) profiles: Option<Profiles>,
}

fn curve_json<S: Serializer>(profiles: &Option<Profiles>, serializer: S) -> Result<S::Ok, S::Error> {
    profiles.as_ref().map(Profiles::to_json).serialize(serializer)
}

/// How public gradients were protected.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct RecordProtection {
    pub(crate) noise_multiplier: f64,
    pub(crate) sampling_probability: f64,
    pub(crate) clip_norm: f64,
    /// What whole records were to lose at one site.
    pub(crate) planned_epsilon: EpsilonPair,
}

/// Identity and course of the study.
#[derive(Debug, Serialize)]
pub(crate) struct StudyFacts {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) digest: String,
    pub(crate) consortium: String,
    pub(crate) mode: String,
    pub(crate) state: String,
    pub(crate) detail: String,
    pub(crate) rounds_planned: u32,
    pub(crate) submitted_ms: u64,
    pub(crate) started_ms: Option<u64>,
    pub(crate) ended_ms: Option<u64>,
    pub(crate) model_digest: Option<String>,
    pub(crate) imputer_digest: Option<String>,
}

/// The evaluation of the headline figures: of the final model on the final cohort, or else the newest.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Evaluated {
    pub(crate) cohort: String,
    /// Rounds applied in the model.
    pub(crate) round: u32,
    #[serde(rename = "final")]
    pub(crate) of_final_model: bool,
}

/// One invited site.
#[derive(Debug, Serialize)]
pub(crate) struct SiteDetail {
    pub(crate) site: String,
    pub(crate) state: &'static str,
    pub(crate) detail: String,
    pub(crate) units: u64,
    pub(crate) records: u64,
    pub(crate) rounds_contributed: u32,
    pub(crate) rounds_missed: u32,
    /// Spent in this study at most: `epsilon_claimed`, or what the mirrored charges give together with one charge for
    /// each of `unreported_attempts`.
    pub(crate) epsilon: EpsilonPair,
    /// Spent in this study as the site's newest update said it.
    pub(crate) epsilon_claimed: EpsilonPair,
    /// What whole records have lost by the study at most; null where it does not protect them.
    pub(crate) records_epsilon: Option<EpsilonPair>,
    /// The same as the site's newest update said it.
    pub(crate) records_epsilon_claimed: Option<EpsilonPair>,
    /// Attempts with a private part that were given to the site and brought no update.
    pub(crate) unreported_attempts: u64,
    /// Spent over all studies on the same data; null before the first charge.
    pub(crate) data_epsilon: Option<EpsilonPair>,
    /// The coordinator has seen every charge since enrollment.
    pub(crate) mirror_complete: bool,
    /// After each of the site's updates.
    pub(crate) epsilon_by_round: Vec<EpsilonPoint>,
}

/// What a site had spent after a round.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct EpsilonPoint {
    pub(crate) round: u32,
    pub(crate) replace: f64,
    pub(crate) zero_out: f64,
}

/// One site in one attempt of a round.
#[derive(Debug, Serialize)]
pub(crate) struct Participation {
    pub(crate) round: u32,
    pub(crate) attempt: u32,
    pub(crate) site: String,
    pub(crate) outcome: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) detail: String,
}

/// Mean public loss of a round.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Loss {
    pub(crate) round: u32,
    pub(crate) public_loss: f64,
}

/// One evaluation of one site, or pooled.
#[derive(Debug, Serialize)]
pub(crate) struct MetricEntry {
    pub(crate) round: u32,
    pub(crate) cohort: String,
    /// Null: pooled over sites.
    pub(crate) site: Option<String>,
    #[serde(rename = "final")]
    pub(crate) of_final_model: bool,
    pub(crate) records: u64,
    pub(crate) positives: u64,
    pub(crate) auroc: Option<f64>,
    pub(crate) aupr: Option<f64>,
    pub(crate) brier: Option<f64>,
    pub(crate) log_loss: Option<f64>,
    /// The figures are estimates from counts with noise: records and positives count privacy units.
    pub(crate) noisy: bool,
    pub(crate) auroc_error: Option<f64>,
    pub(crate) positives_error: Option<f64>,
}

/// What metrics with noise have cost, upper bounds at the study's delta.
#[derive(Debug, Serialize)]
pub(crate) struct Counts {
    pub(crate) noise_multiplier: f64,
    pub(crate) cohorts: Vec<CohortCounts>,
    /// For a patient of the training data who is in every cohort too: training and all tables together; null where charges of
    /// training are missing in the mirror.
    pub(crate) epsilon_with_training: Option<EpsilonPair>,
    /// The same of whole records; null also where the study does not protect them.
    pub(crate) records_epsilon_with_training: Option<EpsilonPair>,
}

/// One cohort of it.
#[derive(Debug, Serialize)]
pub(crate) struct CohortCounts {
    pub(crate) cohort: String,
    /// Tables that arrived from one site, or from as many as may hold the same patient.
    pub(crate) tables: u64,
    /// For a patient of the cohort who is in no other data.
    pub(crate) epsilon: EpsilonPair,
}

/// Something an administrator should know.
#[derive(Debug, Serialize)]
pub(crate) struct WarningEntry {
    /// Null: the whole study.
    pub(crate) site: Option<String>,
    pub(crate) message: String,
    pub(crate) at_ms: u64,
}

/// Brings the facts into the form of the document.
pub(crate) fn summary(context: &StudyContext, facts: &Facts) -> Result<Summary, ReportError> {
    let study = context.study();
    let plan = facts.plan.as_ref();
    let last = facts.final_metric(context);
    let overlap = study.federation.max_overlap;
    let spent = facts.spent(Protection::SensitiveValues, overlap)?;
    let whole = context.protects() == Protection::WholeRecords;
    let records = whole.then(|| facts.spent(Protection::WholeRecords, overlap)).transpose()?;
    Ok(Summary {
        study: study_facts(context, facts),
        sites: facts.sites.iter().filter(|site| site.units > 0).count(),
        site_details: facts
            .sites
            .iter()
            .map(|site| site_detail(facts, (&spent, records.as_ref()), site))
            .collect(),
        auroc: last.and_then(|metric| metric.auroc),
        aupr: last.and_then(|metric| metric.aupr),
        brier: last.and_then(|metric| metric.brier),
        auroc_error: last.and_then(|metric| metric.noise).and_then(|noise| noise.auroc_error),
        evaluated: last.map(|metric| evaluated(facts, metric)),
        evaluated_sites: last.map(|metric| pooled_sites(facts, metric)),
        epsilon: spent.total,
        records_epsilon: records.as_ref().map(|records| records.total),
        record_protection: plan.and_then(|plan| plan.records.as_ref()).map(record_protection),
        delta: study.privacy.delta.get(),
        counts: counts(context, facts)?,
        rounds: facts.study.rounds_applied,
        seconds: facts.seconds(),
        noise_multiplier: plan.and_then(|plan| plan.noise_multiplier).map(|noise| noise.get()),
        sampling_probability: plan.map(|plan| plan.sampling_probability.get()),
        clip_norm: study.privacy.clip_norm.get(),
        headline_relation: headline_relation(&study.privacy.target),
        max_overlap: overlap,
        planned_epsilon: plan.map(planned),
        participation: facts.participation.iter().map(participation).collect(),
        losses: losses(facts),
        metrics: facts.metrics.iter().map(|metric| metric_entry(facts, metric)).collect(),
        warnings: warnings(facts, overlap, &spent),
        profiles: spent.steps.as_ref().map(Profiles::of_steps).transpose()?,
    })
}

fn record_protection(records: &RecordsPlan) -> RecordProtection {
    RecordProtection {
        noise_multiplier: records.noise_multiplier.get(),
        sampling_probability: records.sampling_probability.get(),
        clip_norm: records.clip_norm.get(),
        planned_epsilon: EpsilonPair {
            replace: records.epsilon_replace.get(),
            zero_out: records.epsilon_zero_out.get(),
        },
    }
}

fn counts(context: &StudyContext, facts: &Facts) -> Result<Option<Counts>, ReportError> {
    let study = context.study();
    let whole = context.protects() == Protection::WholeRecords;
    let spent = facts.counts_spent(study.privacy.delta, study.federation.max_overlap.max(1), whole)?;
    let Some((spent, asked)) = spent.zip(study.evaluation.noisy()) else { return Ok(None) };
    let cohort =
        |one: CohortSpent| CohortCounts { cohort: one.cohort, tables: one.tables, epsilon: one.epsilon };
    Ok(Some(Counts {
        noise_multiplier: asked.noise_multiplier.get(),
        cohorts: spent.cohorts.into_iter().map(cohort).collect(),
        epsilon_with_training: spent.with_training,
        records_epsilon_with_training: spent.records_with_training,
    }))
}

fn headline_relation(target: &PrivacyTarget) -> NeighboringRelation {
    match *target {
        PrivacyTarget::Epsilon { relation, .. } => relation,
        PrivacyTarget::NoiseMultiplier { .. } => NeighboringRelation::Replace,
    }
}

fn planned(plan: &Plan) -> EpsilonPair {
    EpsilonPair { replace: plan.epsilon_replace.get(), zero_out: plan.epsilon_zero_out.get() }
}

fn warnings(facts: &Facts, overlap: u32, spent: &Spent) -> Vec<WarningEntry> {
    let mut warnings: Vec<WarningEntry> = facts.warnings.iter().map(warning).collect();
    warnings.extend(facts.claims.iter().filter_map(|claim| unreported_warning(facts, claim)));
    if spent.at_larger_delta {
        let message = format!(
            "some charges of the {overlap} worst sites were not mirrored: the consortium's epsilons are sums of the \
             sites' own figures and hold at {overlap} times delta"
        );
        warnings.push(WarningEntry { site: None, message, at_ms: facts.made_ms });
    }
    warnings
}

fn study_facts(context: &StudyContext, facts: &Facts) -> StudyFacts {
    let row = &facts.study;
    StudyFacts {
        id: row.id.to_string(),
        name: row.name.clone(),
        digest: row.digest.to_string(),
        consortium: facts.consortium.clone(),
        mode: context.study().fusion.mode.to_string(),
        state: row.state.to_string(),
        detail: row.detail.clone(),
        rounds_planned: row.rounds,
        submitted_ms: row.submitted_ms,
        started_ms: row.started_ms,
        ended_ms: row.ended_ms,
        model_digest: facts.model.as_ref().map(|model| model.digest.to_string()),
        imputer_digest: context.study().imputer.sha256().map(|digest| digest.to_string()),
    }
}

fn site_detail(
    facts: &Facts,
    (spent, records): (&Spent, Option<&Spent>),
    site: &crate::store::StudySiteRow,
) -> SiteDetail {
    let unreported = unreported(facts, &site.site);
    let claimed = EpsilonPair { replace: site.epsilon_replace, zero_out: site.epsilon_zero_out };
    let of_records = EpsilonPair { replace: site.records_replace, zero_out: site.records_zero_out };
    let own = || facts.updates.iter().filter(|update| update.site == site.site && update.events > 0);
    let point = |update: &crate::store::UpdateRow| EpsilonPoint {
        round: update.round,
        replace: update.epsilon_replace,
        zero_out: update.epsilon_zero_out,
    };
    let over_all = |of: fn(&crate::store::UpdateRow) -> f64| own().map(of).fold(0.0, f64::max);
    SiteDetail {
        site: site.site.to_string(),
        state: site.standing.as_str(),
        detail: site.detail.clone(),
        units: site.units,
        records: site.records,
        rounds_contributed: site.rounds_contributed,
        rounds_missed: site.rounds_missed,
        epsilon: spent.sites.get(&site.site).copied().unwrap_or(claimed),
        epsilon_claimed: claimed,
        records_epsilon: records.map(|spent| spent.sites.get(&site.site).copied().unwrap_or(of_records)),
        records_epsilon_claimed: records.map(|_| of_records),
        unreported_attempts: unreported,
        data_epsilon: own().next().map(|_| EpsilonPair {
            replace: over_all(|update| update.data_epsilon_replace),
            zero_out: over_all(|update| update.data_epsilon_zero_out),
        }),
        mirror_complete: site.mirror_gaps == 0 && unreported == 0,
        epsilon_by_round: own().map(point).collect(),
    }
}

fn unreported(facts: &Facts, site: &SiteId) -> u64 {
    facts.claims.iter().find(|claim| claim.site == *site).map_or(0, |claim| claim.unreported)
}

/// Nobody but the site knows what it has charged for tasks that brought no update.
fn unreported_warning(facts: &Facts, claim: &Claim) -> Option<WarningEntry> {
    let attempts = match claim.unreported {
        0 => return None,
        1 => "1 task with a private part".to_owned(),
        more => format!("{more} tasks with a private part"),
    };
    let message = format!(
        "{attempts} brought no update; its figure counts one charge for each, and its ledger knows what was charged"
    );
    Some(WarningEntry { site: Some(claim.site.to_string()), message, at_ms: facts.made_ms })
}

fn participation(row: &crate::store::ParticipationRow) -> Participation {
    Participation {
        round: row.round,
        attempt: row.attempt,
        site: row.site.to_string(),
        outcome: row.outcome.as_str(),
        detail: row.detail.clone(),
    }
}

fn losses(facts: &Facts) -> Vec<Loss> {
    let loss = |row: &crate::store::RoundRow| row.public_loss.map(|loss| (row.key.round, loss));
    let of = |(round, public_loss)| Loss { round, public_loss };
    facts.rounds.iter().filter_map(loss).map(of).collect()
}

fn evaluated(facts: &Facts, metric: &crate::store::MetricRow) -> Evaluated {
    Evaluated {
        cohort: metric.cohort.to_string(),
        round: metric.round,
        of_final_model: metric.model_version == facts.study.final_version,
    }
}

fn pooled_sites(facts: &Facts, pooled: &crate::store::MetricRow) -> usize {
    let same = |metric: &&crate::store::MetricRow| {
        metric.site.is_some()
            && metric.model_version == pooled.model_version
            && metric.cohort == pooled.cohort
    };
    facts.metrics.iter().filter(same).count()
}

fn metric_entry(facts: &Facts, metric: &crate::store::MetricRow) -> MetricEntry {
    MetricEntry {
        round: metric.round,
        cohort: metric.cohort.to_string(),
        site: metric.site.as_ref().map(ToString::to_string),
        of_final_model: metric.model_version == facts.study.final_version,
        records: metric.records,
        positives: metric.positives,
        auroc: metric.auroc,
        aupr: metric.aupr,
        brier: metric.brier,
        log_loss: metric.log_loss,
        noisy: metric.noise.is_some(),
        auroc_error: metric.noise.and_then(|noise| noise.auroc_error),
        positives_error: metric.noise.map(|noise| noise.positives_error),
    }
}

fn warning(row: &crate::store::WarningRow) -> WarningEntry {
    WarningEntry {
        site: row.site.as_ref().map(ToString::to_string),
        message: row.message.clone(),
        at_ms: row.at_ms,
    }
}

impl MetricEntry {
    /// The AUROC, with its standard error where counts have noise.
    pub(crate) fn shown_auroc(&self) -> Option<String> {
        self.auroc.map(|auroc| with_error(auroc, self.auroc_error))
    }

    /// How many have label 1, with the standard error where counts have noise.
    pub(crate) fn shown_positives(&self) -> String {
        match self.positives_error {
            None => count(self.positives),
            Some(error) => format!("{} ± {error:.0}", count(self.positives)),
        }
    }
}

fn with_error(auroc: f64, error: Option<f64>) -> String {
    match error {
        None => share(auroc),
        Some(error) => format!("{} ± {}", share(auroc), share(error)),
    }
}

impl Summary {
    /// What the headline figures were measured on.
    pub(crate) fn evaluated_on(&self) -> String {
        match &self.evaluated {
            None => "not evaluated".to_owned(),
            Some(on) if on.of_final_model => on.cohort.clone(),
            Some(on) => format!("{}, round {}", on.cohort, on.round),
        }
    }

    /// The headline AUROC, with its standard error where counts have noise.
    pub(crate) fn shown_auroc(&self) -> Option<String> {
        self.auroc.map(|auroc| with_error(auroc, self.auroc_error))
    }

    /// The headline epsilon with its relation, rounded up.
    pub(crate) fn headline(&self) -> String {
        match self.headline_relation {
            NeighboringRelation::Replace => format!("{} (replace)", epsilon(self.epsilon.replace)),
            NeighboringRelation::ZeroOut => format!("{} (zero_out)", epsilon(self.epsilon.zero_out)),
        }
    }
}
