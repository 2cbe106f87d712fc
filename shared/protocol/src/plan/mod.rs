//! The plan: the figures of a study that are known only once enrolment has closed.
//!
//! Pure. The coordinator derives the plan from the study document and the sizes of the enrolled sites; every site
//! recomputes it ([`Plan::verify`]) and refuses to train on a figure that it does not arrive at itself. What a site
//! cannot recompute, the totals over all sites, can only shift utility: the site accounts for the sampling probability
//! and the noise that it really uses.

mod error;
mod records;
mod verify;

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;

use fusiondp_dp::{
    AccountantError, ClipNorm, Delta, Digest, DpEvent, Epsilon, NeighboringRelation, NoiseMultiplier,
    Released, SamplingProbability, calibrate_noise, epsilon,
};
use sha2::{Digest as _, Sha256};

use crate::ids::{SiteId, StudyId};
use crate::study::{BatchSize, PrivacyTarget, Study, StudyDocument, Training};

pub use error::{PlanError, PlanMismatch};
pub use records::RecordsPlan;

/// Separates a plan's digest from any other digest.
const DIGEST_DOMAIN: &[u8] = b"fusiondp plan v1";

/// How much data an enrolled site has; public.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteSize {
    /// The site.
    pub site: SiteId,
    /// Privacy units in its training data (N_k), 1 to [`SiteSize::MAX`].
    pub units: u64,
    /// Records in its training data, `units` to [`SiteSize::MAX`].
    pub records: u64,
}

impl SiteSize {
    /// Most units or records of a site, 2^32 - 1: a private step holds no more units, and the sum over 10,000 sites is
    /// exact as a double.
    pub const MAX: u64 = u32::MAX as u64;
}

/// Fixed figures of a study. Every field is public.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The study.
    pub study_id: StudyId,
    /// Digest of its document.
    pub study_digest: Digest,
    /// Probability q with which each unit enters the secret sample of one step, the same at every site.
    pub sampling_probability: SamplingProbability,
    /// Each site's noise deviation over the clip norm; `None` in a study without a private part.
    pub noise_multiplier: Option<NoiseMultiplier>,
    /// L2 norm that one unit's gradient is clipped to.
    pub clip_norm: ClipNorm,
    /// All rounds, warm-up included.
    pub rounds: u32,
    /// First rounds without a private part; all of them in a study without one.
    pub warmup_rounds: u32,
    /// Steps per round that a site takes on its own.
    pub local_steps: u32,
    /// Privacy units over the enrolled sites (N).
    pub total_units: u64,
    /// Records over the enrolled sites.
    pub total_records: u64,
    /// Delta of the guarantee.
    pub delta: Delta,
    /// One site's whole study under replace, upper bound.
    pub epsilon_replace: Epsilon,
    /// One site's whole study under zero_out, upper bound.
    pub epsilon_zero_out: Epsilon,
    /// The second tier; `None` in a study whose public gradients leave without noise, or do not exist.
    pub records: Option<RecordsPlan>,
}

/// One release of a round, and what it is charged as.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedRelease {
    /// What the noise is added to.
    pub released: Released,
    /// One step.
    pub event: DpEvent,
    /// L2 norm that one unit's contribution is clipped to.
    pub clip_norm: ClipNorm,
    /// Rounds that have it; may be empty.
    pub rounds: RangeInclusive<u32>,
}

impl Plan {
    /// Derives the plan: `q = expected_batch_size / N`, the noise from the target, and both epsilons. CPU work of up
    /// to seconds.
    ///
    /// # Errors
    /// Sizes that do not stand, fewer sites than the study needs, an expected batch above N, delta above 1/N, and
    /// whatever the accountant refuses.
    pub fn derive(document: &StudyDocument, sizes: &[SiteSize]) -> Result<Plan, PlanError> {
        let study = document.study();
        let (total_units, total_records) = totals(study, sizes)?;
        let sampling_probability = sampling_probability(study.training.expected_batch_size, total_units)?;
        check_delta(study.privacy.delta, total_units)?;
        let mut plan = Plan {
            study_id: document.id().clone(),
            study_digest: document.digest(),
            sampling_probability,
            noise_multiplier: None,
            clip_norm: study.privacy.clip_norm,
            rounds: study.training.rounds,
            warmup_rounds: study.warmup_rounds(),
            local_steps: study.training.local_steps,
            total_units,
            total_records,
            delta: study.privacy.delta,
            epsilon_replace: Epsilon::ZERO,
            epsilon_zero_out: Epsilon::ZERO,
            records: None,
        };
        plan.noise_multiplier = plan.derive_noise(study)?;
        plan.epsilon_replace = plan.epsilon(1, NeighboringRelation::Replace)?;
        plan.epsilon_zero_out = plan.epsilon(1, NeighboringRelation::ZeroOut)?;
        plan.records = plan.derive_records(study)?;
        Ok(plan)
    }

    fn derive_noise(&self, study: &Study) -> Result<Option<NoiseMultiplier>, PlanError> {
        let Some(steps) = self.steps(study.federation.max_overlap, self.rounds) else {
            return Ok(None);
        };
        match study.privacy.target {
            PrivacyTarget::NoiseMultiplier { noise_multiplier } => Ok(Some(noise_multiplier)),
            PrivacyTarget::Epsilon { epsilon, relation } => {
                Ok(Some(calibrate_noise(epsilon, self.delta, relation, self.sampling_probability, steps)?))
            }
        }
    }

    /// Rounds with a private part.
    pub fn private_rounds(&self) -> u32 {
        self.rounds.saturating_sub(self.warmup_rounds)
    }

    /// Whether round `round` (from 1) has a private part.
    pub fn is_private_round(&self, round: u32) -> bool {
        round > self.warmup_rounds && round <= self.rounds
    }

    /// The event of one private step, to be charged once per local step of a private round; `None` in a study without
    /// a private part.
    pub fn step_event(&self) -> Option<DpEvent> {
        self.event(NonZeroU32::MIN)
    }

    /// Every kind of release of the study, in the order in which a step charges them.
    pub fn kinds(&self) -> Vec<PlannedRelease> {
        let private = self.step_event().map(|event| PlannedRelease {
            released: Released::PrivateSum,
            event,
            clip_norm: self.clip_norm,
            rounds: self.warmup_rounds.saturating_add(1)..=self.rounds,
        });
        private.into_iter().chain(self.records.as_ref().map(RecordsPlan::release)).collect()
    }

    /// What a site releases in each local step of a round; nothing in a round without noise.
    pub fn releases(&self, round: u32) -> Vec<PlannedRelease> {
        self.kinds().into_iter().filter(|release| release.rounds.contains(&round)).collect()
    }

    /// What a site has charged after `round` rounds of which it missed none: empty, or one event of all the steps.
    pub fn events_until(&self, round: u32) -> Vec<DpEvent> {
        self.steps(1, round).and_then(|steps| self.event(steps)).into_iter().collect()
    }

    /// Upper bound of the whole study for a patient that `overlap` sites hold.
    ///
    /// # Errors
    /// Whatever the accountant refuses.
    pub fn epsilon(&self, overlap: u32, relation: NeighboringRelation) -> Result<Epsilon, AccountantError> {
        let event = self.steps(overlap, self.rounds).and_then(|steps| self.event(steps));
        epsilon(event.as_slice(), self.delta, relation)
    }

    /// Records of a site's public batch in one step: its share of `public_batch_size` by records, rounded up, at most
    /// all of its records; 0 in a study without a public part.
    pub fn public_batch_of(&self, training: &Training, records: u64) -> usize {
        let share = u128::from(training.public_batch_size) * u128::from(records);
        let share = share.div_ceil(u128::from(self.total_records.max(1))).min(u128::from(records));
        usize::try_from(share).unwrap_or(usize::MAX)
    }

    /// SHA-256 over every field, so that a site verifies a plan once and recognizes it in every task. Bytes hashed:
    /// the domain `fusiondp plan v1`; length of the study id as u64 and the id; study digest; then in field order each
    /// double by its bits and each integer as u64, all little-endian, an absent noise multiplier as 0; the fields of an absent
    /// second tier are left out.
    pub fn digest(&self) -> Digest {
        let reals = [
            self.sampling_probability.get(),
            self.noise_multiplier.map_or(0.0, NoiseMultiplier::get),
            self.clip_norm.get(),
        ];
        let integers = [
            u64::from(self.rounds),
            u64::from(self.warmup_rounds),
            u64::from(self.local_steps),
            self.total_units,
            self.total_records,
        ];
        let claims = [self.delta.get(), self.epsilon_replace.get(), self.epsilon_zero_out.get()];
        let mut hasher = Sha256::new();
        hasher.update(DIGEST_DOMAIN);
        hasher.update((self.study_id.as_str().len() as u64).to_le_bytes());
        hasher.update(self.study_id.as_str());
        hasher.update(self.study_digest.as_bytes());
        reals.iter().for_each(|real| hasher.update(real.to_bits().to_le_bytes()));
        integers.iter().for_each(|integer| hasher.update(integer.to_le_bytes()));
        claims.iter().for_each(|claim| hasher.update(claim.to_bits().to_le_bytes()));
        if let Some(records) = &self.records {
            records.hash(&mut hasher);
        }
        Digest::from_bytes(hasher.finalize().into())
    }

    fn event(&self, steps: NonZeroU32) -> Option<DpEvent> {
        let sampling_probability = self.sampling_probability;
        let of = |noise_multiplier| DpEvent::PoissonSampledGaussian {
            noise_multiplier,
            sampling_probability,
            steps,
        };
        self.noise_multiplier.map(of)
    }

    /// Private steps of the first `round` rounds, times `overlap`; `None` for none. Saturates, which overstates only
    /// what no valid study reaches.
    fn steps(&self, overlap: u32, round: u32) -> Option<NonZeroU32> {
        let rounds = round.min(self.rounds).saturating_sub(self.warmup_rounds);
        NonZeroU32::new(rounds.saturating_mul(self.local_steps).saturating_mul(overlap))
    }
}

fn totals(study: &Study, sizes: &[SiteSize]) -> Result<(u64, u64), PlanError> {
    let needed = study.federation.min_sites;
    if sizes.len() < needed as usize || sizes.is_empty() {
        return Err(PlanError::TooFewSites { enrolled: sizes.len(), needed });
    }
    let mut sites = BTreeSet::new();
    let (mut units, mut records) = (0_u64, 0_u64);
    for size in sizes {
        if size.units == 0 || size.records < size.units || size.records > SiteSize::MAX {
            return Err(PlanError::SiteSize { size: size.clone() });
        }
        if !sites.insert(&size.site) {
            return Err(PlanError::DuplicateSite { site: size.site.clone() });
        }
        units = units.saturating_add(size.units);
        records = records.saturating_add(size.records);
    }
    Ok((units, records))
}

/// `expected_batch_size / N`, one correctly rounded division, so that both ends arrive at the same bits; 1 for all.
fn sampling_probability(batch: BatchSize, total_units: u64) -> Result<SamplingProbability, PlanError> {
    let BatchSize::Expected(expected) = batch else {
        return Ok(SamplingProbability::new(1.0)?);
    };
    if u64::from(expected) > total_units {
        return Err(PlanError::BatchAboveUnits { expected, total_units });
    }
    Ok(SamplingProbability::new(f64::from(expected) / total_units as f64)?)
}

fn check_delta(delta: Delta, total_units: u64) -> Result<(), PlanError> {
    if delta.get() > 1.0 / total_units as f64 {
        return Err(PlanError::DeltaAboveUnits { delta, total_units });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
