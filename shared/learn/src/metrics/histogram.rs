//! Counts of records by logit.

use super::{MetricError, check, ranking, ranking::Group};

/// Counts of positive and negative records in [`LogitHistogram::BINS`] equal bins over `[-16, 16]`, the outermost
/// bins open. Sites send these counts, and the coordinator pools them; records of one bin count as tied, so pooled
/// figures differ from exact ones by less than a bin's share of the records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogitHistogram {
    positives: Vec<u64>,
    negatives: Vec<u64>,
}

impl LogitHistogram {
    /// Number of bins.
    pub const BINS: usize = 4096;
    /// Lower end of the first bin; the upper end of the last is its negative.
    pub const LOW: f32 = -16.0;

    /// A histogram of no records.
    pub fn new() -> Self {
        Self { positives: vec![0; Self::BINS], negatives: vec![0; Self::BINS] }
    }

    /// Counts logits, `[N]`, by label, `[N]`, 0 or 1.
    ///
    /// # Errors
    /// Unequal lengths, NaN, or a label other than 0 and 1; then nothing is counted.
    pub fn of(logits: &[f32], labels: &[f32]) -> Result<Self, MetricError> {
        check(logits, labels)?;
        let mut histogram = Self::new();
        for (&logit, &label) in logits.iter().zip(labels) {
            let counts = if label == 1.0 { &mut histogram.positives } else { &mut histogram.negatives };
            counts[bin(logit)] += 1;
        }
        Ok(histogram)
    }

    /// A histogram from counts that came over the wire, lowest bin first.
    ///
    /// # Errors
    /// [`MetricError::Bins`] for a wrong number of counts, [`MetricError::Overflow`] if their sum exceeds 2^64.
    pub fn from_counts(positives: Vec<u64>, negatives: Vec<u64>) -> Result<Self, MetricError> {
        for counts in [&positives, &negatives] {
            if counts.len() != Self::BINS {
                return Err(MetricError::Bins { found: counts.len() });
            }
        }
        let all = positives.iter().chain(&negatives);
        all.copied().try_fold(0u64, u64::checked_add).ok_or(MetricError::Overflow)?;
        Ok(Self { positives, negatives })
    }

    /// Adds another site's counts.
    ///
    /// # Errors
    /// [`MetricError::Overflow`] if a sum exceeds 2^64; then nothing is added.
    pub fn merge(&mut self, other: &Self) -> Result<(), MetricError> {
        let sum = |ours: &[u64], theirs: &[u64]| -> Option<Vec<u64>> {
            ours.iter().zip(theirs).map(|(a, b)| a.checked_add(*b)).collect()
        };
        let positives = sum(&self.positives, &other.positives).ok_or(MetricError::Overflow)?;
        let negatives = sum(&self.negatives, &other.negatives).ok_or(MetricError::Overflow)?;
        *self = Self::from_counts(positives, negatives)?;
        Ok(())
    }

    /// Counts of positive records, lowest bin first.
    pub fn positives(&self) -> &[u64] {
        &self.positives
    }

    /// Counts of negative records, lowest bin first.
    pub fn negatives(&self) -> &[u64] {
        &self.negatives
    }

    /// [`super::auroc`] with records of one bin tied.
    ///
    /// # Errors
    /// [`MetricError::ClassAbsent`].
    pub fn auroc(&self) -> Result<f64, MetricError> {
        ranking::auroc(self.groups())
    }

    /// [`super::aupr`] with records of one bin tied.
    ///
    /// # Errors
    /// [`MetricError::ClassAbsent`].
    pub fn aupr(&self) -> Result<f64, MetricError> {
        ranking::aupr(self.groups())
    }

    fn groups(&self) -> Vec<Group> {
        let counts = self.positives.iter().zip(&self.negatives).rev();
        counts.map(|(&positives, &negatives)| Group { positives, negatives }).collect()
    }
}

impl Default for LogitHistogram {
    fn default() -> Self {
        Self::new()
    }
}

/// Bin of a logit that is not NaN. The bin width 1/128 is a power of two, so edges are exact in f32.
fn bin(logit: f32) -> usize {
    let per_unit = LogitHistogram::BINS as f32 / (-2.0 * LogitHistogram::LOW);
    let position = ((logit - LogitHistogram::LOW) * per_unit).floor();
    (position.max(0.0) as usize).min(LogitHistogram::BINS - 1)
}
