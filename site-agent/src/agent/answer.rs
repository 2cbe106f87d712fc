//! What the coordinator is told of a task that is not done, and what the site keeps of it.

use fusiondp_protocol::ids::StudyId;
use fusiondp_protocol::messages::{Assignment, Decline, DeclineKind, DeclinedTask};
use fusiondp_protocol::problem::Problem;

use super::SiteAgent;
use crate::error::TaskError;
use crate::store::RefusalRow;
use crate::transport::{Link, TransportError};

impl SiteAgent {
    /// Tells the coordinator why a task is not done. Returns the error that makes a new connection necessary.
    pub(super) async fn answer(
        &mut self,
        link: &mut Link,
        study_id: StudyId,
        task: DeclinedTask,
        error: TaskError,
    ) -> Option<TransportError> {
        let Some((kind, problem)) = error.decline() else {
            return match error {
                TaskError::Transport(TransportError::Refused(problem)) if !problem.is_retryable() => {
                    tracing::warn!(study = %study_id, problem = %problem, "the coordinator did not take the answer");
                    None
                }
                TaskError::Transport(error) => Some(error),
                _ => None,
            };
        };
        self.note_decline(&study_id, task, kind, &problem, &error).await;
        let declined = link.decline(Decline { study_id, task, kind, problem }).await;
        match declined {
            Ok(()) => None,
            Err(TransportError::Refused(problem)) => {
                tracing::warn!(problem = %problem, "the coordinator did not take the answer");
                None
            }
            Err(error) => Some(error),
        }
    }

    /// Keeps and logs what the site does not do, with the detail that the coordinator does not hear.
    async fn note_decline(
        &mut self,
        study: &StudyId,
        task: DeclinedTask,
        kind: DeclineKind,
        problem: &Problem,
        error: &TaskError,
    ) {
        if error.is_waiting() {
            if self.waiting.insert(study.clone()) {
                tracing::warn!(study = %study, "waits for approval; show its plan with `fusiondp-site approve`");
            }
            return;
        }
        let text = error.local_text();
        tracing::warn!(study = %study, ?kind, problem = %problem.kind, reason = text, "declined");
        let row = RefusalRow {
            study: study.to_string(),
            stage: stage(task).to_owned(),
            decline: if kind == DeclineKind::Refusal { "refusal" } else { "failure" }.to_owned(),
            problem: problem.kind.to_string(),
            text,
            times: 1,
            newest_ms: self.clock.now_ms(),
        };
        if let Err(failed) = self.store.record_refusal(&row).await {
            // The answer counts, and the log has it.
            tracing::warn!(error = %failed, "the refusal could not be kept for `fusiondp-site status`");
        }
    }
}

fn stage(task: DeclinedTask) -> &'static str {
    match task {
        DeclinedTask::Enrolment => "enrolment",
        DeclinedTask::Training { .. } => "training",
        DeclinedTask::Evaluation { .. } => "evaluation",
    }
}

/// What an assignment is about; `None` for an idle poll.
pub(super) fn subject(assignment: &Assignment) -> Option<(StudyId, DeclinedTask)> {
    match assignment {
        Assignment::Idle => None,
        Assignment::Enrolment(offer) => Some((offer.study_id.clone(), DeclinedTask::Enrolment)),
        Assignment::Training(task) => {
            let declined = DeclinedTask::Training { round: task.round, attempt: task.attempt };
            Some((task.plan.study_id.clone(), declined))
        }
        Assignment::Evaluation(task) => {
            let declined = DeclinedTask::Evaluation { model_version: task.model_version };
            Some((task.study_id.clone(), declined))
        }
    }
}
