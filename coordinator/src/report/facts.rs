//! Everything a report is made from, read from the store once.

use fusiondp_dp::{AccountantError, Delta, DpEvent, Epsilon, NeighboringRelation, epsilon};
use fusiondp_protocol::SiteId;

use super::ReportError;
use crate::error::CoordinatorError;
use crate::round::reporting::SiteOutcome;
use crate::shared::Core;
use crate::store::{
    Claim, MetricRow, ModelRow, ParticipationRow, RoundRow, StudyRow, StudySiteRow, UpdateRow, WarningRow,
};
use crate::study::StudyContext;

/// The stored facts of one study.
pub(crate) struct Facts {
    pub(crate) consortium: String,
    pub(crate) study: StudyRow,
    pub(crate) sites: Vec<StudySiteRow>,
    pub(crate) rounds: Vec<RoundRow>,
    pub(crate) participation: Vec<ParticipationRow>,
    pub(crate) updates: Vec<UpdateRow>,
    pub(crate) metrics: Vec<MetricRow>,
    pub(crate) warnings: Vec<WarningRow>,
    pub(crate) claims: Vec<Claim>,
    /// The final model, or the newest of a study that still trains.
    pub(crate) model: Option<ModelRow>,
    pub(crate) made_ms: u64,
}

/// What a patient may have lost, upper bound.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spent {
    pub(crate) replace: f64,
    pub(crate) zero_out: f64,
    /// The figure could not be composed at the study's delta: it holds at `overlap` times delta.
    pub(crate) at_larger_delta: bool,
}

/// One site's part of [`Spent`].
pub(crate) struct Exposure<'a> {
    pub(crate) site: &'a StudySiteRow,
    /// The mirrored events, and one step for each that may have been charged unseen.
    events: Vec<DpEvent>,
    /// The mirrored chain has no break since enrollment.
    complete: bool,
    /// Private tasks without an answer.
    pub(crate) unanswered: usize,
    /// The site's own figures, or more where tasks are unanswered.
    pub(crate) at_most: Spent,
}

impl Facts {
    pub(crate) async fn read(core: &Core, context: &StudyContext) -> Result<Self, CoordinatorError> {
        let (store, id) = (&core.store, context.id());
        let missing = || CoordinatorError::Missing { what: "row", study: id.to_string() };
        let study = store.study(id).await?.ok_or_else(missing)?;
        let version = if study.final_version > 0 { study.final_version } else { study.model_version };
        Ok(Self {
            consortium: core.settings.consortium.name.clone(),
            sites: store.study_sites(id).await?,
            rounds: store.rounds(id).await?,
            participation: store.participation(id).await?,
            updates: store.updates(id).await?,
            metrics: store.metrics(id).await?,
            warnings: store.warnings(id).await?,
            claims: store.claims(id).await?,
            model: store.model(id, version).await?,
            made_ms: core.clock.now_ms(),
            study,
        })
    }

    /// What each enrolled site's patients may have lost, counting one charge for every private task without an answer.
    pub(crate) fn exposures(&self) -> Result<Vec<Exposure<'_>>, AccountantError> {
        let enrolled = self.sites.iter().filter(|site| site.units > 0);
        enrolled.map(|site| self.exposure(site)).collect()
    }

    fn exposure<'a>(&'a self, site: &'a StudySiteRow) -> Result<Exposure<'a>, AccountantError> {
        let unanswered = self.unanswered(&site.site);
        let claim = self.claims.iter().find(|claim| claim.site == site.site);
        let mut events = claim.map_or_else(Vec::new, |claim| claim.events.clone());
        let mut at_most = Spent::of_site(site);
        if let Some((plan, step)) = self.study.plan.as_ref().and_then(|plan| Some((plan, plan.step_event()?)))
            && unanswered > 0
        {
            events.extend(std::iter::repeat_n(step, unanswered * plan.local_steps as usize));
            at_most = at_most.or_composed(&events, plan.delta)?;
        }
        let complete = claim.is_none_or(|claim| claim.complete);
        Ok(Exposure { site, events, complete, unanswered, at_most })
    }

    /// Private tasks that were given to a site and from which no update has arrived: it may have charged for them.
    fn unanswered(&self, site: &SiteId) -> usize {
        let private = |round| self.study.plan.as_ref().is_some_and(|plan| plan.is_private_round(round));
        let open =
            |outcome| matches!(outcome, SiteOutcome::Working | SiteOutcome::Missing | SiteOutcome::Failed);
        let tasks = self.participation.iter().filter(|row| row.site == *site && private(row.round));
        tasks.filter(|row| open(row.outcome)).count()
    }

    /// The consortium's figure: the largest of all sites, or the worst `overlap` sites composed where as many may hold
    /// the same patient.
    pub(crate) fn spent(&self, exposures: &[Exposure<'_>], overlap: u32) -> Result<Spent, ReportError> {
        let single = exposures.iter().fold(Spent::NOTHING, |largest, one| largest.or(one.at_most));
        let Some(plan) = self.study.plan.as_ref().filter(|_| overlap > 1) else { return Ok(single) };
        let mut worst: Vec<&Exposure<'_>> = exposures.iter().collect();
        worst.sort_by(|left, right| right.at_most.replace.total_cmp(&left.at_most.replace));
        worst.truncate(overlap as usize);
        if worst.iter().all(|one| one.complete) {
            let events: Vec<DpEvent> = worst.iter().flat_map(|one| one.events.iter().copied()).collect();
            return Ok(single.or_composed(&events, plan.delta)?);
        }
        // Charges that the mirror has not seen cannot be composed exactly: basic composition, at the sum of deltas.
        Ok(Spent {
            replace: worst.iter().map(|one| one.at_most.replace).sum(),
            zero_out: worst.iter().map(|one| one.at_most.zero_out).sum(),
            at_larger_delta: true,
        })
    }

    /// Figures of the final model on the final cohort, pooled; else the newest pooled ones.
    pub(crate) fn final_metric(&self, context: &StudyContext) -> Option<&MetricRow> {
        let pooled = || self.metrics.iter().filter(|metric| metric.site.is_none());
        let cohort = context.study().evaluation.final_cohort.as_ref();
        let last = pooled().rfind(|metric| {
            metric.model_version == self.study.final_version && Some(&metric.cohort) == cohort
        });
        last.or_else(|| pooled().next_back())
    }

    /// From the plan to the end, or to now, in seconds.
    pub(crate) fn seconds(&self) -> f64 {
        let end_ms = self.study.ended_ms.unwrap_or(self.made_ms);
        self.study.started_ms.map_or(0.0, |start_ms| end_ms.saturating_sub(start_ms) as f64 / 1_000.0)
    }
}

impl Spent {
    const NOTHING: Self = Self { replace: 0.0, zero_out: 0.0, at_larger_delta: false };

    /// What the site says itself.
    fn of_site(site: &StudySiteRow) -> Self {
        Self { replace: site.epsilon_replace, zero_out: site.epsilon_zero_out, at_larger_delta: false }
    }

    /// The larger of both, relation by relation.
    fn or(self, other: Self) -> Self {
        Self {
            replace: self.replace.max(other.replace),
            zero_out: self.zero_out.max(other.zero_out),
            at_larger_delta: self.at_larger_delta || other.at_larger_delta,
        }
    }

    /// The larger of this and what the events compose to.
    fn or_composed(self, events: &[DpEvent], delta: Delta) -> Result<Self, AccountantError> {
        let events = crate::study::audit::merged(events);
        let of = |relation| epsilon(&events, delta, relation).map(Epsilon::get);
        let composed = Self {
            replace: of(NeighboringRelation::Replace)?,
            zero_out: of(NeighboringRelation::ZeroOut)?,
            at_larger_delta: false,
        };
        Ok(self.or(composed))
    }
}
