//! A site's own check of a plan.

use fusiondp_dp::{Epsilon, NeighboringRelation};

use super::{Plan, PlanMismatch, SiteSize, check_delta, sampling_probability};
use crate::study::{PrivacyTarget, StudyDocument};

/// Relative difference that two builds of the same accountant may show.
const EPSILON_TOLERANCE: f64 = 1e-6;

impl Plan {
    /// Recomputes everything that a site can: copied figures exactly, q from the totals exactly, both epsilons to a
    /// relative 1e-6, the target. CPU work of some milliseconds to seconds; verify once, then compare digests.
    ///
    /// # Errors
    /// [`PlanMismatch`] with the first figure that does not agree.
    pub fn verify(&self, document: &StudyDocument, own: &SiteSize) -> Result<(), PlanMismatch> {
        self.verify_copied(document)?;
        self.verify_totals(document, own)?;
        self.verify_noise(document)?;
        self.verify_epsilon("epsilon_replace", self.epsilon_replace, NeighboringRelation::Replace)?;
        self.verify_epsilon("epsilon_zero_out", self.epsilon_zero_out, NeighboringRelation::ZeroOut)?;
        self.verify_target(document)?;
        self.verify_records(document)
    }

    fn verify_copied(&self, document: &StudyDocument) -> Result<(), PlanMismatch> {
        let study = document.study();
        agree("study_id", &self.study_id, document.id())?;
        agree("study_digest", &self.study_digest, &document.digest())?;
        agree("clip_norm", &self.clip_norm, &study.privacy.clip_norm)?;
        agree("delta", &self.delta, &study.privacy.delta)?;
        agree("rounds", &self.rounds, &study.training.rounds)?;
        agree("warmup_rounds", &self.warmup_rounds, &study.warmup_rounds())?;
        agree("local_steps", &self.local_steps, &study.training.local_steps)
    }

    fn verify_totals(&self, document: &StudyDocument, own: &SiteSize) -> Result<(), PlanMismatch> {
        let sizes = [
            ("total_units", self.total_units, own.units),
            ("total_records", self.total_records, own.records),
            ("total_records", self.total_records, self.total_units),
        ];
        for (field, total, own) in sizes {
            if total < own {
                return Err(PlanMismatch::OwnSize { field, total, own });
            }
        }
        check_delta(self.delta, self.total_units).map_err(PlanMismatch::Totals)?;
        let batch = document.study().training.expected_batch_size;
        let q = sampling_probability(batch, self.total_units).map_err(PlanMismatch::Totals)?;
        agree("sampling_probability", &self.sampling_probability, &q)
    }

    /// A noise that the study fixes must be that one; a calibrated one is judged by the epsilon it leads to.
    fn verify_noise(&self, document: &StudyDocument) -> Result<(), PlanMismatch> {
        let figure = |own: &str| PlanMismatch::Figure {
            field: "noise_multiplier",
            plan: self.noise_multiplier.map_or("none".to_owned(), |noise| noise.to_string()),
            own: own.to_owned(),
        };
        match (self.noise_multiplier, self.private_rounds()) {
            (None, 0) => return Ok(()),
            (Some(_), 0) => return Err(figure("none, because the study has no private part")),
            (None, _) => return Err(figure("a value, because the study has a private part")),
            (Some(_), _) => {}
        }
        match document.study().privacy.target {
            PrivacyTarget::NoiseMultiplier { noise_multiplier }
                if Some(noise_multiplier) != self.noise_multiplier =>
            {
                Err(figure(&noise_multiplier.to_string()))
            }
            _ => Ok(()),
        }
    }

    fn verify_epsilon(
        &self,
        field: &'static str,
        claimed: Epsilon,
        relation: NeighboringRelation,
    ) -> Result<(), PlanMismatch> {
        agree_closely(field, claimed, self.epsilon(1, relation)?)
    }

    fn verify_target(&self, document: &StudyDocument) -> Result<(), PlanMismatch> {
        let study = document.study();
        let PrivacyTarget::Epsilon { epsilon: target, relation } = study.privacy.target else {
            return Ok(());
        };
        within_target(self.epsilon(study.federation.max_overlap, relation)?, target, relation)
    }
}

pub(super) fn within_target(
    spent: Epsilon,
    target: Epsilon,
    relation: NeighboringRelation,
) -> Result<(), PlanMismatch> {
    if spent.get() <= target.get() * (1.0 + EPSILON_TOLERANCE) {
        return Ok(());
    }
    Err(PlanMismatch::AboveTarget { spent, target, relation })
}

/// Two figures of the same accountant, perhaps of two builds of it.
pub(super) fn agree_closely(field: &'static str, claimed: Epsilon, own: Epsilon) -> Result<(), PlanMismatch> {
    let (low, high) = (claimed.get().min(own.get()), claimed.get().max(own.get()));
    // Equality first: it also covers two infinities, whose difference is no number.
    if low == high || high - low <= EPSILON_TOLERANCE * high {
        return Ok(());
    }
    Err(PlanMismatch::Figure { field, plan: claimed.get().to_string(), own: own.get().to_string() })
}

pub(super) fn agree<T: PartialEq + std::fmt::Display>(
    field: &'static str,
    plan: &T,
    own: &T,
) -> Result<(), PlanMismatch> {
    if plan == own {
        return Ok(());
    }
    Err(PlanMismatch::Figure { field, plan: plan.to_string(), own: own.to_string() })
}
