//! The only connections there are: TLS 1.3 with certificates on both ends, or in-memory pipes with the same identities.
//!
//! | module | holds |
//! |---|---|
//! | [`client`] | [`client::connect`]: a gRPC channel to the coordinator, with refusals in plain words |
//! | [`files`] | [`TlsFiles`]: authority, certificate and key, loaded and checked |
//! | [`memory`] | connections inside one process, for the simulation |
//! | [`server`] | [`server::TlsServer`]: accepts members of the consortium and nobody else |
//! | [`signing`] | signatures with the key of a certificate outside of any handshake, checked by [`signing::Authority`] |
//!
//! ```text
//! client                              server
//!   | -- ClientHello (TLS 1.3, h2) ---> |
//!   | <--- certificate of server_id --- |   name <id>.coordinator.fusiondp, whatever the host is called
//!   | -- own certificate -------------> |   authority, validity, purpose, name <id>.{site,admin}.fusiondp
//!   | <--- first HTTP/2 frame, or alert |   `connect` waits for it, so a refusal is an error of `connect`
//! ```
//!
//! Sessions are never resumed: each connection proves its certificate again, so an expired one ends at the next connect.

pub mod client;
pub mod files;
pub mod memory;
pub mod server;
pub mod signing;

mod admission;
mod peer_stream;
mod reason;
mod verifier;

use std::fmt;
use std::net::SocketAddr;

pub use client::{ClientOptions, ConnectError, connect, explain};
pub use files::{Credentials, TlsFiles, TlsFilesError};
pub use memory::{MemoryConnector, MemoryListener, memory_transport};
pub use peer_stream::PeerStream;
pub use server::{BindError, HandshakeError, Incoming, TlsListener, TlsServer};
pub use signing::{Authority, CertificateSignature, SignatureProblem, Signer};

use crate::identity::PeerIdentity;

/// Flow-control window of one gRPC stream, in bytes. Smaller windows slow large chunks to a third.
pub const STREAM_WINDOW_BYTES: u32 = 8 << 20;

/// Flow-control window of one connection, in bytes.
pub const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;

/// Application protocol both ends agree on.
const ALPN_HTTP2: &[u8] = b"h2";

/// Installs the *ring* provider for rustls in this process. Every `main` calls it once; repeated calls do nothing.
pub fn install_crypto_provider() {
    // The error says that a provider is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Who is at the other end of a server's connection. Stands in the extensions of each request that arrives over it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerConnection {
    /// Whom the certificate names.
    pub identity: PeerIdentity,
    /// Where the connection comes from.
    pub address: PeerAddress,
}

/// Where a connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerAddress {
    /// A network peer.
    Socket(SocketAddr),
    /// The same process.
    Memory,
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(address) => address.fmt(f),
            Self::Memory => f.write_str("in-process"),
        }
    }
}

/// The connection that a request arrived over. `None` if the server runs over connections of another kind.
#[must_use]
pub fn peer_connection<T>(request: &tonic::Request<T>) -> Option<&PeerConnection> {
    request.extensions().get::<PeerConnection>()
}

/// Whom the certificate of a request's sender names. `None` is to be treated as not authenticated.
#[must_use]
pub fn peer_identity<T>(request: &tonic::Request<T>) -> Option<PeerIdentity> {
    peer_connection(request).map(|connection| connection.identity.clone())
}

#[cfg(test)]
mod tests;
