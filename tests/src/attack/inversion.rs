//! Inverting a site's updates: which slot does a patient's value fall into, given every noised private sum?
//!
//! The attacker knows every other patient, and of the patient everything but one column. With everybody in the sample the sum
//! less the others is the patient's clipped contribution plus noise, and each slot has a contribution of its own, so the likelihood
//! is exact; with a secret sample it is that of the mean. How often each slot occurs among the site's patients is known too.

use super::reconstruction::largest;

/// Log-likelihood by slot of one patient, `[slots]`, gathered over rounds. Has no `Debug`: it follows from a patient's values.
#[derive(Clone)]
pub struct Likelihood(Vec<f64>);

impl Likelihood {
    /// Before the first round.
    #[must_use]
    pub fn none(slots: usize) -> Self {
        Self(vec![0.0; slots])
    }

    /// Adds a round: what the patient seems to have added, what it adds under each slot, and the noise's deviation.
    pub fn add(&mut self, seen: &[f64], under: &[Vec<f64>], noise: f64) {
        for (log, contribution) in self.0.iter_mut().zip(under) {
            let square: f64 = seen.iter().zip(contribution).map(|(s, c)| (s - c) * (s - c)).sum();
            *log -= square / (2.0 * noise * noise);
        }
    }

    /// The likeliest slot, given how often each occurs among others, `[slots]`.
    #[must_use]
    pub fn guess(&self, frequency: &[f64]) -> usize {
        largest(self.0.iter().zip(frequency).map(|(log, frequency)| log + frequency.ln()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_without_noise_gives_the_value_away() {
        let under = vec![vec![1.0, 0.0], vec![0.0, 1.0], vec![-1.0, 0.0]];
        for slot in 0..3 {
            let mut likelihood = Likelihood::none(3);
            likelihood.add(&under[slot], &under, 0.1);
            likelihood.add(&under[slot], &under, 2.0);
            assert_eq!(Likelihood::none(3).guess(&[0.2, 0.7, 0.1]), 1);
            assert_eq!(likelihood.guess(&[0.5, 0.4, 0.1]), slot);
        }
    }
}
