//! Metrics of one model version on one cohort, in the real view.
//!
//! They are computed on true values. In the clear no epsilon covers them, and nothing of them is computed without a
//! [`MetricsPermit`]; with noise they are counts, and nothing is counted without a committed charge.

use fusiondp_dp::{CommittedCharge, HistogramRelease, HistogramStep, SecureRng, StepError};
use fusiondp_learn::metrics::{LogitHistogram, MetricError, brier, log_loss};
use fusiondp_learn::model::{Model, ModelError, View, Workspace};
use fusiondp_protocol::messages::{EvaluationReport, EvaluationTask, MetricSummary, ReleasedMetrics};
use fusiondp_protocol::study::ScoreEdges;

use crate::policy::MetricsPermit;
use crate::train::session::CohortRecords;

/// Records that pass through the model at once.
const CHUNK_ROWS: usize = 4_096;

/// Why there are no metrics.
#[derive(Debug, thiserror::Error)]
pub enum EvaluateError {
    /// The model refuses.
    #[error("the model cannot be evaluated: {0}")]
    Model(#[from] ModelError),
    /// The logits have no metrics.
    #[error("the metrics have no value: {0}")]
    Metric(#[from] MetricError),
    /// The table of counts.
    #[error("the counts cannot be released: {0}")]
    Counts(#[from] StepError),
}

/// Evaluates `params` on a cohort. Blocking CPU work.
///
/// # Errors
/// The model does not fit its parameters, or has diverged.
pub fn evaluate(
    permit: MetricsPermit,
    task: &EvaluationTask,
    model: &Model,
    params: &[f32],
    cohort: &CohortRecords,
) -> Result<EvaluationReport, EvaluateError> {
    let logits = logits(model, params, &cohort.view)?;
    let labels = cohort.labels.as_slice();
    let histogram = LogitHistogram::of(&logits, labels)?;
    let report = EvaluationReport {
        study_id: task.study_id.clone(),
        model_version: task.model_version,
        cohort: task.cohort.clone(),
        metrics: ReleasedMetrics::Summary(MetricSummary {
            records: labels.len() as u64,
            positives: labels.iter().filter(|label| **label == 1.0).count() as u64,
            brier: brier(&logits, labels)?,
            log_loss: log_loss(&logits, labels)?,
            positive_counts: histogram.positives().to_vec(),
            negative_counts: histogram.negatives().to_vec(),
        }),
    };
    permit.consume();
    Ok(report)
}

/// Counts the units of a cohort by label and interval of the logit, with noise. Blocking CPU work.
///
/// # Errors
/// The charge is not for this table, or the model does not fit its parameters; nothing is released then, and the charge stays
/// spent. No record's values are a reason to fail: a failure would tell of them.
pub fn noisy_counts(
    (charge, rng): (CommittedCharge, SecureRng),
    edges: &ScoreEdges,
    model: &Model,
    params: &[f32],
    cohort: &CohortRecords,
) -> Result<HistogramRelease, EvaluateError> {
    let mut step = HistogramStep::begin(charge, cohort.units.count(), edges.cells(), rng)?;
    let logits = logits(model, params, &cohort.view)?;
    for unit in 0..cohort.units.count() {
        let rows = cohort.units.rows(unit);
        let cells: Vec<usize> = rows.map(|row| edges.cell(logits[row], cohort.labels[row] == 1.0)).collect();
        step.add_unit(&cells)?;
    }
    Ok(step.release()?)
}

fn logits(model: &Model, params: &[f32], view: &View<f32>) -> Result<Vec<f32>, ModelError> {
    let mut workspace = Workspace::default();
    let mut chunk = View::empty(model.input_shape());
    let mut logits = Vec::with_capacity(view.rows());
    for start in (0..view.rows()).step_by(CHUNK_ROWS) {
        let rows: Vec<usize> = (start..view.rows().min(start + CHUNK_ROWS)).collect();
        view.select(&rows, &mut chunk);
        logits.extend(model.logits(params, &chunk, &mut workspace)?);
    }
    Ok(logits)
}
