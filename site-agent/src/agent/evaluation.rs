//! One evaluation task, from policy to report.

use std::sync::Arc;

use fusiondp_protocol::messages::{EvaluationReport, EvaluationTask};
use fusiondp_protocol::study::MetricRelease;

use super::SiteAgent;
use crate::error::TaskError;
use crate::evaluate::evaluate;
use crate::train::Session;
use crate::transport::Link;
use crate::transport::link::WantedModel;

impl SiteAgent {
    /// Answers an evaluation task: reports metrics, or returns why not.
    pub(super) async fn evaluate(&mut self, link: &mut Link, task: EvaluationTask) -> Result<(), TaskError> {
        self.check_approved(&task.study_id).await?;
        let session = self.session(&task.study_id, task.study_digest).await?;
        self.policy.check_metrics(session.study(), &task.cohort)?;
        let report = match session.study().evaluation.release {
            MetricRelease::Noisy => self.noisy_report(link, &session, task).await?,
            MetricRelease::Summary | MetricRelease::None => self.summary_report(link, &session, task).await?,
        };
        let (study, cohort, model_version) =
            (report.study_id.clone(), report.cohort.clone(), report.model_version);
        link.submit_evaluation(report).await?;
        tracing::info!(study = %study, cohort = %cohort, model_version, "metrics sent");
        Ok(())
    }

    /// Metrics in the clear.
    async fn summary_report(
        &mut self,
        link: &mut Link,
        session: &Arc<Session>,
        task: EvaluationTask,
    ) -> Result<EvaluationReport, TaskError> {
        let cohort = self.cohort(session, &task.cohort).await?;
        let units = cohort.units.count() as u64;
        let permit = self.policy.permit_metrics(session.study(), &task.cohort, units)?;
        let params = self.evaluated_model(link, session, &task).await?;
        let session = Arc::clone(session);
        let work = move || evaluate(permit, &task, session.model(), &params, &cohort);
        Ok(self.workers.run(work).await??)
    }

    /// Parameters of the model version that a task names.
    pub(super) async fn evaluated_model(
        &self,
        link: &mut Link,
        session: &Session,
        task: &EvaluationTask,
    ) -> Result<Vec<f32>, TaskError> {
        let wanted = WantedModel {
            study: task.study_id.clone(),
            version: task.model_version,
            digest: task.model_digest,
            // Versions of private rounds may carry directions behind the parameters.
            values: [false, true].map(|private_part| session.model_values(private_part)).to_vec(),
        };
        let mut params = self.unless_shutdown(link.fetch_model(&wanted)).await?;
        params.truncate(session.model().parameters());
        Ok(params)
    }
}
