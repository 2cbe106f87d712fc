//! Every error of the edge as a gRPC status. The one place that decides what a peer learns.

use fusiondp_protocol::chunks::ChunkError;
use fusiondp_protocol::convert::ConvertError;
use fusiondp_protocol::{Problem, ProblemType, StudyError, StudyId};
use tonic::Status;

use crate::error::CoordinatorError;
use crate::store::{StoreError, UpdateRefusal};

/// Why a call is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    /// With a problem type of its own.
    #[error(transparent)]
    Problem(#[from] Problem),
    /// A message breaks the wire specification.
    #[error(transparent)]
    Convert(#[from] ConvertError),
    /// A stream breaks its announcement.
    #[error(transparent)]
    Chunk(#[from] ChunkError),
    /// A study document does not stand.
    #[error(transparent)]
    Study(#[from] StudyError),
    /// An update belongs to nothing that was asked for.
    #[error(transparent)]
    Refusal(#[from] UpdateRefusal),
    /// The coordinator has a fault.
    #[error(transparent)]
    Fault(#[from] CoordinatorError),
    /// The stream itself failed.
    #[error("{0}")]
    Stream(Status),
}

impl ApiError {
    /// A problem with its own kind.
    pub(crate) fn problem(kind: ProblemType, detail: impl AsRef<str>) -> Self {
        ApiError::Problem(Problem::new(kind, detail))
    }

    /// No study has the id.
    pub(crate) fn unknown_study(id: &StudyId) -> Self {
        Self::problem(ProblemType::UnknownStudy, format!("no study has the id {id}; `study list` shows all"))
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        ApiError::Fault(error.into())
    }
}

impl From<ApiError> for Status {
    fn from(error: ApiError) -> Status {
        match error {
            ApiError::Problem(problem) => problem.into(),
            ApiError::Convert(error) => Problem::new(ProblemType::MalformedMessage, error.to_string()).into(),
            ApiError::Chunk(error) => Problem::from(error).into(),
            ApiError::Study(error) => Problem::from(error).into(),
            ApiError::Refusal(error @ UpdateRefusal::ForeignId { .. }) => {
                Problem::new(ProblemType::Duplicate, error.to_string()).into()
            }
            ApiError::Refusal(error) => Problem::new(ProblemType::StaleTask, error.to_string()).into(),
            ApiError::Fault(fault) => internal(&fault),
            ApiError::Stream(status) => status,
        }
    }
}

/// Details of a fault stay here: they name paths and statements, which are nobody's business outside.
fn internal(fault: &CoordinatorError) -> Status {
    tracing::error!(error = fault as &dyn std::error::Error, "a call failed");
    Problem::new(
        ProblemType::Internal,
        "the coordinator has a fault; its log names it, the call may be repeated",
    )
    .into()
}
