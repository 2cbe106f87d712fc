//! What is attacked.

use std::num::NonZeroU32;

use fusiondp_dp::{
    ClipNorm, Delta, DpEvent, Epsilon, NeighboringRelation, NoiseMultiplier, SamplingProbability,
    calibrate_noise, epsilon,
};

use super::{AuditError, Fault};

/// A site's releases, and how many canaries take part in them.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    /// Deviation of the noise in clip norms, as charged.
    pub noise_multiplier: NoiseMultiplier,
    /// Probability with which each canary is in a release.
    pub sampling_probability: SamplingProbability,
    /// Releases.
    pub steps: NonZeroU32,
    /// Clip norm C.
    pub clip_norm: ClipNorm,
    /// Delta of the claim.
    pub delta: Delta,
    /// Canaries are the entries of a square matrix with this many rows: 2 to 512.
    pub side: usize,
}

impl Setting {
    /// Releases of everybody that together cost `target` under `replace`.
    ///
    /// # Errors
    /// A target that cannot be reached.
    pub fn calibrated(target: f64, steps: NonZeroU32, delta: Delta, side: usize) -> Result<Self, AuditError> {
        let everyone = SamplingProbability::new(1.0)?;
        let relation = NeighboringRelation::Replace;
        Ok(Self {
            noise_multiplier: calibrate_noise(Epsilon::new(target)?, delta, relation, everyone, steps)?,
            sampling_probability: everyone,
            steps,
            clip_norm: ClipNorm::new(1.0)?,
            delta,
            side,
        })
    }

    /// One release of the setting, with this noise.
    pub(super) fn event(
        noise_multiplier: NoiseMultiplier,
        sampling_probability: SamplingProbability,
    ) -> DpEvent {
        DpEvent::PoissonSampledGaussian { noise_multiplier, sampling_probability, steps: NonZeroU32::MIN }
    }

    /// The epsilon that is claimed, under the relation of the fault; `replace` without one.
    ///
    /// # Errors
    /// Whatever the accountant refuses.
    pub(super) fn claim(&self, fault: Option<Fault>) -> Result<Epsilon, AuditError> {
        let event = DpEvent::PoissonSampledGaussian {
            noise_multiplier: self.noise_multiplier,
            sampling_probability: self.sampling_probability,
            steps: self.steps,
        };
        let relation = fault.map_or(NeighboringRelation::Replace, Fault::claimed_relation);
        Ok(epsilon(&[event], self.delta, relation)?)
    }
}
