//! Metrics of one model version on one cohort of one site.

use fusiondp_dp::Digest;

use crate::ids::{CohortName, StudyId};

/// Bins of a report's histograms: equal bins of the logit over `[-16, 16]`, the outermost open.
pub const HISTOGRAM_BINS: usize = 4096;

/// Evaluate one model version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvaluationTask {
    /// The study.
    pub study_id: StudyId,
    /// Digest of its document.
    pub study_digest: Digest,
    /// The model version to fetch.
    pub model_version: u64,
    /// SHA-256 of its parameter bytes.
    pub model_digest: Digest,
    /// The records to evaluate on.
    pub cohort: CohortName,
    /// When the coordinator goes on without this site, Unix milliseconds.
    pub deadline_ms: u64,
}

/// Metrics in the clear, not covered by any guarantee. Conversion has checked that the histograms have
/// [`HISTOGRAM_BINS`] bins and add up to `positives` and `records - positives`.
#[derive(Debug, Clone, PartialEq)]
pub struct EvaluationReport {
    /// The study.
    pub study_id: StudyId,
    /// The model version.
    pub model_version: u64,
    /// The cohort.
    pub cohort: CohortName,
    /// Records evaluated, >= 1.
    pub records: u64,
    /// Those with label 1.
    pub positives: u64,
    /// Mean squared error of the probability, `[0, 1]`.
    pub brier: f64,
    /// Mean negative log likelihood, finite, >= 0.
    pub log_loss: f64,
    /// Positives by bin of the logit.
    pub positive_counts: Vec<u64>,
    /// Negatives by bin of the logit.
    pub negative_counts: Vec<u64>,
}
