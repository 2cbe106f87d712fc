//! What the site permits. Default deny: nothing leaves without a permit that only this module makes.
//!
//! * [`limits`]: the `[policy]` section of site.toml
//! * [`Refusal`]: why the site will not, for the site itself and for the coordinator
//! * [`approval`]: what a person at the site has decided about a study
//! * [`counts`]: whether a table of counts may leave with noise
//! * [`permit`]: permissions as values, each consumed by what it permits
//! * [`budget`]: whether further events fit into the site's limits, over all studies on the same data
//! * [`forecast`]: what a study would cost this site, for whoever has to approve it
//! * [`meter`]: epsilons of event lists, each computed once
//!
//! The order of a private release follows from types: [`Policy::permit_release`] gives a [`ReleasePermit`], which the
//! site's ledger consumes for a committed charge, which the private step consumes for noise.

pub mod approval;
pub mod budget;
pub mod counts;
pub mod forecast;
pub mod limits;
pub mod meter;
pub mod permit;
mod refusal;

use fusiondp_dp::{Delta, LedgerEntry, Protection, Released};
use fusiondp_protocol::ids::CohortName;
use fusiondp_protocol::messages::TrainingTask;
use fusiondp_protocol::plan::{Plan, PlannedRelease};
use fusiondp_protocol::study::{ImputerSpec, MetricRelease, Mode, PrivacyTarget, Study, StudyDocument};

pub use approval::Verdict;
pub use budget::{Budget, Past};
pub use counts::CountsRequest;
pub use limits::{Approval, PolicyLimits, Scope, UnitColumn};
pub use meter::{EpsilonMeter, Spent};
pub use permit::{MetricsPermit, PublicPermit, ReleasePermit};
pub use refusal::Refusal;

use crate::data::identity::DataIdentity;
use permit::ReleaseTerms;

/// Unit recorded in the ledger where every record is a unit.
pub const RECORD_UNIT: &str = "record";

/// Whether the agent runs on real patients or simulates a federation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Real patients: noise from the operating system, no mode without protection.
    Production,
    /// A simulation in one process, which may train without protection to show what privacy costs.
    Simulation,
}

/// The site's limits, ready to be asked.
#[derive(Debug, Clone)]
pub struct Policy {
    limits: PolicyLimits,
    purpose: Purpose,
}

/// What a release is asked for with.
pub struct ReleaseRequest<'a> {
    /// The study.
    pub document: &'a StudyDocument,
    /// The task, whose plan has been verified.
    pub task: &'a TrainingTask,
    /// What the charge is counted against.
    pub data: DataIdentity,
    /// Privacy units of the site (N_k).
    pub units: u64,
}

impl Policy {
    /// A policy of these limits.
    pub fn new(limits: PolicyLimits, purpose: Purpose) -> Self {
        Self { limits, purpose }
    }

    /// The limits in force.
    pub fn limits(&self) -> &PolicyLimits {
        &self.limits
    }

    /// Whether the site takes part in a study at all. What depends on the plan is asked again with every task.
    ///
    /// # Errors
    /// The [`Refusal`], naming limit, value and remedy.
    pub fn check_study(&self, study: &Study, units: u64) -> Result<(), Refusal> {
        self.check_document(study)?;
        self.check_size(study, units)
    }

    /// What of [`Policy::check_study`] needs no look at the site's data.
    ///
    /// # Errors
    /// As [`Policy::check_study`].
    pub fn check_document(&self, study: &Study) -> Result<(), Refusal> {
        self.check_mode(study)?;
        self.check_records(study)?;
        self.check_columns(study)?;
        self.check_imputer(study)?;
        let has_private_part = study.fusion.mode.has_private_part();
        if !has_private_part && !study.noises_public_part() {
            return Ok(());
        }
        self.check_unit(study)?;
        self.check_delta(study.privacy.delta)?;
        if !has_private_part {
            return Ok(());
        }
        self.check_clip_norm(study.privacy.clip_norm)?;
        match study.privacy.target {
            PrivacyTarget::NoiseMultiplier { noise_multiplier } => self.check_noise(noise_multiplier),
            // At another delta than the site's the target says little; the budget is asked with every task.
            PrivacyTarget::Epsilon { .. } if study.privacy.delta != self.limits.delta => Ok(()),
            PrivacyTarget::Epsilon { epsilon, relation } => Scope::ALL
                .into_iter()
                .filter(|scope| *scope != Scope::Records)
                .try_for_each(|scope| self.limits.check_epsilon(scope, relation, epsilon)),
        }
    }

    /// Whether an imputer whose support data is listed (`true`) or not may be used.
    ///
    /// # Errors
    /// [`Refusal::SupportNotListed`].
    pub fn check_support(&self, study: &Study, listed: bool) -> Result<(), Refusal> {
        if listed || !self.limits.require_support_ids || !uses_file(study) {
            return Ok(());
        }
        Err(Refusal::SupportNotListed)
    }

    /// Whether charges on this data may be added to a ledger that holds these entries.
    ///
    /// # Errors
    /// [`Refusal::DataSetUnknown`] when the ledger holds charges of other data and the site has not declared which data
    /// this is; [`Refusal::UnitChanged`] when the same data was charged per another unit.
    pub fn check_data(
        &self,
        entries: &[LedgerEntry],
        data: DataIdentity,
        study: &Study,
    ) -> Result<(), Refusal> {
        let unit = unit_name(study);
        let mut of_this_data =
            entries.iter().filter(|entry| entry.charge().data_set == data.digest).peekable();
        if of_this_data.peek().is_none() && !data.declared && !entries.is_empty() {
            return Err(Refusal::DataSetUnknown { data_set: data.digest });
        }
        self.check_past_of_records(of_this_data.clone())?;
        match of_this_data.find(|entry| entry.charge().unit != unit) {
            Some(entry) => {
                Err(Refusal::UnitChanged { charged: entry.charge().unit.clone(), asked: unit.to_owned() })
            }
            None => Ok(()),
        }
    }

    /// What whole records lost to a study that does not protect them has no bound.
    fn check_past_of_records<'a>(
        &self,
        mut entries: impl Iterator<Item = &'a LedgerEntry>,
    ) -> Result<(), Refusal> {
        let unprotected = |entry: &&LedgerEntry| entry.charge().protects != Protection::WholeRecords;
        match self.limits.records.and_then(|_| entries.find(unprotected)) {
            Some(entry) => Err(Refusal::RecordsLost { study: entry.charge().study.clone() }),
            None => Ok(()),
        }
    }

    /// Permits the noised parts of one task: its plan within the limits, and its events within the budget. `past` is what
    /// `entries` come to for this study at this time.
    ///
    /// # Errors
    /// The [`Refusal`]. CPU work of milliseconds, at most a second, when the budget is evaluated.
    pub fn permit_release(
        &self,
        request: &ReleaseRequest<'_>,
        entries: &[LedgerEntry],
        past: &Past,
        budget: &mut Budget,
    ) -> Result<ReleasePermit, Refusal> {
        let (study, plan) = (request.document.study(), &request.task.plan);
        self.check_study(study, request.units)?;
        self.check_data(entries, request.data, study)?;
        let releases = plan.releases(request.task.round);
        if releases.is_empty() {
            return Err(Refusal::NoPrivatePart);
        }
        self.check_delta(plan.delta)?;
        releases.iter().try_for_each(|release| self.check_release(release))?;
        budget.admit(&self.limits, past, &planned(plan, request.task.round))?;
        Ok(ReleasePermit::new(ReleaseTerms {
            data_set: request.data.digest,
            study: request.document.id().to_string(),
            study_digest: request.document.digest(),
            round: request.task.round,
            steps: 1..=plan.local_steps,
            releases,
            protects: study.protects(),
            unit: unit_name(study).to_owned(),
            units: request.units,
            model_digest: request.task.model_digest,
            charges_before: entries.len(),
        }))
    }

    /// Permits a gradient of the hybrid view to leave without noise.
    ///
    /// # Errors
    /// [`Refusal::PublicGradient`], also for a study that noises it, or what [`Policy::check_public`] finds.
    pub fn permit_public(&self, study: &Study, units: u64) -> Result<PublicPermit, Refusal> {
        self.check_public(study, units)?;
        if study.noises_public_part() {
            return Err(Refusal::PublicGradient);
        }
        Ok(PublicPermit::new())
    }

    /// Whether the study's public part may leave as the study has it, with noise or without.
    ///
    /// # Errors
    /// What [`Policy::check_study`] finds in mode, second tier, columns and size.
    pub fn check_public(&self, study: &Study, units: u64) -> Result<(), Refusal> {
        self.check_mode(study)?;
        self.check_records(study)?;
        self.check_columns(study)?;
        self.check_imputer(study)?;
        self.check_units(units)
    }

    /// Whether metrics of a cohort may leave as the study wants them to: the site must want it too. Asked before the cohort is
    /// read.
    ///
    /// # Errors
    /// [`Refusal::Metrics`], [`Refusal::NoisyMetrics`], [`Refusal::MetricsNoise`], [`Refusal::MetricsNotInStudy`] or
    /// [`Refusal::CohortNotInStudy`].
    pub fn check_metrics(&self, study: &Study, cohort: &CohortName) -> Result<(), Refusal> {
        let evaluation = &study.evaluation;
        match (evaluation.release, evaluation.noisy()) {
            (MetricRelease::Noisy, Some(noisy)) => self.check_metrics_noise(noisy.noise_multiplier)?,
            (MetricRelease::Summary, _) if self.limits.allow_metrics => {}
            (MetricRelease::Summary, _) => return Err(Refusal::Metrics),
            (MetricRelease::None | MetricRelease::Noisy, _) => return Err(Refusal::MetricsNotInStudy),
        }
        if evaluation.during.as_ref() != Some(cohort) && evaluation.final_cohort.as_ref() != Some(cohort) {
            return Err(Refusal::CohortNotInStudy { cohort: cohort.clone() });
        }
        Ok(())
    }

    /// Permits metrics of a cohort of `units` privacy units to leave in the clear.
    ///
    /// # Errors
    /// As [`Policy::check_metrics`], or [`Refusal::CohortTooSmall`].
    pub fn permit_metrics(
        &self,
        study: &Study,
        cohort: &CohortName,
        units: u64,
    ) -> Result<MetricsPermit, Refusal> {
        if study.evaluation.release != MetricRelease::Summary {
            return Err(Refusal::MetricsNotInStudy);
        }
        self.check_metrics(study, cohort)?;
        self.check_cohort_size(cohort, units)?;
        Ok(MetricsPermit::new())
    }

    fn check_cohort_size(&self, cohort: &CohortName, units: u64) -> Result<(), Refusal> {
        if units < self.limits.min_units {
            return Err(Refusal::CohortTooSmall { cohort: cohort.clone(), limit: self.limits.min_units });
        }
        Ok(())
    }

    fn check_mode(&self, study: &Study) -> Result<(), Refusal> {
        let mode = study.fusion.mode;
        if mode == Mode::NonPrivate && self.purpose == Purpose::Production {
            return Err(Refusal::NonPrivate);
        }
        if !mode.has_public_part() || self.limits.allow_public_gradient {
            return Ok(());
        }
        // How much noise there has to be, the study must not decide: a site that lets nothing out in the clear says by a budget
        // what it lets out with noise.
        match (study.noises_public_part(), self.limits.records) {
            (true, Some(_)) => Ok(()),
            (true, None) => Err(Refusal::NoisedPublicGradient),
            (false, _) => Err(Refusal::PublicGradient),
        }
    }

    /// A site with a budget for whole records takes part in studies that protect them.
    fn check_records(&self, study: &Study) -> Result<(), Refusal> {
        if self.limits.records.is_none() {
            return Ok(());
        }
        if study.protects() != Protection::WholeRecords {
            return Err(Refusal::RecordsUnprotected);
        }
        // At another delta than the site's the target says little; the budget is asked with every task.
        match study.privacy.records.as_ref().map(|records| records.target) {
            Some(PrivacyTarget::Epsilon { epsilon, relation })
                if study.privacy.delta == self.limits.delta =>
            {
                self.limits.check_epsilon(Scope::Records, relation, epsilon)
            }
            _ => Ok(()),
        }
    }

    fn check_units(&self, units: u64) -> Result<(), Refusal> {
        if units < self.limits.min_units {
            return Err(Refusal::TooFewUnits { units, limit: self.limits.min_units });
        }
        Ok(())
    }

    /// All sites have no fewer units than this one, so a delta above 1 over its own is above 1/N.
    fn check_size(&self, study: &Study, units: u64) -> Result<(), Refusal> {
        self.check_units(units)?;
        let delta = study.privacy.delta;
        let noised = study.fusion.mode.has_private_part() || study.noises_public_part();
        if noised && delta.get() > 1.0 / units as f64 {
            return Err(Refusal::DeltaAboveUnits { delta });
        }
        Ok(())
    }

    fn check_columns(&self, study: &Study) -> Result<(), Refusal> {
        let permitted = &self.limits.public_columns;
        let public = study.schema.public().map(|column| (column, "a public column"));
        let mut uncovered = public.chain(study.schema.label().map(|column| (column, "its label")));
        match uncovered.find(|(column, _)| !permitted.contains(&column.name)) {
            Some((column, role)) => Err(Refusal::ColumnNotPublic { column: column.name.clone(), role }),
            None => Ok(()),
        }
    }

    fn check_unit(&self, study: &Study) -> Result<(), Refusal> {
        match &self.limits.unit_column {
            UnitColumn::Named(required) if study.privacy.unit_column.as_ref() != Some(required) => {
                Err(Refusal::Unit { asked: unit_name(study).to_owned(), required: required.clone() })
            }
            UnitColumn::Named(_) | UnitColumn::EveryRecord => Ok(()),
        }
    }

    /// A file is used only where it is listed, if there is a list.
    fn check_imputer(&self, study: &Study) -> Result<(), Refusal> {
        let Some(allowed) = self.limits.allowed_imputers.as_ref().filter(|_| uses_file(study)) else {
            return Ok(());
        };
        match study.imputer.sha256() {
            Some(digest) if allowed.iter().any(|one| one.get() == digest) => Ok(()),
            Some(digest) => Err(Refusal::ImputerNotAllowed { digest }),
            None => Err(Refusal::ImputerNotPinned { kind: study.imputer.kind() }),
        }
    }

    fn check_delta(&self, value: Delta) -> Result<(), Refusal> {
        if value <= self.limits.delta {
            Ok(())
        } else {
            Err(Refusal::Delta { value, limit: self.limits.delta })
        }
    }

    /// Whether one release of a plan is within the limits. Noise and clip norm of a public sum are bound by its budget alone.
    fn check_release(&self, release: &PlannedRelease) -> Result<(), Refusal> {
        if release.released == Released::PublicSum {
            return Ok(());
        }
        let sampling_probability = release.event.sampling_probability();
        self.check_clip_norm(release.clip_norm)?;
        self.check_noise(release.event.noise_multiplier())?;
        match self.limits.max_sampling_probability {
            Some(limit) if sampling_probability > limit => {
                Err(Refusal::SamplingProbability { value: sampling_probability, limit })
            }
            _ => Ok(()),
        }
    }

    fn check_clip_norm(&self, value: fusiondp_dp::ClipNorm) -> Result<(), Refusal> {
        match self.limits.max_clip_norm {
            Some(limit) if value > limit => Err(Refusal::ClipNorm { value, limit }),
            _ => Ok(()),
        }
    }

    fn check_noise(&self, value: fusiondp_dp::NoiseMultiplier) -> Result<(), Refusal> {
        match self.limits.min_noise_multiplier {
            Some(limit) if value < limit => Err(Refusal::NoiseMultiplier { value, limit }),
            _ => Ok(()),
        }
    }
}

/// Whether a study computes on values that come out of a file. The other imputers read nothing but the study.
fn uses_file(study: &Study) -> bool {
    let file = matches!(study.imputer, ImputerSpec::Onnx { .. } | ImputerSpec::Precomputed { .. });
    file && study.uses_imputer()
}

/// The unit that a study protects, as the ledger records it.
pub fn unit_name(study: &Study) -> &str {
    study.privacy.unit_column.as_deref().unwrap_or(RECORD_UNIT)
}

/// What a task needs now, and what the rest of its study would need: also of what begins later only.
fn planned(plan: &Plan, round: u32) -> Vec<budget::Planned> {
    let steps = u64::from(plan.local_steps);
    let of = |release: PlannedRelease| {
        let (first, last) = release.rounds.clone().into_inner();
        let rounds_left = (u64::from(last) + 1).saturating_sub(u64::from(first.max(round)));
        budget::Planned {
            steps_now: if release.rounds.contains(&round) { steps } else { 0 },
            steps_to_the_end: steps.saturating_mul(rounds_left),
            released: release.released,
            event: release.event,
        }
    };
    plan.kinds().into_iter().map(of).collect()
}

#[cfg(test)]
mod tests;
