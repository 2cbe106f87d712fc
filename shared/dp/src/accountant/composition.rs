//! Counted steps, in the units of the accountants.

use super::error::AccountantError;
use crate::{
    params::NeighboringRelation,
    steps::{Release, StepCounts, Steps},
};

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
    /// The parts of `counts` under a relation.
    ///
    /// # Errors
    /// [`AccountantError::TooManySteps`] beyond [`MOST_STEPS`].
    pub(super) fn of(counts: &StepCounts, relation: NeighboringRelation) -> Result<Self, AccountantError> {
        let too_many = || AccountantError::TooManySteps { limit: MOST_STEPS };
        let mut total = 0_u64;
        let mut parts: Vec<Part> = Vec::new();
        for kind in counts.kinds() {
            total = total.checked_add(kind.steps).filter(|&sum| sum <= MOST_STEPS).ok_or_else(too_many)?;
            let shift = shift(&kind, relation);
            let equal = |part: &&mut Part| (part.shift, part.probability) == (shift, kind.probability);
            match parts.iter_mut().find(equal) {
                Some(part) => part.steps += kind.steps,
                None => parts.push(Part { shift, probability: kind.probability, steps: kind.steps }),
            }
        }
        Ok(Self { parts, steps: total })
    }
}

/// Half the distance between two contributions under `replace`, the norm of one under `zero_out`, in noise deviations.
///
/// Next up: a larger shift is a larger loss, so rounding errs on the safe side.
fn shift(kind: &Steps, relation: NeighboringRelation) -> f64 {
    let of_the_norm = kind.noise_multiplier.recip().next_up();
    match (kind.release, relation) {
        // Weights a, b without negative ones that sum to at most 1: |a - b|² <= |a|² + |b|² <= 2, and half of sqrt 2.
        (Release::Histogram, NeighboringRelation::Replace) => {
            (of_the_norm * std::f64::consts::FRAC_1_SQRT_2.next_up()).next_up()
        }
        (Release::Histogram, NeighboringRelation::ZeroOut) | (Release::Sum, _) => of_the_norm,
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

    const ZERO_OUT: NeighboringRelation = NeighboringRelation::ZeroOut;

    fn event(noise: f64, steps: u32) -> DpEvent {
        DpEvent::PoissonSampledGaussian {
            noise_multiplier: NoiseMultiplier::new(noise).unwrap(),
            sampling_probability: SamplingProbability::new(0.5).unwrap(),
            steps: NonZeroU32::new(steps).unwrap(),
        }
    }

    #[test]
    fn shifts_are_not_below_the_reciprocal_of_the_noise() {
        let composition =
            Composition::of(&StepCounts::of(&[event(2.0, 3), event(4.0, 1)]), ZERO_OUT).unwrap();
        let steps: Vec<u64> = composition.parts.iter().map(|part| part.steps).collect();
        assert_eq!((steps, composition.steps), (vec![3, 1], 4));
        assert!(composition.parts[0].shift >= 0.5);
    }

    #[test]
    fn too_many_steps_are_an_error() {
        let of = |events: &[DpEvent]| Composition::of(&StepCounts::of(events), ZERO_OUT);
        let error = of(&[event(2.0, u32::MAX), event(4.0, 1)]).unwrap_err();
        assert_eq!(error, AccountantError::TooManySteps { limit: MOST_STEPS });
        assert!(of(&[event(2.0, u32::MAX)]).is_ok());
    }

    #[test]
    fn tables_shift_by_a_unit_or_by_sqrt_two_of_it() {
        let noise = NoiseMultiplier::new(2.0).unwrap();
        let table = DpEvent::GaussianHistogram { noise_multiplier: noise, steps: NonZeroU32::MIN };
        let full = DpEvent::PoissonSampledGaussian {
            noise_multiplier: noise,
            sampling_probability: SamplingProbability::ONE,
            steps: NonZeroU32::MIN,
        };
        let parts = |relation| Composition::of(&StepCounts::of(&[table, full]), relation).unwrap().parts;
        // Without and with a unit a table is what a sum over all units is, and both are counted together.
        assert_eq!(parts(ZERO_OUT).iter().map(|part| part.steps).collect::<Vec<_>>(), [2]);
        let replaced = parts(NeighboringRelation::Replace);
        let (sum, table) = (replaced[0], replaced[1]);
        assert!((2.0 * table.shift).powi(2) >= 0.5, "sqrt 2 over a noise of 2");
        assert!((table.shift * std::f64::consts::SQRT_2 / sum.shift - 1.0).abs() < 1e-15);
        assert_eq!((sum.steps, table.steps), (1, 1));
    }
}
