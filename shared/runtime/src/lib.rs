//! What every FusionDP service needs around its logic: configuration, telemetry, transport security, time and shutdown.
//!
//! Nothing here knows studies, models or privacy. The two services and the simulation bring their own settings and
//! gRPC services and take from here the connections they run over.
//!
//! | module | holds |
//! |---|---|
//! | [`clock`] | wall-clock time as an argument: [`Clock`], [`SystemClock`], [`ManualClock`] |
//! | [`config`] | strict TOML configuration with environment overrides |
//! | [`console`] | what a command says on standard output and error, and how it ends |
//! | [`files`] | atomic and owner-only file writing, size-limited reading |
//! | [`identity`] | who a peer is, read from its certificate: [`PeerIdentity`], [`Role`] |
//! | [`retry`] | jittered exponential back-off |
//! | [`shutdown`] | a cloneable token that ends a service |
//! | [`telemetry`] | structured logs |
//! | [`tls`] | mutually authenticated TLS 1.3 under gRPC, and in-memory connections with the same identities |
//!
//! Allowed dependencies: no other FusionDP crate. rustls uses the *ring* provider and no other.

pub mod clock;
pub mod config;
pub mod console;
pub mod files;
pub mod identity;
pub mod retry;
pub mod shutdown;
pub mod telemetry;
pub mod tls;

pub use clock::{Clock, ManualClock, SystemClock};
pub use identity::{PeerIdentity, Role};
pub use retry::Backoff;
pub use shutdown::Shutdown;
pub use tls::{PeerConnection, TlsFiles, install_crypto_provider, peer_connection, peer_identity};
