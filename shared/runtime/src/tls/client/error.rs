//! Why there is no connection, and what to do about it.

use std::io;
use std::time::Duration;

use crate::tls::TlsFilesError;

/// Why there is no connection to the coordinator.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Not an address.
    #[error("coordinator address \"{url}\" {problem}; write it as https://host:port")]
    InvalidUrl {
        /// As configured.
        url: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// Not an id.
    #[error("coordinator id \"{id}\" cannot be part of a certificate's name; use the id that the kit states")]
    InvalidServerId {
        /// As configured.
        id: String,
    },
    /// The own files do not serve.
    #[error(transparent)]
    Files(#[from] TlsFilesError),
    /// No such host.
    #[error("cannot find host {host}: {source}; check the address, the network and the name service")]
    UnknownHost {
        /// Host of the address.
        host: String,
        /// Why.
        source: io::Error,
    },
    /// Nobody answers there.
    #[error(
        "cannot reach the coordinator at {address}: {source}; does it run, and does the firewall let us out?"
    )]
    Unreachable {
        /// Host and port.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// Too slow.
    #[error("the coordinator at {address} did not answer within {} s; check the address and the firewall", after.as_secs())]
    TimedOut {
        /// Host and port.
        address: String,
        /// The limit.
        after: Duration,
    },
    /// This end refuses the other.
    #[error("refused to talk to {address}: {reason}")]
    Untrusted {
        /// Host and port.
        address: String,
        /// In plain words, with the remedy.
        reason: String,
    },
    /// The other end refuses this one.
    #[error("the coordinator at {address} refused this client: {reason}")]
    Refused {
        /// Host and port.
        address: String,
        /// In plain words, with the remedy.
        reason: String,
    },
    /// The connection broke on the way.
    #[error("the connection to {address} broke during the handshake: {source}")]
    Broken {
        /// Host and port.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// HTTP/2 could not be agreed on.
    #[error("{address} accepted the connection but does not speak gRPC; are host and port right?")]
    NotGrpc {
        /// Host and port.
        address: String,
        /// Why.
        source: tonic::transport::Error,
    },
}

impl ConnectError {
    /// Whether a person has to change something, so that trying again soon is of little use.
    #[must_use]
    pub fn needs_attention(&self) -> bool {
        matches!(
            self,
            Self::InvalidUrl { .. }
                | Self::InvalidServerId { .. }
                | Self::Files(_)
                | Self::Untrusted { .. }
                | Self::Refused { .. }
        )
    }
}
