//! The site's connection to the coordinator: always opened from here, spoken in domain types.
//!
//! * [`Connector`]: how a connection is opened: [`TlsConnector`] in deployments, [`InProcess`] in simulations
//! * [`link`]: one registered connection and its calls
//!
//! tonic stands in this module and nowhere else in the crate.

mod error;
pub mod link;

use std::future::Future;
use std::pin::Pin;

use fusiondp_runtime::identity::{PeerIdentity, Role};
use fusiondp_runtime::tls::{
    ClientOptions, ConnectError, Credentials, MemoryConnector, TlsFiles, TlsFilesError, connect,
};
use tonic::transport::Channel;

pub use error::TransportError;
pub use link::Link;

/// A channel, once it is open.
pub type Connecting<'a> = Pin<Box<dyn Future<Output = Result<Channel, ConnectError>> + Send + 'a>>;

/// Opens connections to one coordinator.
pub trait Connector: Send + Sync {
    /// Opens a connection.
    fn connect(&self) -> Connecting<'_>;

    /// Certificate and key that connections are opened with; `None` where they carry none.
    fn credentials(&self) -> Option<Result<Credentials, TlsFilesError>> {
        None
    }

    /// Whether nothing that is sent leaves this process.
    fn is_in_process(&self) -> bool {
        false
    }
}

/// Mutually authenticated TLS 1.3.
#[derive(Debug, Clone)]
pub struct TlsConnector {
    /// `https://host:port`.
    pub url: String,
    /// Id in the coordinator's certificate.
    pub coordinator_id: String,
    /// The site's certificates.
    pub files: TlsFiles,
}

impl Connector for TlsConnector {
    fn connect(&self) -> Connecting<'_> {
        let options = ClientOptions::default();
        Box::pin(async move { connect(&self.url, &self.coordinator_id, &self.files, &options).await })
    }

    fn credentials(&self) -> Option<Result<Credentials, TlsFilesError>> {
        Some(self.files.load_as(Role::Site))
    }
}

/// A pipe within the process, for simulations.
#[derive(Clone)]
pub struct InProcess {
    /// The listener's other end.
    pub connector: MemoryConnector,
    /// Who this site is.
    pub identity: PeerIdentity,
}

impl Connector for InProcess {
    fn connect(&self) -> Connecting<'_> {
        Box::pin(async move { Ok(self.connector.channel(self.identity.clone())) })
    }

    fn is_in_process(&self) -> bool {
        true
    }
}
