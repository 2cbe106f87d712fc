//! Metrics of one model version on one cohort of one site.

use fusiondp_dp::{Digest, SignedEntry};
use serde::{Deserialize, Serialize};

use crate::ids::{CohortName, StudyId};
use crate::study::ScoreEdges;

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

/// What one site released of one evaluation.
#[derive(Debug, Clone, PartialEq)]
pub struct EvaluationReport {
    /// The study.
    pub study_id: StudyId,
    /// The model version.
    pub model_version: u64,
    /// The cohort.
    pub cohort: CohortName,
    /// What was released.
    pub metrics: ReleasedMetrics,
}

/// Metrics as they left a site.
#[derive(Debug, Clone, PartialEq)]
pub enum ReleasedMetrics {
    /// In the clear.
    Summary(MetricSummary),
    /// With noise.
    Noisy(Box<NoisyCounts>),
}

/// Metrics in the clear, not covered by any guarantee. Conversion has checked that the histograms have
/// [`HISTOGRAM_BINS`] bins and add up to `positives` and `records - positives`.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricSummary {
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

/// Counts with noise, and what paid for them. Whether they are what the study asks for is for whoever has the study.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoisyCounts {
    /// Privacy units of the cohort, >= 1; public.
    pub units: u64,
    /// Noisy counts of units by cell ([`ScoreEdges::cell`]), in multiples of 2^-28; conversion has checked that they are
    /// a table and cannot overflow.
    pub counts: Vec<i64>,
    /// The signed ledger entry of the charge.
    pub charge: SignedEntry,
}

impl NoisyCounts {
    /// Most cells of a table.
    pub const MAX_CELLS: usize = 2 * (ScoreEdges::MAX + 1);

    /// Largest noisy count, on either side of 0: 2^61, far more than units and noise can make.
    pub const MAX_COUNT: i64 = 1 << 61;

    /// The counts in units, one per cell.
    #[must_use]
    pub fn in_units(&self) -> Vec<f64> {
        let unit = fusiondp_dp::HistogramStep::UNIT as f64;
        self.counts.iter().map(|&count| count as f64 / unit).collect()
    }
}
