//! Checks of one report of metrics that need no store.

use fusiondp_dp::{Digest, DpEvent, Released};
use fusiondp_protocol::study::{MetricRelease, NoisyMetrics};
use fusiondp_protocol::{EvaluationReport, NoisyCounts, ReleasedMetrics};

use super::errors::ApiError;
use super::update::malformed;
use crate::store::StudySiteRow;
use crate::study::StudyContext;

/// What a report must agree with.
pub(super) struct Expected<'a> {
    pub(super) context: &'a StudyContext,
    /// The site as it has enrolled.
    pub(super) enrolled: &'a StudySiteRow,
    /// Of the model version that the report names, while that is kept: a late report may be of an older one.
    pub(super) model_digest: Option<Digest>,
}

/// The report is of the kind that the study releases, and noisy counts are paid for: by a charge that the site has signed,
/// of this evaluation, with the study's noise.
pub(super) fn check_report(expected: &Expected<'_>, report: &EvaluationReport) -> Result<(), ApiError> {
    let evaluation = &expected.context.study().evaluation;
    match (&report.metrics, evaluation.release, evaluation.noisy()) {
        (ReleasedMetrics::Summary(_), MetricRelease::Summary, _) => Ok(()),
        (ReleasedMetrics::Noisy(counts), _, Some(asked)) => check_counts(expected, report, counts, asked),
        _ => Err(malformed(
            "the study does not release metrics in this way; the site must follow evaluation.release of the study",
        )),
    }
}

fn check_counts(
    expected: &Expected<'_>,
    report: &EvaluationReport,
    counts: &NoisyCounts,
    asked: NoisyMetrics<'_>,
) -> Result<(), ApiError> {
    let Expected { context, enrolled, model_digest } = expected;
    let cells = asked.edges.cells();
    if counts.counts.len() != cells {
        let found = counts.counts.len();
        return Err(malformed(format!(
            "{found} noisy counts, evaluation.edges make {cells} cells; send these"
        )));
    }
    let key = enrolled.ledger_key.ok_or_else(|| malformed("the site has enrolled without a ledger key"))?;
    counts.charge.verify(&key).map_err(|error| malformed(format!("the charge of the counts: {error}")))?;
    let charge = counts.charge.entry.charge();
    let one = DpEvent::GaussianHistogram {
        noise_multiplier: asked.noise_multiplier,
        steps: std::num::NonZeroU32::MIN,
    };
    let cohort = Released::Counts { cohort: report.cohort.to_string() };
    let wrong = [
        ("study", charge.study != context.id().as_str()),
        ("study_digest", charge.study_digest != context.digest()),
        ("event", charge.event != one),
        ("released", charge.released != cohort),
        ("protects", charge.protects != context.protects()),
        ("units", charge.units != counts.units),
        ("model_digest", model_digest.is_some_and(|digest| charge.model_digest != digest)),
    ];
    match wrong.iter().find(|(_, wrong)| *wrong) {
        None => Ok(()),
        Some((field, _)) => Err(malformed(format!(
            "the charge of the counts: {field} is not that of the evaluation; charge each table of its own"
        ))),
    }
}

#[cfg(test)]
mod tests;
