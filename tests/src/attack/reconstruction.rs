//! Guessing a sensitive value from public features, label and the trained model.
//!
//! The attacker's true baseline is what it knows without the model: how often each slot goes with the imputer's guess, counted
//! on the support data. The model adds the likelihood of the label under each slot.

use fusiondp_coordinator::report::evidence::Reconstruction;

/// Joint counts of true and imputed slots on support data, each plus a fraction so that nothing is impossible.
#[derive(Clone)]
pub struct Prior {
    slots: usize,
    counts: Vec<f64>,
}

/// Added to each count.
const FLOOR: f64 = 0.1;

impl Prior {
    /// Counts pairs of true and imputed slot.
    #[must_use]
    pub fn count(slots: usize, pairs: impl IntoIterator<Item = (usize, usize)>) -> Self {
        let mut counts = vec![FLOOR; slots * slots];
        pairs.into_iter().for_each(|(truth, imputed)| counts[imputed * slots + truth] += 1.0);
        Self { slots, counts }
    }

    /// Weight of each slot, given the imputer's.
    fn given(&self, imputed: usize) -> &[f64] {
        &self.counts[imputed * self.slots..][..self.slots]
    }

    fn mode(&self) -> usize {
        let total = |slot: usize| self.counts.iter().skip(slot).step_by(self.slots).sum::<f64>();
        largest((0..self.slots).map(total))
    }
}

/// One record's true slot, imputed slot, and the model's likelihood of its label under each slot.
pub struct Target {
    /// True slot.
    pub truth: usize,
    /// Slot of the imputer's value.
    pub imputed: usize,
    /// Likelihood by slot, `[slots]`.
    pub likelihood: Vec<f64>,
}

/// Guesses every target.
#[must_use]
pub fn reconstruct(column: &str, prior: &Prior, targets: &[Target]) -> Reconstruction {
    let share = |guess: &dyn Fn(&Target) -> usize| {
        let right = targets.iter().filter(|target| guess(target) == target.truth).count();
        right as f64 / targets.len().max(1) as f64
    };
    let mode = prior.mode();
    Reconstruction {
        column: column.to_owned(),
        records: targets.len(),
        slots: prior.slots,
        mode: share(&|_| mode),
        imputer: share(&|target| target.imputed),
        baseline: share(&|target| largest(prior.given(target.imputed).iter().copied())),
        with_model: share(&|target| {
            largest(prior.given(target.imputed).iter().zip(&target.likelihood).map(|(p, l)| p * l))
        }),
        model_alone: share(&|target| largest(target.likelihood.iter().copied())),
    }
}

/// Place of the largest value, the first of equals.
pub(super) fn largest(values: impl Iterator<Item = f64>) -> usize {
    let pick = |best: (usize, f64), (at, value)| if value > best.1 { (at, value) } else { best };
    values.enumerate().fold((0, f64::NEG_INFINITY), pick).0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_that_knows_beats_the_baseline_and_one_that_does_not_changes_nothing() {
        let prior = Prior::count(2, [(0, 0), (0, 0), (1, 0), (1, 1), (1, 1)]);
        let target =
            |truth, imputed, likelihood: [f64; 2]| Target { truth, imputed, likelihood: likelihood.to_vec() };
        let blind = [target(1, 0, [0.5, 0.5]), target(1, 1, [0.5, 0.5])];
        let found = reconstruct("x", &prior, &blind);
        assert_eq!((found.mode, found.imputer, found.baseline, found.with_model), (1.0, 0.5, 0.5, 0.5));
        let told = [target(1, 0, [0.1, 0.9]), target(1, 1, [0.1, 0.9])];
        let found = reconstruct("x", &prior, &told);
        assert_eq!((found.baseline, found.with_model, found.model_alone), (0.5, 1.0, 1.0));
    }
}
