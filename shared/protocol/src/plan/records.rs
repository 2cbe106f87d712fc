//! The second tier of a plan: public gradients clipped and noised per unit, and what whole records lose by both parts.

use std::num::NonZeroU32;

use fusiondp_dp::{
    AccountantError, ClipNorm, DpEvent, Epsilon, NeighboringRelation, NoiseMultiplier, Released,
    SamplingProbability, StepCounts, calibrate_noise_beside, epsilon_of_steps,
};
use sha2::{Digest as _, Sha256};

use super::verify::{agree, agree_closely, within_target};
use super::{Plan, PlanError, PlanMismatch, PlannedRelease, sampling_probability};
use crate::study::{PrivacyTarget, Study, StudyDocument};

/// Marks the second tier in the bytes of a plan's digest.
const DIGEST_TAG: &[u8] = b"records";

/// Figures of the public part. Every field is public.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordsPlan {
    /// Probability with which each unit enters the secret sample of a step's public part.
    pub sampling_probability: SamplingProbability,
    /// Each site's noise deviation over the clip norm.
    pub noise_multiplier: NoiseMultiplier,
    /// L2 norm that one unit's public gradient is clipped to.
    pub clip_norm: ClipNorm,
    /// First rounds with a public part.
    pub public_rounds: u32,
    /// What whole records lose at one site by the whole study, both parts, under replace; upper bound.
    pub epsilon_replace: Epsilon,
    /// The same under zero_out.
    pub epsilon_zero_out: Epsilon,
}

impl RecordsPlan {
    /// The public part of a step.
    pub(super) fn release(&self) -> PlannedRelease {
        PlannedRelease {
            released: Released::PublicSum,
            event: self.event(NonZeroU32::MIN),
            clip_norm: self.clip_norm,
            rounds: 1..=self.public_rounds,
        }
    }

    fn event(&self, steps: NonZeroU32) -> DpEvent {
        let Self { noise_multiplier, sampling_probability, .. } = *self;
        DpEvent::PoissonSampledGaussian { noise_multiplier, sampling_probability, steps }
    }

    /// Puts every field into a plan's digest.
    pub(super) fn hash(&self, hasher: &mut Sha256) {
        let reals = [self.sampling_probability.get(), self.noise_multiplier.get(), self.clip_norm.get()];
        let claims = [self.epsilon_replace.get(), self.epsilon_zero_out.get()];
        hasher.update(DIGEST_TAG);
        reals.iter().for_each(|real| hasher.update(real.to_bits().to_le_bytes()));
        hasher.update(u64::from(self.public_rounds).to_le_bytes());
        claims.iter().for_each(|claim| hasher.update(claim.to_bits().to_le_bytes()));
    }
}

impl Plan {
    /// The second tier that the study asks for, if it does. CPU work of up to seconds.
    pub(super) fn derive_records(&self, study: &Study) -> Result<Option<RecordsPlan>, PlanError> {
        let Some(records) = &study.privacy.records else { return Ok(None) };
        let sampling_probability = sampling_probability(records.expected_batch_size, self.total_units)?;
        let public_rounds = study.public_rounds();
        let overlap = study.federation.max_overlap;
        let noise_multiplier = match (records.target, NonZeroU32::new(public_rounds.saturating_mul(overlap)))
        {
            (PrivacyTarget::NoiseMultiplier { noise_multiplier }, _) => noise_multiplier,
            (PrivacyTarget::Epsilon { epsilon, relation }, Some(steps)) => {
                let private = self.private_steps(overlap);
                calibrate_noise_beside(&private, epsilon, self.delta, relation, sampling_probability, steps)?
            }
            (PrivacyTarget::Epsilon { .. }, None) => return Err(PlanError::NoPublicRound),
        };
        let (clip_norm, none) = (records.clip_norm, Epsilon::ZERO);
        let mut plan = RecordsPlan {
            sampling_probability,
            noise_multiplier,
            clip_norm,
            public_rounds,
            epsilon_replace: none,
            epsilon_zero_out: none,
        };
        plan.epsilon_replace = self.record_epsilon(&plan, 1, NeighboringRelation::Replace)?;
        plan.epsilon_zero_out = self.record_epsilon(&plan, 1, NeighboringRelation::ZeroOut)?;
        Ok(Some(plan))
    }

    /// Upper bound of what whole records lose by the whole study, for a patient that `overlap` sites hold.
    fn record_epsilon(
        &self,
        records: &RecordsPlan,
        overlap: u32,
        relation: NeighboringRelation,
    ) -> Result<Epsilon, AccountantError> {
        let mut steps = self.private_steps(overlap);
        let public = u64::from(records.public_rounds) * u64::from(overlap);
        steps.add(&records.event(NonZeroU32::MIN), public);
        epsilon_of_steps(&steps, self.delta, relation)
    }

    /// Steps of the private part, times `overlap`.
    fn private_steps(&self, overlap: u32) -> StepCounts {
        let event = self.steps(overlap, self.rounds).and_then(|steps| self.event(steps));
        StepCounts::of(event.as_slice())
    }

    /// A site's own check of the second tier.
    pub(super) fn verify_records(&self, document: &StudyDocument) -> Result<(), PlanMismatch> {
        let study = document.study();
        let (records, asked) = match (&self.records, &study.privacy.records) {
            (None, None) => return Ok(()),
            (Some(records), Some(asked)) => (records, asked),
            (records, _) => {
                let said = |present| if present { "present" } else { "absent" }.to_owned();
                let (plan, own) = (said(records.is_some()), said(records.is_none()));
                return Err(PlanMismatch::Figure { field: "records", plan, own });
            }
        };
        agree("records.clip_norm", &records.clip_norm, &asked.clip_norm)?;
        agree("records.public_rounds", &records.public_rounds, &study.public_rounds())?;
        let q = sampling_probability(asked.expected_batch_size, self.total_units)
            .map_err(PlanMismatch::Totals)?;
        agree("records.sampling_probability", &records.sampling_probability, &q)?;
        if let PrivacyTarget::NoiseMultiplier { noise_multiplier } = asked.target {
            agree("records.noise_multiplier", &records.noise_multiplier, &noise_multiplier)?;
        }
        for (field, claimed, relation) in [
            ("records.epsilon_replace", records.epsilon_replace, NeighboringRelation::Replace),
            ("records.epsilon_zero_out", records.epsilon_zero_out, NeighboringRelation::ZeroOut),
        ] {
            agree_closely(field, claimed, self.record_epsilon(records, 1, relation)?)?;
        }
        let PrivacyTarget::Epsilon { epsilon: target, relation } = asked.target else { return Ok(()) };
        within_target(self.record_epsilon(records, study.federation.max_overlap, relation)?, target, relation)
    }
}
