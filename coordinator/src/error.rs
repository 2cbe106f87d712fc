//! What can end or interrupt the coordinator's work.

use fusiondp_learn::encode::EncodeError;
use fusiondp_learn::model::ModelError;
use fusiondp_learn::server::ServerError;
use fusiondp_protocol::{PlanError, StudyError};

use crate::round::aggregation::AggregationError;
use crate::round::configuration::ConfigurationError;
use crate::round::outcome::GivenUp;
use crate::round::selection::SelectionError;
use crate::store::StoreError;

/// A fault of the coordinator itself. It is logged, and the work is tried again; no study fails over it.
#[derive(Debug, thiserror::Error)]
pub enum CoordinatorError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A stored study document does not read any more.
    #[error("a stored study cannot be read: {0}; it was submitted to another version, run that one")]
    Study(#[from] StudyError),
    /// A stored study's schema does not fit its model any more.
    #[error("a stored study cannot be encoded: {0}; it was submitted to another version, run that one")]
    Encode(#[from] EncodeError),
    /// A stored study's model cannot be built any more.
    #[error(
        "the model of a stored study cannot be built: {0}; it was submitted to another version, run that one"
    )]
    Model(#[from] ModelError),
    /// A stored server state does not read.
    #[error("the stored state of the server step cannot be read: {0}; restore a backup")]
    ServerState(#[from] ServerError),
    /// Something that must be stored is not.
    #[error("the store holds no {what} of study {study}; restore a backup")]
    Missing {
        /// What was looked for.
        what: &'static str,
        /// The study.
        study: String,
    },
    /// A report cannot be made.
    #[error("the report cannot be made: {0}")]
    Report(#[from] crate::report::ReportError),
    /// A computation on another thread did not come back.
    #[error("a computation ended early: {0}")]
    Worker(#[from] tokio::task::JoinError),
    /// The gRPC server ended with an error.
    #[error("the server ended: {0}")]
    Server(#[from] tonic::transport::Error),
}

/// Why a study cannot go on. Becomes its final detail, so each message names cause and remedy.
#[derive(Debug, thiserror::Error)]
pub enum StudyFailure {
    /// Too few sites have joined.
    #[error(
        "{needed} sites must enroll and {enrolled} did; {answers}; settle that with the sites and submit again"
    )]
    Enrolment {
        /// Sites needed.
        needed: u32,
        /// Sites enrolled.
        enrolled: usize,
        /// What each other site answered.
        answers: String,
    },
    /// No plan follows from the document and the sites' sizes.
    #[error("no plan can be made: {0}")]
    Plan(#[from] PlanError),
    /// Too few sites are left.
    #[error(transparent)]
    Selection(#[from] SelectionError),
    /// Plan, model and round do not belong together.
    #[error(transparent)]
    Configuration(#[from] ConfigurationError),
    /// The server step cannot be taken.
    #[error(transparent)]
    Aggregation(#[from] AggregationError),
    /// A round was abandoned too often.
    #[error(transparent)]
    GivenUp(#[from] GivenUp),
    /// A site's own figure is not what its receipts give.
    #[error(
        "epsilon-disagreement: site {site} claims to have spent {relation} epsilon {claimed}, the coordinator computes \
         {recomputed} from the {charges} charges of its receipts; compare the versions of site and coordinator, and the site's \
         ledger with its receipts"
    )]
    Disagreement {
        /// The site.
        site: String,
        /// The neighboring relation.
        relation: &'static str,
        /// The site's figure.
        claimed: f64,
        /// The coordinator's figure.
        recomputed: f64,
        /// Charges that it was computed from.
        charges: u64,
    },
    /// A site's mirrored ledger is no chain.
    #[error("ledger-error: the mirrored ledger of site {site} does not verify: {source}")]
    Ledger {
        /// The site.
        site: String,
        /// Which entry, and why.
        #[source]
        source: fusiondp_dp::LedgerError,
    },
    /// The accountant refuses mirrored events.
    #[error("the mirrored ledger of site {site} cannot be accounted: {problem}; look at the site's ledger")]
    Accounting {
        /// The site.
        site: String,
        /// What the accountant says.
        problem: String,
    },
}

/// Why driving a study stopped before its end.
#[derive(Debug, thiserror::Error)]
pub enum Interruption {
    /// The study fails.
    #[error(transparent)]
    Failed(#[from] StudyFailure),
    /// An administrator ends it.
    #[error("stopped by an administrator")]
    Stopped,
    /// The coordinator has a fault; the study goes on later.
    #[error(transparent)]
    Fault(#[from] CoordinatorError),
}

impl From<StoreError> for Interruption {
    fn from(error: StoreError) -> Self {
        Interruption::Fault(error.into())
    }
}
