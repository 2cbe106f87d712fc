//! One link of the chain.

use serde::{Deserialize, Serialize};

use super::{charge::ChargeRequest, encoding, error::LedgerError};
use crate::params::Digest;

/// A recorded charge, linked to the entry before it.
///
/// Deserializing one proves nothing; [`LedgerEntry::verify`] checks it alone,
/// [`verify_piece`](super::verify_piece) some that belong together, and [`Ledger::open`](super::Ledger::open) and
/// [`Ledger::mirror`](super::Ledger::mirror) a whole chain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LedgerEntry {
    sequence: u64,
    previous: Digest,
    charge: ChargeRequest,
    hash: Digest,
}

impl LedgerEntry {
    /// Records `charge` after `last`, or as the first entry.
    pub(super) fn following(last: Option<&Self>, charge: ChargeRequest) -> Result<Self, LedgerError> {
        let (sequence, previous) = place_after(last)?;
        let hash = encoding::entry_hash(sequence, previous, &charge);
        let entry = Self { sequence, previous, charge, hash };
        entry.verify_follows(last)?;
        Ok(entry)
    }

    /// Checks place, link, hash, time and text lengths against the entry before.
    pub(super) fn verify_follows(&self, last: Option<&Self>) -> Result<(), LedgerError> {
        let (sequence, previous) = place_after(last)?;
        if self.sequence != sequence {
            return Err(LedgerError::Sequence { expected: sequence, found: self.sequence });
        }
        if self.previous != previous {
            return Err(LedgerError::Link { sequence });
        }
        self.verify()?;
        match last.map(|last| last.charge.time_ms) {
            Some(last_ms) if self.charge.time_ms < last_ms => {
                Err(LedgerError::TimeBackwards { sequence, time_ms: self.charge.time_ms, last_ms })
            }
            _ => Ok(()),
        }
    }

    /// Checks what an entry says of itself: text lengths, the hash over its contents, and the link of the first one.
    ///
    /// # Errors
    /// [`LedgerError`] naming the entry.
    pub fn verify(&self) -> Result<(), LedgerError> {
        let Self { sequence, previous, .. } = *self;
        self.charge.check_lengths()?;
        if self.hash != encoding::entry_hash(sequence, previous, &self.charge) {
            return Err(LedgerError::Hash { sequence });
        }
        if sequence == 0 && previous != encoding::genesis() {
            return Err(LedgerError::Link { sequence });
        }
        Ok(())
    }

    /// Place in the chain, from 0.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Hash of the entry before, or the genesis digest.
    #[must_use]
    pub fn previous(&self) -> Digest {
        self.previous
    }

    /// What was charged.
    #[must_use]
    pub fn charge(&self) -> &ChargeRequest {
        &self.charge
    }

    /// Hash of this entry; see the [module documentation](super) for the bytes under it.
    #[must_use]
    pub fn hash(&self) -> Digest {
        self.hash
    }

    /// The entry as JSON without white space, fields in declaration order, numbers in their shortest exact form.
    ///
    /// Parsing it gives an equal entry, bit for bit.
    #[must_use]
    pub fn canonical_json(&self) -> String {
        // Unwrap safety: the fields are integers, finite numbers and texts, which serde_json cannot fail to write.
        serde_json::to_string(self).expect("an entry has a JSON form")
    }
}

/// Sequence number and link of the entry after `last`.
fn place_after(last: Option<&LedgerEntry>) -> Result<(u64, Digest), LedgerError> {
    match last {
        None => Ok((0, encoding::genesis())),
        Some(last) => Ok((last.sequence.checked_add(1).ok_or(LedgerError::Full)?, last.hash)),
    }
}
