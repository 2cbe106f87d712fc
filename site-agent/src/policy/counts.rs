//! Metrics with noise: whether a table of counts may be charged and leave.

use std::num::NonZeroU32;

use fusiondp_dp::{ClipNorm, Digest, DpEvent, LedgerEntry, NoiseMultiplier, Released};
use fusiondp_protocol::ids::CohortName;
use fusiondp_protocol::plan::PlannedRelease;
use fusiondp_protocol::study::{Study, StudyDocument};

use super::permit::ReleaseTerms;
use super::{Budget, Past, Policy, Refusal, ReleasePermit, budget, unit_name};
use crate::data::identity::DataIdentity;

/// What a table of counts is asked for with.
pub struct CountsRequest<'a> {
    /// The study.
    pub document: &'a StudyDocument,
    /// The cohort that is counted.
    pub cohort: &'a CohortName,
    /// Digest of the model version that is evaluated.
    pub model_digest: Digest,
    /// What the charge is counted against.
    pub data: DataIdentity,
    /// Privacy units of the cohort.
    pub units: u64,
    /// Units of the cohort that are in the training data too, while it counts as another data set.
    pub shared_units: usize,
}

impl Policy {
    /// Permits one table of counts: the study and the site want it, and it fits into the budget. `past` is what `entries`
    /// come to for this study on the request's data at this time.
    ///
    /// # Errors
    /// The [`Refusal`]. CPU work of milliseconds, at most a second, when the budget is evaluated.
    pub fn permit_counts(
        &self,
        request: &CountsRequest<'_>,
        entries: &[LedgerEntry],
        past: &Past,
        budget: &mut Budget,
    ) -> Result<ReleasePermit, Refusal> {
        let (study, cohort) = (request.document.study(), request.cohort);
        let event = counts_event(study).ok_or(Refusal::MetricsNotInStudy)?;
        self.check_metrics(study, cohort)?;
        self.check_unit(study)?;
        self.check_cohort_size(cohort, request.units)?;
        if request.shared_units > 0 {
            return Err(Refusal::CohortShared { cohort: cohort.clone(), units: request.shared_units });
        }
        self.check_data(entries, request.data, study)?;
        let release = PlannedRelease {
            released: Released::Counts { cohort: cohort.to_string() },
            event,
            clip_norm: one(),
            rounds: 0..=0,
        };
        let released = release.released.clone();
        budget.admit(
            &self.limits,
            past,
            &[budget::Planned { released, event, steps_now: 1, steps_to_the_end: 1 }],
        )?;
        Ok(ReleasePermit::new(ReleaseTerms {
            data_set: request.data.digest,
            study: request.document.id().to_string(),
            study_digest: request.document.digest(),
            round: 0,
            steps: 0..=0,
            releases: vec![release],
            protects: study.protects(),
            unit: unit_name(study).to_owned(),
            units: request.units,
            model_digest: request.model_digest,
            charges_before: entries.len(),
        }))
    }

    /// What may leave without noise may leave with any.
    pub(super) fn check_metrics_noise(&self, value: NoiseMultiplier) -> Result<(), Refusal> {
        match self.limits.min_metrics_noise {
            _ if self.limits.allow_metrics => Ok(()),
            None => Err(Refusal::NoisyMetrics),
            Some(limit) if value < limit => Err(Refusal::MetricsNoise { value, limit }),
            Some(_) => Ok(()),
        }
    }
}

/// The event of one table of a study; `None` where it releases none.
pub fn counts_event(study: &Study) -> Option<DpEvent> {
    let noise_multiplier = study.evaluation.noisy()?.noise_multiplier;
    Some(DpEvent::GaussianHistogram { noise_multiplier, steps: NonZeroU32::MIN })
}

/// A unit adds 1 in total.
fn one() -> ClipNorm {
    // Unwrap safety: 1 is finite and above 0.
    #[allow(clippy::unwrap_used)]
    ClipNorm::new(1.0).unwrap()
}
