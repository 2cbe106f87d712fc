//! Metrics of one model version on one cohort, in the real view.
//!
//! They are computed on true values and leave without noise: no epsilon covers them, and nothing of them is computed
//! without a [`MetricsPermit`].

use fusiondp_learn::metrics::{LogitHistogram, MetricError, brier, log_loss};
use fusiondp_learn::model::{Model, ModelError, View, Workspace};
use fusiondp_protocol::messages::{EvaluationReport, EvaluationTask};

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
        records: labels.len() as u64,
        positives: labels.iter().filter(|label| **label == 1.0).count() as u64,
        brier: brier(&logits, labels)?,
        log_loss: log_loss(&logits, labels)?,
        positive_counts: histogram.positives().to_vec(),
        negative_counts: histogram.negatives().to_vec(),
    };
    permit.consume();
    Ok(report)
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
