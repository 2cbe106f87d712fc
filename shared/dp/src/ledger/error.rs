//! What can be wrong with a chain, a request or a store.

use thiserror::Error;

use super::LedgerPublicKey;

/// A chain that does not verify, or a request that would make one.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LedgerError {
    /// An entry has another sequence number than its place in the chain.
    #[error(
        "entry {expected} of the ledger has sequence {found}; entries are missing, repeated or reordered"
    )]
    Sequence {
        /// The sequence number that follows.
        expected: u64,
        /// The one found.
        found: u64,
    },
    /// An entry does not link to the hash of the entry before it.
    #[error(
        "entry {sequence} does not link to the entry before it; the ledger was altered, restore it from a backup"
    )]
    Link {
        /// Sequence number of the entry.
        sequence: u64,
    },
    /// An entry's hash is not the hash of its contents.
    #[error("entry {sequence} does not match its own hash; the ledger was altered, restore it from a backup")]
    Hash {
        /// Sequence number of the entry.
        sequence: u64,
    },
    /// An entry is signed by somebody else, or was changed together with its hash.
    #[error(
        "entry {sequence} is not signed by ledger key {key}; it was altered, or belongs to another site's ledger"
    )]
    Signature {
        /// Sequence number of the entry.
        sequence: u64,
        /// The key that should have signed it.
        key: LedgerPublicKey,
    },
    /// An entry is older than the entry before it.
    #[error(
        "entry {sequence} has time {time_ms} ms, before the last entry's {last_ms} ms; set the clock right"
    )]
    TimeBackwards {
        /// Sequence number of the entry.
        sequence: u64,
        /// Its time, Unix milliseconds.
        time_ms: u64,
        /// Time of the entry before, Unix milliseconds.
        last_ms: u64,
    },
    /// A text is longer than the ledger keeps.
    #[error("{field} has {length} bytes, more than {limit}; give a shorter one")]
    TextTooLong {
        /// Name of the field.
        field: &'static str,
        /// Its length in bytes.
        length: usize,
        /// The longest permitted length in bytes.
        limit: usize,
    },
    /// The chain has as many entries as a sequence number can count.
    #[error("the ledger is full")]
    Full,
}

/// Why a charge was not committed. Nothing may be released on it.
#[derive(Debug, Error)]
pub enum ChargeError<E: std::error::Error + 'static> {
    /// The request does not continue the chain; nothing was written.
    #[error("the charge was refused")]
    Refused(#[source] LedgerError),
    /// The store did not confirm the entries. No permission exists, and the ledger has to be opened again.
    #[error("the store did not confirm the charge; nothing was released")]
    Store(#[source] E),
    /// An earlier charge failed or was interrupted while the store was writing, so memory and store may differ.
    #[error("an earlier charge was not confirmed; open the ledger again from its store")]
    InDoubt,
}
