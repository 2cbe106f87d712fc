//! Losses discretized from below.
//!
//! Whoever sees only which cell a value falls into sees less than the value. So the masses that both distributions of a
//! pair give to a cell are a pair that the true one dominates, and what is composed of such pairs is a lower bound: no
//! accountant can report less than it without being wrong. Cells may be divided by coin tosses, so their bounds are
//! chosen such that the loss of each, the logarithm of the ratio of its masses, is a multiple of the interval.

use super::{
    losses::{LossDistribution, LossRange},
    pair::DominatingPair,
};

/// Fine cells per interval that are merged into cells with a loss on the grid.
const FINER: i64 = 8;
/// Fraction of the interval by which the loss of a cell may lie below the grid; its rounding covers it.
const SLACK: f64 = 1e-6;

/// Masses of both distributions: the first at most, the second at least, the true one.
#[derive(Debug, Clone, Copy)]
struct Masses {
    first: f64,
    second: f64,
}

impl Masses {
    const NONE: Self = Self { first: 0.0, second: 0.0 };

    /// How far the first mass is above what gives this loss, divided by `e^loss` where that is above one.
    fn excess(self, loss: f64) -> f64 {
        self.first * (-loss.max(0.0)).exp() - self.second * loss.min(0.0).exp()
    }

    fn plus(self, other: Self) -> Self {
        Self { first: self.first + other.first, second: self.second + other.second }
    }

    fn times(self, share: f64) -> Self {
        Self { first: self.first * share, second: self.second * share }
    }
}

impl LossDistribution {
    /// A distribution that the losses of `pair` dominate. What lies outside of `range` is left out.
    pub(super) fn below(pair: &DominatingPair, range: LossRange, interval: f64) -> Self {
        let spacing = interval / FINER as f64;
        let first = (range.low / interval).floor() as i64;
        let last = ((range.high / interval).ceil() as i64).max(first + 1);
        let mut merger = Merger::new(interval, first, (last - first) as usize + 1);
        let mut low = pair.edge(pair.value_at((FINER * first) as f64 * spacing));
        for cell in FINER * first..FINER * last {
            let high = pair.edge(pair.value_at((cell + 1) as f64 * spacing));
            let (mass, other) = (pair.first_mass(&low, &high), pair.second_mass(&low, &high));
            merger.add(Masses {
                first: mass.value - mass.uncertainty,
                second: other.value + other.uncertainty,
            });
            low = high;
        }
        let rounding = pair.loss_uncertainty(range.magnitude() + interval);
        Self {
            interval,
            first,
            probabilities: merger.finish(),
            at_infinity: 0.0,
            uncertainty: rounding + SLACK * interval,
        }
    }
}

/// Collects fine cells, in the order of their losses, into cells with a loss on the grid.
struct Merger {
    interval: f64,
    first: i64,
    probabilities: Vec<f64>,
    /// Grid index that the cell under construction is to have.
    target: i64,
    cell: Masses,
}

impl Merger {
    fn new(interval: f64, first: i64, length: usize) -> Self {
        Self { interval, first, probabilities: vec![0.0; length], target: first, cell: Masses::NONE }
    }

    /// Adds a fine cell; one whose first mass is within its error of nothing is left out.
    fn add(&mut self, mut fine: Masses) {
        let loss = (fine.first / fine.second).ln();
        if !(fine.first > 0.0 && loss.is_finite()) {
            return;
        }
        if self.cell.first == 0.0 {
            self.target = self.target.max((loss / self.interval).ceil() as i64);
        }
        while let Some(rest) = self.complete(fine) {
            fine = rest;
            self.target = (self.target + 1).max((loss / self.interval).ceil() as i64);
        }
        self.cell = self.cell.plus(fine);
    }

    /// The probabilities; a last cell that did not reach its target goes to the grid loss below its own.
    fn finish(mut self) -> Vec<f64> {
        let loss = (self.cell.first / self.cell.second).ln();
        let index = (loss / self.interval + SLACK).floor() as i64 - self.first;
        // Nothing is left if the cell is empty: its loss is not a number, and the index becomes that of loss zero.
        let place = usize::try_from(index).ok().and_then(|index| self.probabilities.get_mut(index));
        if let Some(place) = place {
            *place += self.cell.first;
        }
        self.probabilities
    }

    /// If the fine cell lifts the cell to its target: gives out what reaches it, and returns what is left.
    fn complete(&mut self, fine: Masses) -> Option<Masses> {
        let loss = self.target as f64 * self.interval;
        let (lacks, brings) = (-self.cell.excess(loss), fine.excess(loss));
        // What is not a number completes nothing.
        if !(brings > 0.0 && brings >= lacks) {
            return None;
        }
        let share = (lacks / brings).clamp(0.0, 1.0);
        let index = usize::try_from(self.target - self.first).ok()?;
        *self.probabilities.get_mut(index)? += self.cell.first + share * fine.first;
        self.cell = Masses::NONE;
        Some(fine.times(1.0 - share))
    }
}
