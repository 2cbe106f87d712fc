//! The first call of a connection, and the long poll.

use fusiondp_dp::SignedEntry;

use crate::ids::SiteId;
use crate::key_statement::SignedKeyStatement;

/// Longest wait of one poll, in milliseconds.
pub const MAX_POLL_WAIT_MS: u32 = 60_000;

/// What one end is willing to take, and after registration what is in force on the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Largest `data` of one chunk, in bytes, [`Limits::MIN_CHUNK_BYTES`] to [`Limits::MAX_CHUNK_BYTES`].
    pub max_chunk_bytes: u32,
    /// Largest model or update in total, in bytes, at most [`Limits::MAX_MODEL_BYTES`].
    pub max_model_bytes: u64,
}

impl Limits {
    /// Smallest chunk limit an end may ask for.
    pub const MIN_CHUNK_BYTES: u32 = 4 << 10;
    /// Largest chunk.
    pub const MAX_CHUNK_BYTES: u32 = 1 << 20;
    /// Largest model or update that any end may permit: 16 GiB.
    pub const MAX_MODEL_BYTES: u64 = 16 << 30;

    /// The smaller of both ends' limits, which is in force on the connection.
    pub fn negotiate(self, other: Limits) -> Limits {
        Limits {
            max_chunk_bytes: self.max_chunk_bytes.min(other.max_chunk_bytes),
            max_model_bytes: self.max_model_bytes.min(other.max_model_bytes),
        }
    }
}

impl Default for Limits {
    /// Chunks of 512 KiB and models of 1 GiB.
    fn default() -> Self {
        Self { max_chunk_bytes: 512 << 10, max_model_bytes: 1 << 30 }
    }
}

/// A site's first call (`RegisterRequest`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// Version the site speaks. Any number converts, so that the receiver can answer a mismatch in words.
    pub protocol_version: u32,
    /// Software of the site, informative, at most 64 characters.
    pub agent_version: String,
    /// What the site is willing to take.
    pub limits: Limits,
    /// Binds the key of the site's ledger to the certificate of this connection; `None` from an older agent, and within one
    /// process.
    pub key_statement: Option<Box<SignedKeyStatement>>,
}

/// The coordinator's answer (`RegisterResponse`).
#[derive(Debug, Clone, PartialEq)]
pub struct Registered {
    /// Version the coordinator speaks.
    pub protocol_version: u32,
    /// The site's id as the coordinator read it from the certificate.
    pub site_id: SiteId,
    /// Name of the consortium, at most 120 characters.
    pub consortium: String,
    /// In force on this connection.
    pub limits: Limits,
    /// The coordinator's clock, Unix milliseconds.
    pub server_time_ms: u64,
    /// The furthest entry of the site's own ledger that the coordinator has ever seen, for the site to find out whether its
    /// ledger has lost its end. Whose it is, its signature says.
    pub newest_entry: Option<SignedEntry>,
}

/// A long poll for work (`NextAssignmentRequest`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Poll {
    /// How long the coordinator may wait for work before it answers idle, in milliseconds, at most
    /// [`MAX_POLL_WAIT_MS`].
    pub wait_ms: u32,
}
