//! Evaluation task and report.

use fusiondp_proto::v1;

use super::ConvertError;
use super::checks::{digest, digest_bytes, fraction, non_negative, parsed, within};
use crate::messages::{EvaluationReport, EvaluationTask, HISTOGRAM_BINS};
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

impl TryFrom<v1::EvaluationReport> for EvaluationReport {
    type Error = ConvertError;

    fn try_from(wire: v1::EvaluationReport) -> Result<Self, ConvertError> {
        let records = within("EvaluationReport.records", wire.records, 1..=SiteSize::MAX)?;
        let positives = within("EvaluationReport.positives", wire.positives, 0..=records)?;
        histogram("EvaluationReport.positive_counts", &wire.positive_counts, positives)?;
        histogram("EvaluationReport.negative_counts", &wire.negative_counts, records - positives)?;
        Ok(Self {
            study_id: parsed("EvaluationReport.study_id", &wire.study_id)?,
            model_version: wire.model_version,
            cohort: parsed("EvaluationReport.cohort", &wire.cohort)?,
            records,
            positives,
            brier: fraction("EvaluationReport.brier", wire.brier)?,
            log_loss: non_negative("EvaluationReport.log_loss", wire.log_loss)?,
            positive_counts: wire.positive_counts,
            negative_counts: wire.negative_counts,
        })
    }
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

impl From<EvaluationReport> for v1::EvaluationReport {
    fn from(report: EvaluationReport) -> Self {
        Self {
            study_id: report.study_id.into(),
            model_version: report.model_version,
            cohort: report.cohort.into(),
            records: report.records,
            positives: report.positives,
            brier: report.brier,
            log_loss: report.log_loss,
            positive_counts: report.positive_counts,
            negative_counts: report.negative_counts,
        }
    }
}
