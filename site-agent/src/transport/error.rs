//! Why a call did not succeed.

use std::time::Duration;

use fusiondp_protocol::chunks::ChunkError;
use fusiondp_protocol::convert::ConvertError;
use fusiondp_protocol::messages::Limits;
use fusiondp_protocol::problem::{Problem, ProblemType};
use fusiondp_runtime::tls::{ConnectError, explain};
use tonic::Status;

/// A failed call.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The connection broke, or the coordinator is not there.
    #[error("the connection to the coordinator is lost: {reason}")]
    Lost {
        /// In plain words.
        reason: String,
    },
    /// The coordinator keeps the connection and does not answer.
    #[error("the coordinator has not answered for {} s; trying again", after.as_secs())]
    Silent {
        /// How long it was waited for.
        after: Duration,
    },
    /// The coordinator answered with a problem.
    #[error("the coordinator answered {0}")]
    Refused(Problem),
    /// The coordinator sent what is no message of this protocol.
    #[error("the coordinator sent a message that does not stand: {0}")]
    Malformed(#[from] ConvertError),
    /// A model did not arrive as announced.
    #[error("the model did not arrive as announced: {0}")]
    Model(#[from] ChunkError),
    /// A model stream without its header, or with another model's.
    #[error("the model stream {problem}; the coordinator must send what was asked for")]
    ModelStream {
        /// What is wrong.
        problem: &'static str,
    },
    /// The other end speaks another version.
    #[error(
        "the coordinator speaks protocol version {theirs}, this agent {ours}; install the agent's matching version"
    )]
    Version {
        /// The coordinator's.
        theirs: u32,
        /// This agent's.
        ours: u32,
    },
    /// The site cannot state whose its ledger's key is.
    #[error("no statement about the ledger's key: {reason}")]
    KeyStatement {
        /// Why, with the remedy.
        reason: String,
    },
    /// An update beyond the negotiated limits.
    #[error("the update has {bytes} bytes, the connection allows {}; raise max_model_bytes", limits.max_model_bytes)]
    TooLarge {
        /// Its size.
        bytes: u64,
        /// In force on the connection.
        limits: Limits,
    },
}

impl TransportError {
    /// Whether somebody has to change something, so that trying again soon is of little use.
    pub fn needs_attention(&self) -> bool {
        match self {
            TransportError::Connect(error) => error.needs_attention(),
            TransportError::Refused(problem) => !problem.is_retryable(),
            TransportError::Version { .. } | TransportError::KeyStatement { .. } => true,
            _ => false,
        }
    }
}

impl From<Status> for TransportError {
    fn from(status: Status) -> Self {
        match Problem::from_status(&status) {
            Some(problem) => TransportError::Refused(problem),
            None => {
                let reason =
                    explain(&status).unwrap_or_else(|| format!("{}: {}", status.code(), status.message()));
                // The other end wrote it: one line, of bounded length, or it could forge lines of the site's log.
                TransportError::Lost { reason: Problem::new(ProblemType::Internal, reason).detail }
            }
        }
    }
}
