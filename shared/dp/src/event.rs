//! What was released, free of any neighboring relation.

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use crate::params::{NoiseMultiplier, SamplingProbability};

/// One kind of release, repeated; the unit of account of the ledger.
///
/// Events, not epsilons, are what is stored: a better accountant can recompute what they cost. An unknown `kind` or
/// field fails to deserialize, so nothing unknown is ever counted as free.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum DpEvent {
    /// A sum over a secret Poisson sample of units, each of norm at most `C`, plus Gaussian noise, `steps` times.
    PoissonSampledGaussian {
        /// Standard deviation of the noise divided by `C`.
        noise_multiplier: NoiseMultiplier,
        /// Probability with which each unit is in the sample, independently.
        sampling_probability: SamplingProbability,
        /// How many such sums were released.
        steps: NonZeroU32,
    },
    /// A table of counts over all units, plus Gaussian noise, `steps` times. Each unit adds non-negative weights that sum to
    /// at most one, so two tables that differ in what one unit holds are at most `sqrt 2` apart, and 1 with and without it.
    GaussianHistogram {
        /// Standard deviation of the noise of a cell, in units.
        noise_multiplier: NoiseMultiplier,
        /// How many such tables were released.
        steps: NonZeroU32,
    },
}

impl DpEvent {
    /// How many releases the event stands for.
    #[must_use]
    pub fn steps(&self) -> NonZeroU32 {
        match self {
            Self::PoissonSampledGaussian { steps, .. } | Self::GaussianHistogram { steps, .. } => *steps,
        }
    }

    /// Standard deviation of the noise, over the clip norm or over one unit's weight.
    #[must_use]
    pub fn noise_multiplier(&self) -> NoiseMultiplier {
        match self {
            Self::PoissonSampledGaussian { noise_multiplier, .. }
            | Self::GaussianHistogram { noise_multiplier, .. } => *noise_multiplier,
        }
    }

    /// Probability with which each unit takes part; 1 for a table of counts.
    #[must_use]
    pub fn sampling_probability(&self) -> SamplingProbability {
        match self {
            Self::PoissonSampledGaussian { sampling_probability, .. } => *sampling_probability,
            Self::GaussianHistogram { .. } => SamplingProbability::ONE,
        }
    }

    /// The same release another number of times.
    #[must_use]
    pub fn with_steps(self, count: NonZeroU32) -> Self {
        let mut event = self;
        match &mut event {
            Self::PoissonSampledGaussian { steps, .. } | Self::GaussianHistogram { steps, .. } => {
                *steps = count
            }
        }
        event
    }

    /// The event that stands for both, if they differ in nothing but their number of steps and the sum fits.
    #[must_use]
    pub fn merged_with(&self, other: &Self) -> Option<Self> {
        if self.with_steps(NonZeroU32::MIN) != other.with_steps(NonZeroU32::MIN) {
            return None;
        }
        Some(self.with_steps(self.steps().checked_add(other.steps().get())?))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn event(noise: f64, steps: u32) -> DpEvent {
        DpEvent::PoissonSampledGaussian {
            noise_multiplier: NoiseMultiplier::new(noise).unwrap(),
            sampling_probability: SamplingProbability::new(0.25).unwrap(),
            steps: NonZeroU32::new(steps).unwrap(),
        }
    }

    #[test]
    fn json_form_is_tagged_and_strict() {
        let text = serde_json::to_string(&event(1.5, 3)).unwrap();
        assert_eq!(
            text,
            r#"{"kind":"poisson_sampled_gaussian","noise_multiplier":1.5,"sampling_probability":0.25,"steps":3}"#
        );
        assert_eq!(serde_json::from_str::<DpEvent>(&text).unwrap(), event(1.5, 3));
        for (from, to) in [
            ("\"steps\":3", "\"steps\":0"),
            ("\"steps\":3", "\"steps\":3,\"free\":true"),
            ("poisson_sampled_gaussian", "laplace"),
            ("0.25", "1.25"),
            ("1.5", "-1.5"),
        ] {
            assert!(serde_json::from_str::<DpEvent>(&text.replace(from, to)).is_err(), "{to}");
        }
    }

    #[test]
    fn tables_of_counts_have_a_form_of_their_own() {
        let table = DpEvent::GaussianHistogram {
            noise_multiplier: NoiseMultiplier::new(1.5).unwrap(),
            steps: NonZeroU32::MIN,
        };
        let text = serde_json::to_string(&table).unwrap();
        assert_eq!(text, r#"{"kind":"gaussian_histogram","noise_multiplier":1.5,"steps":1}"#);
        assert_eq!(serde_json::from_str::<DpEvent>(&text).unwrap(), table);
        let sampled = text.replace("\"steps\"", "\"sampling_probability\":0.5,\"steps\"");
        assert!(serde_json::from_str::<DpEvent>(&sampled).is_err(), "a table is never sampled");
        assert_eq!(table.merged_with(&event(1.5, 1)), None);
        let twice = table.merged_with(&table).unwrap();
        assert_eq!((twice.steps().get(), twice.noise_multiplier().get()), (2, 1.5));
    }

    #[test]
    fn only_equal_events_merge_and_never_past_the_counter() {
        assert_eq!(event(1.5, 3).merged_with(&event(1.5, 4)), Some(event(1.5, 7)));
        assert_eq!(event(1.5, 3).merged_with(&event(1.6, 4)), None);
        assert_eq!(event(1.5, u32::MAX).merged_with(&event(1.5, 1)), None);
    }
}
