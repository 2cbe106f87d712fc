//! What can go wrong with a task, and what the coordinator is told of it.
//!
//! Three things are kept apart: the site will not ([`DeclineKind::Refusal`]), the site could not
//! ([`DeclineKind::Failure`]), and the connection is gone, which is answered by connecting again.

use fusiondp_dp::AccountantError;
use fusiondp_protocol::ids::StudyId;
use fusiondp_protocol::messages::DeclineKind;
use fusiondp_protocol::plan::PlanMismatch;
use fusiondp_protocol::problem::{Problem, ProblemType};
use fusiondp_protocol::study::StudyError;
use fusiondp_runtime::console::one_line;

use crate::data::DataError;
use crate::evaluate::EvaluateError;
use crate::policy::Refusal;
use crate::store::StoreError;
use crate::store::ledger::SiteLedgerError;
use crate::train::TrainError;
use crate::transport::TransportError;
use crate::workers::WorkerPanic;

/// A task that was not done.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// The site's policy or budget.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The plan does not agree with the site's own computation.
    #[error("the plan does not agree with the site's own figures: {0}")]
    Plan(#[from] PlanMismatch),
    /// The study document does not stand.
    #[error("the study cannot be read: {0}")]
    Study(#[from] StudyError),
    /// A task of a study that the site is not enrolled in.
    #[error("the site is not enrolled in {study}; was its state folder replaced?")]
    NotEnrolled {
        /// The study.
        study: StudyId,
    },
    /// A task of other study bytes than the site has checked.
    #[error("the task is of other study bytes than the site enrolled with")]
    StudyChanged,
    /// A model version whose bytes are not those that the site computed its update on.
    #[error(
        "model version {version} is not the one that the site has computed this round on; was the coordinator's store \
         replaced?"
    )]
    ModelReplaced {
        /// The version.
        version: u64,
    },
    /// A permit that gave no charge, which cannot be.
    #[error("nothing was charged, so nothing is released; please report this as a defect")]
    Uncharged,
    /// The agent is told to end.
    #[error("the agent ends before the task is done; it is taken up again after the next start")]
    Shutdown,
    /// A task of a round before the site's newest.
    #[error("the task is of round {round}, the site has charged or answered round {newest} already")]
    Stale {
        /// The task's round.
        round: u32,
        /// The newest round of the site.
        newest: u32,
    },
    /// Records, imputation or computation.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// Metrics.
    #[error(transparent)]
    Evaluate(#[from] EvaluateError),
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] SiteLedgerError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The site's own figures cannot be computed.
    #[error("epsilon cannot be computed: {0}")]
    Accountant(#[from] AccountantError),
    /// A computation panicked.
    #[error(transparent)]
    Panic(#[from] WorkerPanic),
    /// The connection.
    #[error(transparent)]
    Transport(#[from] TransportError),
}

impl From<fusiondp_dp::SeedError> for TaskError {
    fn from(error: fusiondp_dp::SeedError) -> Self {
        TaskError::Train(TrainError::Seed(error))
    }
}

impl TaskError {
    /// What the coordinator is told; `None` where the connection itself is the problem.
    pub fn decline(&self) -> Option<(DeclineKind, Problem)> {
        let problem = match self {
            TaskError::Transport(TransportError::Refused(_) | TransportError::Connect(_)) => return None,
            TaskError::Transport(
                TransportError::Lost { .. } | TransportError::Silent { .. } | TransportError::Version { .. },
            )
            | TaskError::Shutdown => return None,
            TaskError::Refused(refusal) => Problem::from(refusal),
            other => Problem::new(other.problem_type(), other.told()),
        };
        let kind = if self.is_refusal() { DeclineKind::Refusal } else { DeclineKind::Failure };
        Some((kind, problem))
    }

    /// The text for the coordinator: without paths of the site, and without counts of its patients.
    fn told(&self) -> String {
        match self {
            TaskError::Train(TrainError::Imputer(error)) => error.told(),
            TaskError::Ledger(_) | TaskError::Store(_) => {
                "the site's ledger cannot be read or written; its own log says why".to_owned()
            }
            other => other.to_string(),
        }
    }

    /// The message for the site's own log, where a public cell's value may stand.
    pub fn local_text(&self) -> String {
        match self {
            TaskError::Train(TrainError::Data(error)) => error.with_value(),
            other => one_line(other),
        }
    }

    /// Whether the task waits for a person at the site, which is no news each time.
    pub fn is_waiting(&self) -> bool {
        matches!(self, TaskError::Refused(Refusal::ApprovalPending))
    }

    fn is_refusal(&self) -> bool {
        match self {
            // The site may still say yes.
            TaskError::Refused(Refusal::ApprovalPending) => false,
            TaskError::Refused(_) | TaskError::Plan(_) | TaskError::Study(_) | TaskError::StudyChanged => {
                true
            }
            TaskError::Train(TrainError::Imputer(error)) => error.is_refusal(),
            _ => false,
        }
    }

    fn problem_type(&self) -> ProblemType {
        match self {
            TaskError::Refused(_) => ProblemType::PolicyRefusal,
            TaskError::Plan(_) | TaskError::Accountant(_) => ProblemType::PlanMismatch,
            TaskError::Study(_) => ProblemType::StudyInvalid,
            TaskError::NotEnrolled { .. } => ProblemType::NotEnrolled,
            TaskError::StudyChanged => ProblemType::StudyDigestMismatch,
            TaskError::Stale { .. } => ProblemType::StaleTask,
            TaskError::Train(error) => train_problem(error),
            TaskError::Ledger(_) | TaskError::Store(_) => ProblemType::LedgerError,
            TaskError::Transport(TransportError::TooLarge { .. }) => ProblemType::TooLarge,
            TaskError::Transport(TransportError::Malformed(_)) => ProblemType::MalformedMessage,
            TaskError::Transport(_) => ProblemType::DigestMismatch,
            TaskError::ModelReplaced { .. } => ProblemType::DigestMismatch,
            TaskError::Evaluate(_) | TaskError::Panic(_) | TaskError::Shutdown | TaskError::Uncharged => {
                ProblemType::Internal
            }
        }
    }
}

fn train_problem(error: &TrainError) -> ProblemType {
    match error {
        TrainError::Data(DataError::MissingColumn { .. } | DataError::UnitColumn { .. }) => {
            ProblemType::SchemaMismatch
        }
        TrainError::Data(_) => ProblemType::DataError,
        TrainError::Imputer(error) => error.problem_type(),
        TrainError::Encode(_) => ProblemType::SchemaMismatch,
        _ => ProblemType::Internal,
    }
}
