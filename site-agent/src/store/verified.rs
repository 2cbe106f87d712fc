//! Verifying a ledger: its chain, its signatures, and its journal.

use std::path::Path;

use fusiondp_dp::{Ledger, LedgerError, LedgerPublicKey, SignedEntry};

use super::Store;
use super::journal::{JournalError, JournalLines};
use super::ledger::SiteLedgerError;

/// A ledger that was verified without being opened for charges.
pub struct VerifiedLedger {
    /// The chain.
    pub chain: Ledger,
    /// The key that signed it; `None` before an agent has run.
    pub key: Option<LedgerPublicKey>,
    /// Newest entries that the journal does not hold yet.
    pub unjournaled: usize,
}

impl VerifiedLedger {
    /// Verifies chain, signatures and journal and changes nothing, also while an agent runs.
    ///
    /// # Errors
    /// As [`SiteLedger::open`].
    pub async fn read(folder: &Path, journal: &Path) -> Result<Self, SiteLedgerError> {
        let store = Store::open_read_only(folder).await?;
        let Some(key) = store.ledger_public_key().await? else {
            let chain = Ledger::open(store.ledger_entries().await?)?;
            return Ok(Self { chain, key: None, unjournaled: 0 });
        };
        // The journal first: an agent that charges meanwhile makes the database longer, which is in order.
        let lines = JournalLines::read(journal, key)?;
        let signed = store.signed_entries().await?;
        let chain = verified(&signed, &key)?;
        let unjournaled = match lines {
            Some(lines) => lines.lacking(&signed)?,
            None if signed.is_empty() => 0,
            None => {
                let (path, entries) = (journal.to_owned(), signed.len());
                return Err(JournalError::Missing { path, entries }.into());
            }
        };
        Ok(Self { chain, key: Some(key), unjournaled })
    }
}

/// The chain of signed entries.
///
/// # Errors
/// The first entry that does not follow, or is not signed by `key`.
pub(super) fn verified(signed: &[SignedEntry], key: &LedgerPublicKey) -> Result<Ledger, LedgerError> {
    signed.iter().try_for_each(|entry| entry.verify(key))?;
    Ledger::open(signed.iter().map(|signed| signed.entry.clone()).collect())
}
