//! What a coordinator has seen of this site's ledger.

use fusiondp_protocol::messages::Registered;

use super::{AgentError, SiteAgent};
use crate::store::ledger::SiteLedgerError;

/// Clocks further apart than this are worth a warning: entries of the ledger carry the time.
const CLOCK_DIFFERENCE_MS: u64 = 5 * 60_000;

impl SiteAgent {
    /// Nothing is released on a ledger that lacks an entry which the coordinator can show, unless an administrator has given
    /// that entry up.
    pub(super) async fn check_mirror(&self, registered: &Registered) -> Result<(), AgentError> {
        let now_ms = self.clock.now_ms();
        let apart_ms = now_ms.abs_diff(registered.server_time_ms);
        if apart_ms > CLOCK_DIFFERENCE_MS {
            tracing::warn!(
                apart_s = apart_ms / 1000,
                "this machine's clock and the coordinator's differ; set the wrong one right"
            );
        }
        let Some(shown) = &registered.newest_entry else { return Ok(()) };
        let ledger = &self.books.lock().await.ledger;
        let given_up = self.store.is_given_up(&shown.entry).await.map_err(SiteLedgerError::from)?;
        if ledger.covers(&shown.entry) || given_up {
            return Ok(());
        }
        self.store.keep_lost_entry(shown, now_ms).await.map_err(SiteLedgerError::from)?;
        let own_key = shown.verify(&ledger.key()?).is_ok();
        Err(SiteLedgerError::EntryLost { sequence: shown.entry.sequence(), own_key }.into())
    }
}
