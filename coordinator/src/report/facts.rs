//! Everything a report is made from, read from the store once.

use std::collections::{BTreeMap, BTreeSet};

use fusiondp_dp::{AccountantError, Delta, DpEvent, Released, SignedEntry, StepCounts};
use fusiondp_protocol::{Plan, SiteId};

use super::ReportError;
use crate::error::CoordinatorError;
use crate::shared::Core;
use crate::store::{
    Claim, MetricRow, ModelRow, ParticipationRow, RoundRow, StoredClaim, StudyRow, StudySiteRow, UpdateRow,
    WarningRow,
};
use crate::study::StudyContext;
use crate::study::accounting::{Accounting, EpsilonPair};

/// The stored facts of one study.
pub(crate) struct Facts {
    pub(crate) consortium: String,
    pub(crate) study: StudyRow,
    pub(crate) plan: Option<Plan>,
    pub(crate) sites: Vec<StudySiteRow>,
    pub(crate) rounds: Vec<RoundRow>,
    pub(crate) participation: Vec<ParticipationRow>,
    pub(crate) updates: Vec<UpdateRow>,
    pub(crate) metrics: Vec<MetricRow>,
    pub(crate) warnings: Vec<WarningRow>,
    pub(crate) claims: Vec<Claim>,
    /// What paid for tables of counts with noise, as far as they arrived.
    pub(crate) counts: Vec<(SiteId, SignedEntry)>,
    /// The final model, or the newest of a study that still trains.
    pub(crate) model: Option<ModelRow>,
    pub(crate) made_ms: u64,
}

/// What a patient may have lost, upper bounds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Spent {
    /// Of the consortium.
    pub(crate) total: EpsilonPair,
    /// The total could not be composed at the study's delta: it holds at `overlap` times delta.
    pub(crate) at_larger_delta: bool,
    /// Of each site with charges, counting one charge for each task that brought no update.
    pub(crate) sites: BTreeMap<SiteId, EpsilonPair>,
    /// The steps that the total is of; `None` where nothing was charged, or not every charge is known.
    pub(crate) steps: Option<StepCounts>,
}

/// What tables of counts have cost, upper bounds, as far as their reports arrived.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct CountsSpent {
    /// A patient of each cohort, who is in no other data.
    pub(crate) cohorts: Vec<CohortSpent>,
    /// A patient who is in every cohort and in the training data.
    pub(crate) with_training: EpsilonPair,
}

/// One cohort of it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct CohortSpent {
    pub(crate) cohort: String,
    /// Of one site, or of as many as may hold the same patient.
    pub(crate) tables: u64,
    pub(crate) epsilon: EpsilonPair,
}

impl Facts {
    pub(crate) async fn read(core: &Core, context: &StudyContext) -> Result<Self, CoordinatorError> {
        let id = context.id();
        let missing = || CoordinatorError::Missing { what: "row", study: id.to_string() };
        let stored = core.store.snapshot(id).await?.ok_or_else(missing)?;
        let counts = match context.study().evaluation.noisy() {
            Some(_) => core.store.counts_charges(id).await?,
            None => Vec::new(),
        };
        let read = move || stored.claims.into_iter().map(StoredClaim::read).collect::<Result<Vec<_>, _>>();
        Ok(Self {
            consortium: core.settings.consortium.name.clone(),
            plan: stored.study.plan()?,
            sites: stored.sites,
            rounds: stored.rounds,
            participation: stored.participation,
            updates: stored.updates,
            metrics: stored.metrics,
            warnings: stored.warnings,
            claims: tokio::task::spawn_blocking(read).await??,
            counts,
            model: stored.model,
            made_ms: core.clock.now_ms(),
            study: stored.study,
        })
    }

    /// What sensitive values have lost: the figure of each site, and the consortium's, which is the largest of all sites, or
    /// that of the worst `overlap` sites composed where as many may hold the same patient.
    pub(crate) fn spent(&self, overlap: u32) -> Result<Spent, ReportError> {
        let planned = self.plan.as_ref().and_then(Plan::step_event);
        let claims = self.claims.iter().map(|claim| TierClaim::of(claim, planned.as_slice()));
        self.composed(claims.collect(), overlap)
    }

    /// The same of whole records.
    pub(crate) fn spent_of_records(&self, overlap: u32) -> Result<Spent, ReportError> {
        let planned: Vec<DpEvent> =
            self.plan.iter().flat_map(Plan::kinds).map(|release| release.event).collect();
        let claims = self.claims.iter().map(|claim| TierClaim::of_records(claim, &planned));
        self.composed(claims.collect(), overlap)
    }

    fn composed(&self, claims: Vec<TierClaim<'_>>, overlap: u32) -> Result<Spent, ReportError> {
        let Some(plan) = &self.plan else {
            return Ok(Spent {
                total: EpsilonPair::ZERO,
                at_larger_delta: false,
                sites: BTreeMap::new(),
                steps: None,
            });
        };
        let mut accounting = Accounting::new(plan.delta);
        let mut bounds = Vec::with_capacity(claims.len());
        for claim in &claims {
            bounds.push((claim, claim.at_most(plan, &mut accounting)?));
        }
        bounds.sort_by(|(_, left), (_, right)| right.replace.total_cmp(&left.replace));
        let single = bounds.iter().fold(EpsilonPair::ZERO, |most, (_, bound)| most.max(*bound));
        let sites = bounds.iter().map(|(claim, bound)| (claim.claim.site.clone(), *bound)).collect();
        let worst = &bounds[..bounds.len().min(overlap as usize)];
        // Charges that the mirror has not seen cannot be composed exactly: basic composition, at the sum of deltas.
        let at_larger_delta = overlap > 1 && worst.iter().any(|(claim, _)| !claim.claim.complete);
        let total = if at_larger_delta {
            worst.iter().fold(EpsilonPair::ZERO, |sum, (_, bound)| sum.plus(*bound))
        } else if overlap > 1 {
            accounting.of(worst.iter().flat_map(|(claim, _)| claim.possible_events(plan)))?.max(single)
        } else {
            single
        };
        let known = worst.iter().all(|(claim, _)| claim.claim.complete);
        let mut steps = StepCounts::default();
        for event in worst.iter().flat_map(|(claim, _)| claim.possible_events(plan)) {
            steps.add(&event, event.steps().get().into());
        }
        let steps = Some(steps).filter(|steps| known && *steps != StepCounts::default());
        Ok(Spent { total, at_larger_delta, sites, steps })
    }

    /// What the tables of counts have cost a patient: of each cohort by itself, and of all of them together with training.
    pub(crate) fn counts_spent(
        &self,
        delta: Delta,
        overlap: u32,
    ) -> Result<Option<CountsSpent>, ReportError> {
        if self.counts.is_empty() {
            return Ok(None);
        }
        let mut accounting = Accounting::new(delta);
        let mut cohorts = Vec::new();
        let names: BTreeSet<&str> = self.counts.iter().filter_map(|(_, charge)| cohort(charge)).collect();
        for name in names {
            let worst = self.worst_counts(overlap, |charge| cohort(charge) == Some(name));
            let tables = worst.iter().map(|event| u64::from(event.steps().get())).sum();
            let epsilon = accounting.of(worst)?;
            cohorts.push(CohortSpent { cohort: name.to_owned(), tables, epsilon });
        }
        // Tables differ in number alone, and so do steps: those of the worst sites bound any other choice of as many sites.
        let planned = self.plan.as_ref().and_then(Plan::step_event);
        let of_claim = |plan| {
            let claims = self.claims.iter().map(|claim| TierClaim::of(claim, planned.as_slice()));
            claims.map(|claim| claim.possible_events(plan).collect()).collect()
        };
        let mut training: Vec<Vec<DpEvent>> = self.plan.as_ref().map_or_else(Vec::new, of_claim);
        training.sort_by_key(|events| std::cmp::Reverse(steps(events)));
        let training = training.into_iter().take(overlap as usize).flatten();
        let with_training = accounting.of(training.chain(self.worst_counts(overlap, |_| true)))?;
        Ok(Some(CountsSpent { cohorts, with_training }))
    }

    /// The tables of the `overlap` sites with the most of them.
    fn worst_counts(&self, overlap: u32, wanted: impl Fn(&SignedEntry) -> bool) -> Vec<DpEvent> {
        let mut sites: BTreeMap<&SiteId, Vec<DpEvent>> = BTreeMap::new();
        for (site, charge) in self.counts.iter().filter(|(_, charge)| wanted(charge)) {
            sites.entry(site).or_default().push(charge.entry.charge().event);
        }
        let mut sites: Vec<Vec<DpEvent>> = sites.into_values().collect();
        sites.sort_by_key(|events| std::cmp::Reverse(steps(events)));
        sites.into_iter().take(overlap as usize).flatten().collect()
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

fn cohort(charge: &SignedEntry) -> Option<&str> {
    match &charge.entry.charge().released {
        Released::Counts { cohort } => Some(cohort),
        Released::PrivateSum | Released::PublicSum => None,
    }
}

fn steps(events: &[DpEvent]) -> u64 {
    events.iter().map(|event| u64::from(event.steps().get())).sum()
}

/// What a site claims of one tier.
struct TierClaim<'a> {
    claim: &'a Claim,
    claimed: EpsilonPair,
    events: &'a [DpEvent],
    /// What one step releases.
    planned: &'a [DpEvent],
}

impl<'a> TierClaim<'a> {
    fn of(claim: &'a Claim, planned: &'a [DpEvent]) -> Self {
        let claimed = EpsilonPair { replace: claim.epsilon_replace, zero_out: claim.epsilon_zero_out };
        Self { claim, claimed, events: &claim.events, planned }
    }

    fn of_records(claim: &'a Claim, planned: &'a [DpEvent]) -> Self {
        let records = &claim.records;
        let claimed = EpsilonPair { replace: records.epsilon_replace, zero_out: records.epsilon_zero_out };
        Self { claim, claimed, events: &records.events, planned }
    }

    /// The site's own figure; where tasks brought no update, at least that of the mirrored charges and one more for each
    /// step of those tasks.
    fn at_most(&self, plan: &Plan, accounting: &mut Accounting) -> Result<EpsilonPair, AccountantError> {
        if self.claim.unreported == 0 {
            return Ok(self.claimed);
        }
        Ok(accounting.of(self.possible_events(plan))?.max(self.claimed))
    }

    /// The mirrored charges of the site, and those that it may have made for tasks that brought no update.
    fn possible_events(&self, plan: &Plan) -> impl Iterator<Item = DpEvent> + use<'a> {
        let steps = self.claim.unreported.saturating_mul(u64::from(plan.local_steps));
        let unseen = self.planned.iter().flat_map(move |event| (0..steps).map(move |_| *event));
        self.events.iter().copied().chain(unseen)
    }
}
