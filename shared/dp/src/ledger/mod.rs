//! The hash-chained record of everything that was released, and the only source of permission to release more.
//!
//! ```text
//! ChargeRequest ──Ledger::charge──> LedgerEntry, durable in the LedgerStore ──> CommittedCharge ──> PrivateStep
//! ```
//!
//! The order is charge, then noise: a crash between the two costs budget and never privacy, and nothing is ever
//! refunded. Entries hold events, not epsilons, so that a better accountant can recompute what they cost.
//!
//! # Hash of an entry
//!
//! SHA-256 over the following fields in this order. Each field is its length in bytes as an unsigned 32-bit
//! little-endian integer, then its bytes. Integers are little-endian of the width named, `f64` is the little-endian
//! IEEE 754 bit pattern, texts are UTF-8.
//!
//! | # | field | bytes |
//! |---|---|---|
//! | 1 | domain, the text `fusiondp/ledger-entry/v1` | 24 |
//! | 2 | sequence, u64, from 0 | 8 |
//! | 3 | previous: hash of the entry before, or the genesis digest | 32 |
//! | 4 | time_ms, u64 | 8 |
//! | 5 | data_set, SHA-256 | 32 |
//! | 6 | study, text | 0 to 1,024 |
//! | 7 | study_digest, SHA-256 | 32 |
//! | 8 | round, u32 | 4 |
//! | 9 | local_step, u32 | 4 |
//! | 10 | event kind, the text `poisson_sampled_gaussian` or `gaussian_histogram` | 24 or 18 |
//! | 11 | noise_multiplier, f64 | 8 |
//! | 12 | sampling_probability, f64; 1 for a histogram | 8 |
//! | 13 | steps, u32 | 4 |
//! | 14 | clip_norm, f64 | 8 |
//! | 15 | unit, text | 0 to 1,024 |
//! | 16 | units, u64 | 8 |
//! | 17 | model_digest, SHA-256 | 32 |
//! | 18 | update_id | 16 |
//! | 19 | released, the text `private_sum`, `public_sum` or `counts` | 11, 10 or 6 |
//! | 20 | cohort, text; empty for a sum | 0 to 1,024 |
//! | 21 | protects, the text `sensitive_values` or `whole_records` | 16 or 13 |
//!
//! Fields 19 to 21 are left out where the release is a private sum and protects sensitive values.
//!
//! The genesis digest, `previous` of the first entry and head of an empty ledger, is the SHA-256 of the text
//! `fusiondp/ledger-genesis/v1`.
//!
//! # Two tiers
//!
//! Sensitive values are what every study protects. Their loss is that of the private sums and of counts
//! ([`Ledger::events`]). A study may protect whole records too; their loss is that of all entries
//! ([`Ledger::record_events`]), and has no bound once an entry on the same data belongs to a study that does not.
//!
//! The chain shows every change, deletion, insertion and reordering before its head. Entries carry the site's
//! [signature](SignedEntry), so that copies kept elsewhere cannot be forged; that nothing was cut off at the end is shown
//! by comparing with such a copy.

mod charge;
mod encoding;
mod entry;
mod error;
mod signature;
mod update_id;

pub use charge::{ChargeRequest, CommittedCharge, LedgerStore, Protection, Released};
pub use entry::LedgerEntry;
pub use error::{ChargeError, LedgerError};
pub use signature::{ForeignSignature, LedgerKey, LedgerPublicKey, Signature, SignedEntry, Statement};
pub use update_id::UpdateId;

use crate::{event::DpEvent, params::Digest};

/// The verified entries of one site, oldest first.
///
/// There is one `Ledger` per store; two that append to the same store would contradict each other, and the store's
/// uniqueness of sequence numbers refuses the second.
#[derive(Debug)]
pub struct Ledger {
    entries: Vec<LedgerEntry>,
    /// A store was asked to append and its answer was never seen.
    in_doubt: bool,
}

impl Ledger {
    /// Verifies the chain of `entries`, as read from the store.
    ///
    /// # Errors
    /// [`LedgerError`] naming the first entry whose sequence number, link, hash or time does not follow.
    pub fn open(entries: Vec<LedgerEntry>) -> Result<Self, LedgerError> {
        let mut ledger = Self { entries: Vec::new(), in_doubt: false };
        ledger.mirror(entries)?;
        Ok(ledger)
    }

    /// Appends entries that another ledger made, after verifying that they continue this chain; all or none.
    ///
    /// This is how a coordinator follows a site's ledger. It permits no release.
    ///
    /// # Errors
    /// As [`Ledger::open`]; nothing is appended then.
    pub fn mirror(&mut self, entries: Vec<LedgerEntry>) -> Result<(), LedgerError> {
        let mut last = self.entries.last();
        for entry in &entries {
            entry.verify_follows(last)?;
            last = Some(entry);
        }
        self.entries.extend(entries);
        Ok(())
    }

    /// Hash of the last entry, or the genesis digest of an empty ledger.
    #[must_use]
    pub fn head(&self) -> Digest {
        self.entries.last().map_or_else(encoding::genesis, LedgerEntry::hash)
    }

    /// All entries, oldest first.
    #[must_use]
    pub fn entries(&self) -> &[LedgerEntry] {
        &self.entries
    }

    /// Whether the chain holds an entry: itself, or the same charge at another place, where it was brought back from a
    /// copy after the chain had gone on without it.
    #[must_use]
    pub fn covers(&self, entry: &LedgerEntry) -> bool {
        let place = usize::try_from(entry.sequence()).ok().and_then(|place| self.entries.get(place));
        place.is_some_and(|own| own.hash() == entry.hash())
            || self.entries.iter().any(|own| own.charge().is_same_release(entry.charge()))
    }

    /// What was released from the sensitive values of one data set, over all studies; equal neighbors are merged into steps.
    #[must_use]
    pub fn events(&self, data_set: Digest) -> Vec<DpEvent> {
        merged(self.of(data_set).filter(|charge| charge.released != Released::PublicSum))
    }

    /// What training in one study released from the sensitive values of one data set; equal neighbors are merged into steps.
    #[must_use]
    pub fn study_events(&self, study: &str, data_set: Digest) -> Vec<DpEvent> {
        let of_study = self.of(data_set).filter(|charge| charge.study == study);
        merged(of_study.filter(|charge| charge.released == Released::PrivateSum))
    }

    /// What was released from whole records of one data set, over all studies; `None` once a study let something out that
    /// it computed from them without noise.
    #[must_use]
    pub fn record_events(&self, data_set: Digest) -> Option<Vec<DpEvent>> {
        let unprotected = |charge: &ChargeRequest| charge.protects != Protection::WholeRecords;
        (!self.of(data_set).any(unprotected)).then(|| merged(self.of(data_set)))
    }

    /// What training in one study released from whole records of one data set; meaningless unless the study protects them.
    #[must_use]
    pub fn study_record_events(&self, study: &str, data_set: Digest) -> Vec<DpEvent> {
        let of_study = self.of(data_set).filter(|charge| charge.study == study);
        merged(of_study.filter(|charge| !matches!(charge.released, Released::Counts { .. })))
    }

    fn of(&self, data_set: Digest) -> impl Iterator<Item = &ChargeRequest> {
        self.entries.iter().map(LedgerEntry::charge).filter(move |charge| charge.data_set == data_set)
    }
}

/// Verifies consecutive entries of a chain, wherever in it they begin. Whether the first one follows on what came
/// before is for whoever knows that to check.
///
/// # Errors
/// [`LedgerError`] naming the first entry that does not stand or does not follow.
pub fn verify_piece(entries: &[LedgerEntry]) -> Result<(), LedgerError> {
    let Some(first) = entries.first() else { return Ok(()) };
    first.verify()?;
    entries.windows(2).try_for_each(|pair| pair[1].verify_follows(Some(&pair[0])))
}

/// Events in order, neighbors that differ only in their steps merged.
fn merged<'a>(charges: impl Iterator<Item = &'a ChargeRequest>) -> Vec<DpEvent> {
    let mut events: Vec<DpEvent> = Vec::new();
    for charge in charges {
        let event = charge.event;
        match events.last_mut().and_then(|last| Some((last.merged_with(&event)?, last))) {
            Some((sum, last)) => *last = sum,
            None => events.push(event),
        }
    }
    events
}

#[cfg(test)]
pub(crate) mod tests;
