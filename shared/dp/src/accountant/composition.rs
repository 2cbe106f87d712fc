//! A list of events, reduced to what the accountants need.

use std::collections::BTreeMap;

use super::error::AccountantError;
use crate::event::DpEvent;

/// Most steps in total; the floating-point error bounds of the transforms grow with this number.
pub(super) const MOST_STEPS: u64 = u32::MAX as u64;

/// Equal steps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Part {
    /// Shift of one contribution in noise deviations, `1 / noise multiplier`.
    pub(super) shift: f64,
    /// Sampling probability `q`.
    pub(super) probability: f64,
    /// How many.
    pub(super) steps: u64,
}

/// Unlike steps with their multiplicities; the order of composition does not matter.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Composition {
    /// No two parts have the same parameters.
    pub(super) parts: Vec<Part>,
    /// Sum of the parts' steps.
    pub(super) steps: u64,
}

impl Composition {
    /// Groups `events` by their parameters.
    ///
    /// # Errors
    /// [`AccountantError::TooManySteps`] beyond [`MOST_STEPS`].
    pub(super) fn of(events: &[DpEvent]) -> Result<Self, AccountantError> {
        let mut steps_by_parameters: BTreeMap<(u64, u64), u64> = BTreeMap::new();
        let mut total = 0_u64;
        for event in events {
            let DpEvent::PoissonSampledGaussian { noise_multiplier, sampling_probability, steps } = event;
            let steps = u64::from(steps.get());
            total = total
                .checked_add(steps)
                .filter(|&sum| sum <= MOST_STEPS)
                .ok_or(AccountantError::TooManySteps { limit: MOST_STEPS })?;
            let key = (noise_multiplier.get().to_bits(), sampling_probability.get().to_bits());
            *steps_by_parameters.entry(key).or_default() += steps;
        }
        let part = |((noise, probability), steps): ((u64, u64), u64)| Part {
            // Next up: a larger shift is a larger loss, so the division's rounding errs on the safe side.
            shift: f64::from_bits(noise).recip().next_up(),
            probability: f64::from_bits(probability),
            steps,
        };
        Ok(Self { parts: steps_by_parameters.into_iter().map(part).collect(), steps: total })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::num::NonZeroU32;

    use super::*;
    use crate::params::{NoiseMultiplier, SamplingProbability};

    fn event(noise: f64, steps: u32) -> DpEvent {
        DpEvent::PoissonSampledGaussian {
            noise_multiplier: NoiseMultiplier::new(noise).unwrap(),
            sampling_probability: SamplingProbability::new(0.5).unwrap(),
            steps: NonZeroU32::new(steps).unwrap(),
        }
    }

    #[test]
    fn equal_events_are_grouped_wherever_they_stand() {
        let composition = Composition::of(&[event(2.0, 3), event(4.0, 1), event(2.0, 4)]).unwrap();
        let steps: Vec<u64> = composition.parts.iter().map(|part| part.steps).collect();
        assert_eq!((steps, composition.steps), (vec![7, 1], 8));
        assert!(composition.parts[0].shift >= 0.5);
    }

    #[test]
    fn too_many_steps_are_an_error() {
        let error = Composition::of(&[event(2.0, u32::MAX), event(4.0, 1)]).unwrap_err();
        assert_eq!(error, AccountantError::TooManySteps { limit: MOST_STEPS });
        assert!(Composition::of(&[event(2.0, u32::MAX)]).is_ok());
    }
}
