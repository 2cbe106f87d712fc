//! Everything a report is made from, read from the store once.

use fusiondp_dp::SignedEntry;
use fusiondp_protocol::{Plan, SiteId};

use crate::error::CoordinatorError;
use crate::shared::Core;
use crate::store::{
    Claim, MetricRow, ModelRow, ParticipationRow, RoundRow, StoredClaim, StudyRow, StudySiteRow, UpdateRow,
    WarningRow,
};
use crate::study::StudyContext;

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
