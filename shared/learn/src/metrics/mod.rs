//! How well logits separate and predict labels.
//!
//! * [`auroc`], [`aupr`], [`brier`], [`log_loss`]: over the records of one site
//! * [`LogitHistogram`]: counts by logit that sites can pool without exchanging records
//! * [`NoisyTable`]: counts that carry noise, and figures with the error that it gives them
//!
//! All functions take logits, `[N]`, and labels 0 or 1, `[N]`; records of equal logit are one threshold.

mod histogram;
mod noisy;
mod ranking;

pub use histogram::LogitHistogram;
pub use noisy::{Estimate, NoisyTable};
use ranking::Group;
use thiserror::Error;

/// Why a metric has no value.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MetricError {
    /// Scores and labels differ in number.
    #[error("{logits} logits and {labels} labels; pass one label per logit")]
    Length {
        /// Logits given.
        logits: usize,
        /// Labels given.
        labels: usize,
    },
    /// A logit that is NaN.
    #[error(
        "the logit of row {row} (from 0) is NaN; a model with such output has diverged and has no metrics"
    )]
    NotANumber {
        /// Row, counted from 0.
        row: usize,
    },
    /// A label other than 0 and 1.
    #[error("the label of row {row} (from 0) is neither 0 nor 1")]
    Label {
        /// Row, counted from 0.
        row: usize,
    },
    /// No record of one class, or none at all.
    #[error("no record has label {class}; the metric needs records of both classes")]
    ClassAbsent {
        /// The absent class.
        class: u8,
    },
    /// A histogram with another number of bins.
    #[error(
        "a histogram of {found} bins, {} wanted; both ends must follow the same protocol version",
        LogitHistogram::BINS
    )]
    Bins {
        /// Bins given.
        found: usize,
    },
    /// More counts than fit.
    #[error("the counts of a histogram exceed 2^64; the sender's counts are wrong")]
    Overflow,
}

/// Area under the receiver operating characteristic: the probability that a positive record scores above a negative
/// one, ties counting one half. In `[0, 1]`.
///
/// # Errors
/// Unequal lengths, NaN, a label other than 0 and 1, or an absent class.
pub fn auroc(logits: &[f32], labels: &[f32]) -> Result<f64, MetricError> {
    ranking::auroc(groups(logits, labels)?)
}

/// Average precision: the sum over thresholds of the gain in recall times the precision there, in `[0, 1]`. Not
/// interpolated; agrees with scikit-learn's `average_precision_score`.
///
/// # Errors
/// Unequal lengths, NaN, a label other than 0 and 1, or an absent class.
pub fn aupr(logits: &[f32], labels: &[f32]) -> Result<f64, MetricError> {
    ranking::aupr(groups(logits, labels)?)
}

/// Brier score: mean squared error of the probability, in `[0, 1]`.
///
/// # Errors
/// Unequal lengths, NaN, a label other than 0 and 1, or no record.
pub fn brier(logits: &[f32], labels: &[f32]) -> Result<f64, MetricError> {
    mean(logits, labels, |logit, label| (probability(logit) - label).powi(2))
}

/// Mean negative log-likelihood in nats, >= 0, computed from the logit, so that a confident error stays finite.
///
/// # Errors
/// Unequal lengths, NaN, a label other than 0 and 1, or no record.
pub fn log_loss(logits: &[f32], labels: &[f32]) -> Result<f64, MetricError> {
    mean(logits, labels, |logit, label| logit.max(0.0) - logit * label + libm::log1p(libm::exp(-logit.abs())))
}

fn probability(logit: f64) -> f64 {
    1.0 / (1.0 + libm::exp(-logit))
}

fn mean(logits: &[f32], labels: &[f32], loss: impl Fn(f64, f64) -> f64) -> Result<f64, MetricError> {
    check(logits, labels)?;
    if logits.is_empty() {
        return Err(MetricError::ClassAbsent { class: 1 });
    }
    let total: f64 = logits.iter().zip(labels).map(|(&z, &y)| loss(f64::from(z), f64::from(y))).sum();
    Ok(total / logits.len() as f64)
}

/// Counts per distinct logit, highest first.
fn groups(logits: &[f32], labels: &[f32]) -> Result<Vec<Group>, MetricError> {
    check(logits, labels)?;
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_unstable_by(|&a, &b| logits[b].total_cmp(&logits[a]));
    let mut groups = Vec::new();
    for tied in order.chunk_by(|&a, &b| logits[a] == logits[b]) {
        let positives = tied.iter().filter(|&&row| labels[row] == 1.0).count() as u64;
        groups.push(Group { positives, negatives: tied.len() as u64 - positives });
    }
    Ok(groups)
}

fn check(logits: &[f32], labels: &[f32]) -> Result<(), MetricError> {
    if logits.len() != labels.len() {
        return Err(MetricError::Length { logits: logits.len(), labels: labels.len() });
    }
    if let Some(row) = logits.iter().position(|logit| logit.is_nan()) {
        return Err(MetricError::NotANumber { row });
    }
    match labels.iter().position(|&label| label != 0.0 && label != 1.0) {
        Some(row) => Err(MetricError::Label { row }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
