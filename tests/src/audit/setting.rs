//! What is attacked.

use std::num::NonZeroU32;

use fusiondp_dp::{
    ClipNorm, Delta, DpEvent, Epsilon, NeighboringRelation, NoiseMultiplier, Protection, Released,
    SamplingProbability, calibrate_noise, epsilon,
};
use fusiondp_protocol::Plan;
use fusiondp_protocol::study::Study;

use super::{AuditError, Fault, Mechanism};

/// Cohort of the tables that are attacked.
const COHORT: &str = "canaries";

/// Releases of one kind.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// What the noise is added to.
    pub released: Released,
    /// Noise, sample and number of releases, as charged.
    pub event: DpEvent,
    /// Clip norm C of a sum, in units of the gradient; a table of counts has none, and its charge any.
    pub clip_norm: ClipNorm,
}

/// A site's releases, and how many canaries take part in them.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    /// What is released, kind by kind; at least one.
    pub series: Vec<Series>,
    /// What the charges say is protected.
    pub protects: Protection,
    /// Delta of the claim.
    pub delta: Delta,
    /// Canaries are the entries of a square matrix with this many rows: 2 to 512.
    pub side: usize,
}

impl Setting {
    /// Private sums over everybody that together cost `target` under `replace`.
    ///
    /// # Errors
    /// A target that cannot be reached.
    pub fn calibrated(target: f64, steps: NonZeroU32, delta: Delta, side: usize) -> Result<Self, AuditError> {
        let (everyone, relation) = (SamplingProbability::ONE, NeighboringRelation::Replace);
        let noise_multiplier = calibrate_noise(Epsilon::new(target)?, delta, relation, everyone, steps)?;
        let event =
            DpEvent::PoissonSampledGaussian { noise_multiplier, sampling_probability: everyone, steps };
        Self::of_one(Released::PrivateSum, event, delta, side)
    }

    /// Tables of counts that together cost `target` under `replace`.
    ///
    /// # Errors
    /// A target that cannot be reached.
    pub fn counts(target: f64, steps: NonZeroU32, delta: Delta, side: usize) -> Result<Self, AuditError> {
        let (everyone, relation) = (SamplingProbability::ONE, NeighboringRelation::Replace);
        let of_sums = calibrate_noise(Epsilon::new(target)?, delta, relation, everyone, steps)?;
        // Two tables are sqrt 2 units apart, two sums of everybody 2 C.
        let noise_multiplier = NoiseMultiplier::new(of_sums.get() * std::f64::consts::FRAC_1_SQRT_2)?;
        let event = DpEvent::GaussianHistogram { noise_multiplier, steps };
        Self::of_one(Released::Counts { cohort: COHORT.to_owned() }, event, delta, side)
    }

    /// Every kind of release that a study plans, and if there are several kinds, all of them together.
    ///
    /// # Errors
    /// None is expected of a plan that was derived.
    pub fn of_plan(plan: &Plan, study: &Study, side: usize) -> Result<Vec<Self>, AuditError> {
        let sums = plan.kinds().into_iter().filter_map(|kind| {
            let rounds = u32::try_from(kind.rounds.count()).unwrap_or(u32::MAX);
            let event = kind.event.with_steps(NonZeroU32::new(rounds.saturating_mul(plan.local_steps))?);
            Some(Series { released: kind.released, event, clip_norm: kind.clip_norm })
        });
        let mut series: Vec<Series> = sums.collect();
        let evaluations = NonZeroU32::new(study.evaluation.evaluations(plan.rounds));
        if let Some((noisy, steps)) = study.evaluation.noisy().zip(evaluations) {
            let event = DpEvent::GaussianHistogram { noise_multiplier: noisy.noise_multiplier, steps };
            let released = Released::Counts { cohort: COHORT.to_owned() };
            series.push(Series { released, event, clip_norm: ClipNorm::new(1.0)? });
        }
        let setting = |series| Self { series, protects: study.protects(), delta: plan.delta, side };
        let mut settings: Vec<Self> = series.iter().map(|one| setting(vec![one.clone()])).collect();
        if series.len() > 1 {
            settings.push(setting(series));
        }
        Ok(settings)
    }

    fn of_one(released: Released, event: DpEvent, delta: Delta, side: usize) -> Result<Self, AuditError> {
        let series = vec![Series { released, event, clip_norm: ClipNorm::new(1.0)? }];
        Ok(Self { series, protects: Protection::SensitiveValues, delta, side })
    }

    /// The kind of its releases.
    #[must_use]
    pub fn mechanism(&self) -> Mechanism {
        match &self.series[..] {
            [one] => Mechanism::of(&one.released),
            _ => Mechanism::Together,
        }
    }

    /// The faults that can be planted: those of its kind of release, and two that share their noise only where there are two.
    #[must_use]
    pub fn faults(&self) -> Vec<Fault> {
        let several = self.series.iter().all(|series| series.event.steps().get() > 1);
        let faults = self.mechanism().faults().iter().copied();
        faults.filter(|&fault| several || fault != Fault::ReusedNoise).collect()
    }

    /// The epsilon that is claimed, under the relation of the fault; `replace` without one.
    ///
    /// # Errors
    /// Whatever the accountant refuses.
    pub(super) fn claim(&self, fault: Option<Fault>) -> Result<Epsilon, AuditError> {
        let events: Vec<DpEvent> = self.series.iter().map(|series| series.event).collect();
        let relation = fault.map_or(NeighboringRelation::Replace, Fault::claimed_relation);
        Ok(epsilon(&events, self.delta, relation)?)
    }
}
