//! All facts of one study as they were at one moment.

use fusiondp_protocol::StudyId;

use super::{
    MetricRow, ModelRow, ParticipationRow, RoundRow, Store, StoreError, StoredClaim, StudyRow, StudySiteRow,
    UpdateRow, WarningRow, evaluations, history, mirror, models, sites, studies, updates,
};

/// What a report is made from.
pub struct StudySnapshot {
    /// The study.
    pub study: StudyRow,
    /// Every invited site, by id.
    pub sites: Vec<StudySiteRow>,
    /// Every attempt of every round, in order.
    pub rounds: Vec<RoundRow>,
    /// What each site did in each attempt, in order.
    pub participation: Vec<ParticipationRow>,
    /// Every update without its values, by round and site.
    pub updates: Vec<UpdateRow>,
    /// Every figure, oldest first.
    pub metrics: Vec<MetricRow>,
    /// In the order in which they came up.
    pub warnings: Vec<WarningRow>,
    /// Of every site that has charged, or may have.
    pub claims: Vec<StoredClaim>,
    /// The final model, or the newest of a study that still trains.
    pub model: Option<ModelRow>,
}

impl Store {
    /// All facts of one study in one transaction, so that they belong together while the study goes on.
    pub async fn snapshot(&self, id: &StudyId) -> Result<Option<StudySnapshot>, StoreError> {
        self.read("snapshot", |tx| {
            Box::pin(async move {
                let Some(study) = studies::load(tx, id).await? else { return Ok(None) };
                let version = if study.final_version > 0 { study.final_version } else { study.model_version };
                Ok(Some(StudySnapshot {
                    sites: sites::study_sites(tx, id).await?,
                    rounds: history::rounds(tx, id).await?,
                    participation: history::participation(tx, id).await?,
                    updates: updates::updates(tx, id).await?,
                    metrics: evaluations::metrics(tx, id).await?,
                    warnings: mirror::warnings(tx, id).await?,
                    claims: mirror::claims(tx, id).await?,
                    model: models::model(tx, id, version).await?,
                    study,
                }))
            })
        })
        .await
    }
}
