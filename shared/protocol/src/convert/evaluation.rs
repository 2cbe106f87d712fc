//! Evaluation task and report.

use bytes::Bytes;
use fusiondp_dp::SignedEntry;
use fusiondp_proto::v1;

use super::ConvertError;
use super::checks::{at_most, digest, digest_bytes, fraction, invalid, non_negative, parsed, within};
use crate::messages::{
    EvaluationReport, EvaluationTask, HISTOGRAM_BINS, MetricSummary, NoisyCounts, ReleasedMetrics,
};
use crate::plan::SiteSize;

impl TryFrom<v1::EvaluationTask> for EvaluationTask {
    type Error = ConvertError;

    fn try_from(wire: v1::EvaluationTask) -> Result<Self, ConvertError> {
        Ok(Self {
            study_id: parsed("EvaluationTask.study_id", &wire.study_id)?,
            study_digest: digest("EvaluationTask.study_digest", &wire.study_digest)?,
            model_version: wire.model_version,
            model_digest: digest("EvaluationTask.model_digest", &wire.model_digest)?,
            cohort: parsed("EvaluationTask.cohort", &wire.cohort)?,
            deadline_ms: wire.deadline_ms,
        })
    }
}

impl From<EvaluationTask> for v1::EvaluationTask {
    fn from(task: EvaluationTask) -> Self {
        Self {
            study_id: task.study_id.into(),
            study_digest: digest_bytes(&task.study_digest),
            model_version: task.model_version,
            model_digest: digest_bytes(&task.model_digest),
            cohort: task.cohort.into(),
            deadline_ms: task.deadline_ms,
        }
    }
}

/// Longest canonical JSON of a signed ledger entry, in bytes: two texts of 1,024 bytes, a cohort, and numbers.
const MAX_CHARGE_BYTES: usize = 16 << 10;

impl TryFrom<v1::EvaluationReport> for EvaluationReport {
    type Error = ConvertError;

    fn try_from(wire: v1::EvaluationReport) -> Result<Self, ConvertError> {
        Ok(Self {
            study_id: parsed("EvaluationReport.study_id", &wire.study_id)?,
            model_version: wire.model_version,
            cohort: parsed("EvaluationReport.cohort", &wire.cohort)?,
            metrics: match wire.noisy_charge.is_empty() {
                true => ReleasedMetrics::Summary(summary(wire)?),
                false => ReleasedMetrics::Noisy(Box::new(noisy(wire)?)),
            },
        })
    }
}

fn summary(wire: v1::EvaluationReport) -> Result<MetricSummary, ConvertError> {
    if !wire.noisy_counts.is_empty() || wire.noisy_units != 0 {
        return Err(ConvertError::Missing { field: "EvaluationReport.noisy_charge" });
    }
    let records = within("EvaluationReport.records", wire.records, 1..=SiteSize::MAX)?;
    let positives = within("EvaluationReport.positives", wire.positives, 0..=records)?;
    histogram("EvaluationReport.positive_counts", &wire.positive_counts, positives)?;
    histogram("EvaluationReport.negative_counts", &wire.negative_counts, records - positives)?;
    Ok(MetricSummary {
        records,
        positives,
        brier: fraction("EvaluationReport.brier", wire.brier)?,
        log_loss: non_negative("EvaluationReport.log_loss", wire.log_loss)?,
        positive_counts: wire.positive_counts,
        negative_counts: wire.negative_counts,
    })
}

/// A histogram has the agreed bins and holds each record once.
fn histogram(field: &'static str, counts: &[u64], records: u64) -> Result<(), ConvertError> {
    within(field, counts.len(), HISTOGRAM_BINS..=HISTOGRAM_BINS)?;
    let sum: u128 = counts.iter().map(|&count| u128::from(count)).sum();
    if sum == u128::from(records) {
        return Ok(());
    }
    Err(ConvertError::Contradiction { field, problem: "the bins do not add up to the records of that label" })
}

/// What leaves with noise leaves alone: an exact figure beside it would undo it.
fn noisy(wire: v1::EvaluationReport) -> Result<NoisyCounts, ConvertError> {
    let exact = wire.records != 0
        || wire.positives != 0
        || wire.brier != 0.0
        || wire.log_loss != 0.0
        || !wire.positive_counts.is_empty()
        || !wire.negative_counts.is_empty();
    if exact {
        let problem = "noisy counts come without figures in the clear";
        return Err(ConvertError::Contradiction { field: "EvaluationReport.noisy_counts", problem });
    }
    const COUNTS: &str = "EvaluationReport.noisy_counts";
    within(COUNTS, wire.noisy_counts.len(), 4..=NoisyCounts::MAX_CELLS)?;
    for &count in &wire.noisy_counts {
        within(COUNTS, count, -NoisyCounts::MAX_COUNT..=NoisyCounts::MAX_COUNT)?;
    }
    Ok(NoisyCounts {
        units: within("EvaluationReport.noisy_units", wire.noisy_units, 1..=SiteSize::MAX)?,
        charge: charge(&wire.noisy_charge)?,
        counts: wire.noisy_counts,
    })
}

/// A charge in its one canonical form: what is kept is what the site has signed.
fn charge(json: &Bytes) -> Result<SignedEntry, ConvertError> {
    const FIELD: &str = "EvaluationReport.noisy_charge";
    at_most(FIELD, json.len(), MAX_CHARGE_BYTES)?;
    let charge: SignedEntry = serde_json::from_slice(json).map_err(|error| invalid(FIELD, error))?;
    if charge.canonical_json().as_bytes() != json.as_ref() {
        return Err(invalid(FIELD, "not in canonical form; send the bytes that the ledger holds"));
    }
    Ok(charge)
}

impl From<EvaluationReport> for v1::EvaluationReport {
    fn from(report: EvaluationReport) -> Self {
        let wire = Self {
            study_id: report.study_id.into(),
            model_version: report.model_version,
            cohort: report.cohort.into(),
            ..Self::default()
        };
        match report.metrics {
            ReleasedMetrics::Summary(summary) => Self {
                records: summary.records,
                positives: summary.positives,
                brier: summary.brier,
                log_loss: summary.log_loss,
                positive_counts: summary.positive_counts,
                negative_counts: summary.negative_counts,
                ..wire
            },
            ReleasedMetrics::Noisy(noisy) => Self {
                noisy_units: noisy.units,
                noisy_charge: Bytes::from(noisy.charge.canonical_json()),
                noisy_counts: noisy.counts,
                ..wire
            },
        }
    }
}
