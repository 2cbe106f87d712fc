//! Counted steps, in the units of the accountants.

use super::error::AccountantError;
use crate::steps::StepCounts;

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
    /// The parts of `counts`.
    ///
    /// # Errors
    /// [`AccountantError::TooManySteps`] beyond [`MOST_STEPS`].
    pub(super) fn of(counts: &StepCounts) -> Result<Self, AccountantError> {
        let too_many = || AccountantError::TooManySteps { limit: MOST_STEPS };
        let mut total = 0_u64;
        let mut parts = Vec::new();
        for (noise_multiplier, probability, steps) in counts.kinds() {
            total = total.checked_add(steps).filter(|&sum| sum <= MOST_STEPS).ok_or_else(too_many)?;
            // Next up: a larger shift is a larger loss, so the division's rounding errs on the safe side.
            parts.push(Part { shift: noise_multiplier.recip().next_up(), probability, steps });
        }
        Ok(Self { parts, steps: total })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::num::NonZeroU32;

    use super::*;
    use crate::{
        event::DpEvent,
        params::{NoiseMultiplier, SamplingProbability},
    };

    fn event(noise: f64, steps: u32) -> DpEvent {
        DpEvent::PoissonSampledGaussian {
            noise_multiplier: NoiseMultiplier::new(noise).unwrap(),
            sampling_probability: SamplingProbability::new(0.5).unwrap(),
            steps: NonZeroU32::new(steps).unwrap(),
        }
    }

    #[test]
    fn shifts_are_not_below_the_reciprocal_of_the_noise() {
        let composition = Composition::of(&StepCounts::of(&[event(2.0, 3), event(4.0, 1)])).unwrap();
        let steps: Vec<u64> = composition.parts.iter().map(|part| part.steps).collect();
        assert_eq!((steps, composition.steps), (vec![3, 1], 4));
        assert!(composition.parts[0].shift >= 0.5);
    }

    #[test]
    fn too_many_steps_are_an_error() {
        let error = Composition::of(&StepCounts::of(&[event(2.0, u32::MAX), event(4.0, 1)])).unwrap_err();
        assert_eq!(error, AccountantError::TooManySteps { limit: MOST_STEPS });
        assert!(Composition::of(&StepCounts::of(&[event(2.0, u32::MAX)])).is_ok());
    }
}
