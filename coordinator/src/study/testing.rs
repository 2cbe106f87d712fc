//! What unit tests of several modules use.
#![allow(clippy::unwrap_used)]

use fusiondp_dp::{ChargeRequest, Ledger, LedgerEntry, LedgerStore};

/// A small study with one public and one sensitive column, a linear model, and a warm-up round.
pub(crate) const STUDY: &str = include_str!("../../tests/data/study.toml");

struct Nowhere;

impl LedgerStore for Nowhere {
    type Error = std::convert::Infallible;

    async fn append(&mut self, _: &[LedgerEntry]) -> Result<(), Self::Error> {
        Ok(())
    }
}

/// Charges in a ledger that is kept in memory only.
pub(crate) fn charge(ledger: &mut Ledger, requests: Vec<ChargeRequest>) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    drop(runtime.block_on(ledger.charge(requests, &mut Nowhere)).unwrap());
}
