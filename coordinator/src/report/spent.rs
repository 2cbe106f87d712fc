//! What a patient may have lost: by training, of sensitive values and of whole records, and by metrics with noise.

use std::collections::BTreeMap;

use fusiondp_dp::{AccountantError, Delta, DpEvent, Protection, Released, StepCounts};
use fusiondp_protocol::{Plan, SiteId};

use super::ReportError;
use super::facts::Facts;
use crate::counts::CountsSteps;
use crate::store::Claim;
use crate::study::accounting::{Accounting, EpsilonPair};

/// What a patient may have lost by training, upper bounds.
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
    /// A patient who is in every cohort and in the training data; `None` where charges of training are not mirrored.
    pub(crate) with_training: Option<EpsilonPair>,
    /// The same of whole records; `None` also where the study does not protect them.
    pub(crate) records_with_training: Option<EpsilonPair>,
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
    /// What training has cost in one tier: the figure of each site, and the consortium's, which is the largest of all sites,
    /// or that of the worst `overlap` sites composed where as many may hold the same patient.
    pub(crate) fn spent(&self, tier: Protection, overlap: u32) -> Result<Spent, ReportError> {
        let Some(plan) = &self.plan else {
            let (total, sites) = (EpsilonPair::ZERO, BTreeMap::new());
            return Ok(Spent { total, at_larger_delta: false, sites, steps: None });
        };
        let mut accounting = Accounting::new(plan.delta);
        let claims = self.tier_claims(tier, plan);
        let mut bounds = Vec::with_capacity(claims.len());
        for claim in &claims {
            bounds.push((claim, claim.at_most(&mut accounting)?));
        }
        bounds.sort_by(|(_, left), (_, right)| right.replace.total_cmp(&left.replace));
        let single = bounds.iter().fold(EpsilonPair::ZERO, |most, (_, bound)| most.max(*bound));
        let sites = bounds.iter().map(|(claim, bound)| (claim.site.clone(), *bound)).collect();
        let worst = &bounds[..bounds.len().min(overlap as usize)];
        let known = worst.iter().all(|(claim, _)| claim.complete);
        let together = StepCounts::of_the_worst(claims.iter().map(|claim| &claim.steps), overlap as usize);
        // Charges that the mirror has not seen cannot be composed exactly: basic composition, at the sum of deltas.
        let at_larger_delta = overlap > 1 && !known;
        let total = if at_larger_delta {
            worst.iter().fold(EpsilonPair::ZERO, |sum, (_, bound)| sum.plus(*bound))
        } else if overlap > 1 {
            accounting.of(&together)?.max(single)
        } else {
            single
        };
        let steps = Some(together).filter(|steps| known && *steps != StepCounts::default());
        Ok(Spent { total, at_larger_delta, sites, steps })
    }

    /// What the tables of counts have cost a patient: of each cohort by itself, and of all of them together with training;
    /// `None` where none arrived.
    pub(crate) fn counts_spent(
        &self,
        delta: Delta,
        overlap: u32,
        whole_records: bool,
    ) -> Result<Option<CountsSpent>, ReportError> {
        let charges = self.counts.iter().map(|(site, charge)| (site, charge.entry.charge()));
        let Some(steps) = CountsSteps::of_the_worst(charges, overlap) else { return Ok(None) };
        let mut accounting = Accounting::new(delta);
        let mut cohorts = Vec::new();
        for (cohort, worst) in &steps.cohorts {
            let (tables, epsilon) = (worst.total(), accounting.of(worst)?);
            cohorts.push(CohortSpent { cohort: cohort.clone(), tables, epsilon });
        }
        let with_training =
            self.with_training(Protection::SensitiveValues, overlap, &steps, &mut accounting)?;
        let records_with_training = match whole_records {
            true => self.with_training(Protection::WholeRecords, overlap, &steps, &mut accounting)?,
            false => None,
        };
        Ok(Some(CountsSpent { cohorts, with_training, records_with_training }))
    }

    /// Training of the worst sites and these tables together; `None` where not every charge of training is known.
    fn with_training(
        &self,
        tier: Protection,
        overlap: u32,
        tables: &CountsSteps,
        accounting: &mut Accounting,
    ) -> Result<Option<EpsilonPair>, ReportError> {
        let claims = self.plan.as_ref().map_or_else(Vec::new, |plan| self.tier_claims(tier, plan));
        if claims.iter().any(|claim| !claim.complete) {
            return Ok(None);
        }
        let steps = tables.with_training(claims.iter().map(|claim| &claim.steps), overlap);
        Ok(Some(accounting.of(&steps)?))
    }

    fn tier_claims(&self, tier: Protection, plan: &Plan) -> Vec<TierClaim<'_>> {
        let counted =
            |released: &Released| tier == Protection::WholeRecords || *released != Released::PublicSum;
        let kinds = plan.kinds().into_iter().filter(|release| counted(&release.released));
        let planned: Vec<DpEvent> = kinds.map(|release| release.event).collect();
        self.claims.iter().map(|claim| TierClaim::of(claim, tier, &planned, plan.local_steps)).collect()
    }
}

/// What a site claims of one tier.
struct TierClaim<'a> {
    site: &'a SiteId,
    claimed: EpsilonPair,
    /// The mirrored charges, and those that the site may have made for tasks that brought no update.
    steps: StepCounts,
    /// Tasks brought no update.
    unreported: bool,
    /// Every charge that the site counts is mirrored.
    complete: bool,
}

impl<'a> TierClaim<'a> {
    /// `planned` is what one local step releases at most.
    fn of(claim: &'a Claim, tier: Protection, planned: &[DpEvent], local_steps: u32) -> Self {
        let (replace, zero_out, events) = match tier {
            Protection::SensitiveValues => (claim.epsilon_replace, claim.epsilon_zero_out, &claim.events),
            Protection::WholeRecords => {
                let records = &claim.records;
                (records.epsilon_replace, records.epsilon_zero_out, &records.events)
            }
        };
        let mut steps = StepCounts::of(events);
        let unseen = claim.unreported.saturating_mul(u64::from(local_steps));
        for event in planned.iter().filter(|_| unseen > 0) {
            steps.add(event, unseen);
        }
        Self {
            site: &claim.site,
            claimed: EpsilonPair { replace, zero_out },
            steps,
            unreported: claim.unreported > 0,
            complete: claim.complete,
        }
    }

    /// The site's own figure; where tasks brought no update, at least that of the mirrored charges and one more for each
    /// step of those tasks.
    fn at_most(&self, accounting: &mut Accounting) -> Result<EpsilonPair, AccountantError> {
        if !self.unreported {
            return Ok(self.claimed);
        }
        Ok(accounting.of(&self.steps)?.max(self.claimed))
    }
}
