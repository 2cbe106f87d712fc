//! Everything a report is made from, read from the store once.

use fusiondp_dp::{AccountantError, Delta, DpEvent, Epsilon, NeighboringRelation, epsilon};

use super::ReportError;
use crate::error::CoordinatorError;
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

    /// The consortium's figure: the largest of all sites, or the worst `overlap` sites composed where as many may hold
    /// the same patient.
    pub(crate) fn spent(&self, overlap: u32) -> Result<Spent, ReportError> {
        let largest = |of: fn(&StudySiteRow) -> f64| self.sites.iter().map(of).fold(0.0, f64::max);
        let single = Spent {
            replace: largest(|site| site.epsilon_replace),
            zero_out: largest(|site| site.epsilon_zero_out),
            at_larger_delta: false,
        };
        let Some(plan) = self.study.plan.as_ref().filter(|_| overlap > 1) else { return Ok(single) };
        let mut worst: Vec<&Claim> = self.claims.iter().collect();
        worst.sort_by(|left, right| right.epsilon_replace.total_cmp(&left.epsilon_replace));
        worst.truncate(overlap as usize);
        if worst.iter().all(|claim| claim.complete) {
            return Ok(composed(&worst, plan.delta, single)?);
        }
        // Charges that the mirror has not seen cannot be composed exactly: basic composition, at the sum of deltas.
        Ok(Spent {
            replace: worst.iter().map(|claim| claim.epsilon_replace).sum(),
            zero_out: worst.iter().map(|claim| claim.epsilon_zero_out).sum(),
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

fn composed(worst: &[&Claim], delta: Delta, single: Spent) -> Result<Spent, AccountantError> {
    let events: Vec<DpEvent> = worst.iter().flat_map(|claim| claim.events.iter().copied()).collect();
    let events = crate::study::audit::merged(&events);
    let of = |relation| epsilon(&events, delta, relation).map(Epsilon::get);
    Ok(Spent {
        replace: of(NeighboringRelation::Replace)?.max(single.replace),
        zero_out: of(NeighboringRelation::ZeroOut)?.max(single.zero_out),
        at_larger_delta: false,
    })
}
