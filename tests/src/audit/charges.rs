//! Charges of a ledger in memory.

use std::convert::Infallible;
use std::future::ready;

use fusiondp_dp::{
    ChargeRequest, CommittedCharge, Digest, DpEvent, Ledger, LedgerEntry, LedgerStore, UpdateId,
};

use super::setting::Series;
use super::{AuditError, Setting};

/// Entries after which the ledger starts over, so that it does not fill the memory.
const MOST_ENTRIES: usize = 4_096;

/// Makes the charges of one kind of release.
pub(super) struct Charges {
    runtime: tokio::runtime::Runtime,
    ledger: Ledger,
    request: ChargeRequest,
}

/// A store that keeps nothing: the ledger of an attack protects nobody.
struct Nowhere;

impl LedgerStore for Nowhere {
    type Error = Infallible;

    fn append(&mut self, _: &[LedgerEntry]) -> impl Future<Output = Result<(), Infallible>> {
        ready(Ok(()))
    }
}

impl Charges {
    pub(super) fn new(setting: &Setting, series: &Series) -> Result<Self, AuditError> {
        let request = ChargeRequest {
            time_ms: 0,
            data_set: Digest::of(b"canaries"),
            study: "audit".to_owned(),
            study_digest: Digest::of(b"audit"),
            round: 1,
            local_step: 1,
            event: series.event,
            clip_norm: series.clip_norm,
            unit: "canary".to_owned(),
            units: 1,
            model_digest: Digest::of(b"audit"),
            update_id: UpdateId::from_bytes([0; 16]),
            released: series.released.clone(),
            protects: setting.protects,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        Ok(Self { runtime, ledger: Ledger::open(Vec::new())?, request })
    }

    /// A committed charge for one release of `units` units.
    pub(super) fn commit(&mut self, event: DpEvent, units: usize) -> Result<CommittedCharge, AuditError> {
        if self.ledger.entries().len() >= MOST_ENTRIES {
            self.ledger = Ledger::open(Vec::new())?;
        }
        self.request.round += 1;
        let request = ChargeRequest { event, units: units as u64, ..self.request.clone() };
        let charged = self.runtime.block_on(self.ledger.charge(vec![request], &mut Nowhere))?;
        charged.into_iter().next().ok_or(AuditError::NoCharge)
    }
}
