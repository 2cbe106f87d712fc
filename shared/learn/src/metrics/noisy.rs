//! Figures from counts that carry noise.
//!
//! The table holds one count per label and interval of the logit, each the true one plus independent noise of mean 0 and
//! known variance. Counts below 0 are kept: they are part of sums that are right on average.

/// Class totals must exceed this many deviations of their own noise, or nothing is divided by them.
const CLEAR_OF_NOISE: f64 = 3.0;

/// Counts by label and interval of the logit, lowest interval first, with noise.
#[derive(Debug, Clone, PartialEq)]
pub struct NoisyTable {
    negatives: Vec<f64>,
    positives: Vec<f64>,
    /// Of the noise of one cell.
    variance: f64,
}

/// An estimate and the deviation that the noise gives it. How it would differ for other patients is not in it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// The estimate.
    pub value: f64,
    /// Its standard error, >= 0.
    pub error: f64,
}

impl NoisyTable {
    /// A table from its cells: those of label 0, lowest interval first, then those of label 1. `deviation` is that of the
    /// noise of one cell. `None` for an odd number of cells, none, or a number that is not finite.
    pub fn from_cells(cells: &[f64], deviation: f64) -> Option<Self> {
        let finite = deviation.is_finite() && cells.iter().all(|cell| cell.is_finite());
        if cells.is_empty() || !cells.len().is_multiple_of(2) || !finite {
            return None;
        }
        let (negatives, positives) = cells.split_at(cells.len() / 2);
        Some(Self {
            negatives: negatives.to_vec(),
            positives: positives.to_vec(),
            variance: deviation * deviation,
        })
    }

    /// Adds another site's counts; false, and nothing added, if it has another number of intervals.
    pub fn add(&mut self, other: &Self) -> bool {
        if self.negatives.len() != other.negatives.len() {
            return false;
        }
        let theirs = other.negatives.iter().chain(&other.positives);
        for (sum, count) in self.negatives.iter_mut().chain(&mut self.positives).zip(theirs) {
            *sum += count;
        }
        self.variance += other.variance;
        true
    }

    /// How many have label 1; unbiased, and below 0 where the noise is larger than the count.
    pub fn positives(&self) -> Estimate {
        Estimate { value: self.positives.iter().sum(), error: self.total_error() }
    }

    /// How many have label 0.
    pub fn negatives(&self) -> Estimate {
        Estimate { value: self.negatives.iter().sum(), error: self.total_error() }
    }

    /// Probability that a positive lies above a negative, the same interval counting one half, clamped to `[0, 1]`. The
    /// error is that of the ratio to first order (delta method), at the counts as they are. `None` where a class
    /// total is not clear of its noise.
    pub fn auroc(&self) -> Option<Estimate> {
        let (positives, negatives) =
            (self.clear_total(self.positives())?, self.clear_total(self.negatives())?);
        let below = halved_sums(self.negatives.iter());
        let mut above = halved_sums(self.positives.iter().rev());
        above.reverse();
        let wins: f64 = self.positives.iter().zip(&below).map(|(count, below)| count * below).sum();
        let area = wins / (positives * negatives);
        // Slopes of the ratio in each count of a class: share of the other class that it wins against, less the area.
        let slope = |share: f64, total: f64| (share - area) / total;
        let of_positives = below.iter().map(|sum| slope(sum / negatives, positives));
        let of_negatives = above.iter().map(|sum| slope(sum / positives, negatives));
        let squares: f64 = of_positives.chain(of_negatives).map(|slope| slope * slope).sum();
        Some(Estimate { value: area.clamp(0.0, 1.0), error: (self.variance * squares).sqrt() })
    }

    fn total_error(&self) -> f64 {
        (self.variance * self.negatives.len() as f64).sqrt()
    }

    fn clear_total(&self, total: Estimate) -> Option<f64> {
        (total.value > CLEAR_OF_NOISE * total.error).then_some(total.value)
    }
}

/// For each count the sum of those before it and half of its own.
fn halved_sums<'a>(counts: impl Iterator<Item = &'a f64>) -> Vec<f64> {
    let mut before = 0.0;
    counts
        .map(|count| {
            let sum = before + count / 2.0;
            before += count;
            sum
        })
        .collect()
}

#[cfg(test)]
mod tests;
