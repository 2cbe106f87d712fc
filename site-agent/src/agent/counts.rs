//! Metrics with noise: one table of counts, from policy to stored report.
//!
//! ```text
//! stored before? --yes--> the same bytes again
//!      | no
//! permit --> charge --> count, add noise --> store, and mark the charge as released --> send
//! ```
//!
//! A crash between charge and storing costs the charge: the next task is charged anew and gets other noise.

use std::sync::Arc;

use fusiondp_dp::CommittedCharge;
use fusiondp_protocol::messages::{EvaluationReport, EvaluationTask, NoisyCounts, ReleasedMetrics};

use super::SiteAgent;
use crate::data::identity::DataIdentity;
use crate::error::TaskError;
use crate::evaluate::noisy_counts;
use crate::policy::{CountsRequest, Past, Refusal};
use crate::store::CountsKey;
use crate::train::Session;
use crate::train::session::CohortRecords;
use crate::transport::Link;

impl SiteAgent {
    /// The report of a task whose metrics leave with noise: the stored one, or one that is charged and computed.
    pub(super) async fn noisy_report(
        &mut self,
        link: &mut Link,
        session: &Arc<Session>,
        task: EvaluationTask,
    ) -> Result<EvaluationReport, TaskError> {
        let key = CountsKey::of(&task);
        if let Some((model_digest, counts)) = self.store.counts_of(&key).await? {
            if model_digest != key.model_digest {
                return Err(TaskError::ModelReplaced { version: key.model_version });
            }
            tracing::info!(study = %key.study, cohort = %key.cohort, "sending the stored counts again");
            return Ok(report(key, counts));
        }
        let cohort = self.cohort(session, &task.cohort).await?;
        let params = self.evaluated_model(link, session, &task).await?;
        let charge = self.charge_counts(session, &task, &cohort).await?;
        let rng = self.random.counts(task.study_digest, task.model_digest, &task.cohort)?;
        let (prepared, counted) = (Arc::clone(session), Arc::clone(&cohort));
        let work = move || {
            let noisy = prepared.study().evaluation.noisy().ok_or(Refusal::MetricsNotInStudy)?;
            Ok(noisy_counts((charge, rng), noisy.edges, prepared.model(), &params, &counted)?)
        };
        let released: Result<_, TaskError> = self.workers.run(work).await?;
        let (counts, entry) = released?.into_parts();
        let charge = self.store.sign_entry(entry)?;
        let counts = NoisyCounts { units: cohort.units.count() as u64, counts, charge };
        self.store.release_counts(&key, &counts, self.clock.now_ms()).await?;
        Ok(report(key, counts))
    }

    /// Permits and commits the charge of one table.
    async fn charge_counts(
        &self,
        session: &Arc<Session>,
        task: &EvaluationTask,
        cohort: &Arc<CohortRecords>,
    ) -> Result<CommittedCharge, TaskError> {
        let update_id = self.random.update_id()?;
        let (policy, data, now_ms) = (self.policy.clone(), self.data_of(session, task), self.clock.now_ms());
        let (task, session, cohort) = (task.clone(), Arc::clone(session), Arc::clone(cohort));
        let mut books = Arc::clone(&self.books).lock_owned().await;
        let permit = move || {
            let other_data = data.digest != session.identity().digest;
            let request = CountsRequest {
                document: session.document(),
                cohort: &task.cohort,
                model_digest: task.model_digest,
                data,
                units: cohort.units.count() as u64,
                shared_units: if other_data { session.units().shared_with(&cohort.units) } else { 0 },
            };
            let inner = &mut *books;
            let entries = inner.ledger.entries();
            let past = Past::of(entries, data.digest, session.document().id().as_str(), now_ms);
            let permit = policy.permit_counts(&request, entries, &past, &mut inner.budget);
            (books, permit)
        };
        let (mut books, permit) = self.workers.run(permit).await?;
        let charges = books.ledger.charge(permit?, update_id, now_ms).await?;
        charges.into_iter().next().ok_or(TaskError::Uncharged)
    }

    /// What counts of a cohort are counted against: patients of a cohort may be in the training data, and only the
    /// hospital can say that they are not.
    fn data_of(&self, session: &Session, task: &EvaluationTask) -> DataIdentity {
        let declared = self.settings.cohort_identities.get(&task.cohort);
        declared.map_or_else(|| session.identity(), |declared| declared.data())
    }
}

fn report(key: CountsKey, counts: NoisyCounts) -> EvaluationReport {
    EvaluationReport {
        study_id: key.study,
        model_version: key.model_version,
        cohort: key.cohort,
        metrics: ReleasedMetrics::Noisy(Box::new(counts)),
    }
}
