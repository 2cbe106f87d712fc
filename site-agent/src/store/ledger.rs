//! The site's ledger: the hash chain of charges, verified on opening, and the only way to add to it.
//!
//! [`SiteLedger::charge`] takes a [`ReleasePermit`], so there is no charge without policy, and gives committed charges,
//! without which nothing is noised. An entry is on the disk before its charge exists as a value.

use std::sync::Arc;

use fusiondp_dp::{
    ChargeError, CommittedCharge, Digest, DpEvent, Ledger, LedgerEntry, LedgerError, LedgerStore, UpdateId,
};
use sqlx::sqlite::SqliteRow;
use sqlx::{Connection, Row};

use super::{Store, StoreError, integer};
use crate::policy::ReleasePermit;

/// A clock may be set back by this much, in milliseconds, before charges are refused: time servers correct small errors.
const CLOCK_TOLERANCE_MS: u64 = 60_000;

/// A ledger that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SiteLedgerError {
    /// The chain does not hold.
    #[error(
        "the ledger's hash chain is broken: {source}; the agent releases nothing on it. Keep the folder as evidence, \
         restore site.sqlite from a backup that holds the newest entries, and compare with the coordinator's mirror"
    )]
    Chain {
        /// What does not hold.
        #[from]
        source: LedgerError,
    },
    /// An entry cannot be read.
    #[error(
        "ledger entry {sequence} cannot be read: the state database is damaged; restore it from a backup"
    )]
    Unreadable {
        /// Position in the table.
        sequence: i64,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A charge was refused or not stored.
    #[error("no charge was made: {0}")]
    Charge(#[from] ChargeError<StoreError>),
    /// The ledger has moved on since the permission.
    #[error("the permission is older than the newest charge; nothing was charged, the task is computed anew")]
    PermitVoid,
}

/// The verified chain together with where it is kept.
pub struct SiteLedger {
    chain: Ledger,
    store: Arc<Store>,
}

impl SiteLedger {
    /// Reads and verifies the chain.
    ///
    /// # Errors
    /// [`SiteLedgerError::Chain`] when an entry was changed, removed or moved.
    pub async fn open(store: Arc<Store>) -> Result<Self, SiteLedgerError> {
        let chain = Ledger::open(store.ledger_entries().await?)?;
        Ok(Self { chain, store })
    }

    /// Every entry, oldest first.
    pub fn entries(&self) -> &[LedgerEntry] {
        self.chain.entries()
    }

    /// Head of the chain.
    pub fn head(&self) -> Digest {
        self.chain.head()
    }

    /// Everything charged on one data set, over all studies.
    pub fn events(&self, data_set: Digest) -> Vec<DpEvent> {
        self.chain.events(data_set)
    }

    /// Everything charged by one study on one data set.
    pub fn study_events(&self, study: &str, data_set: Digest) -> Vec<DpEvent> {
        self.chain.study_events(study, data_set)
    }

    /// Commits the charges that a permit stands for, all or none.
    ///
    /// # Errors
    /// The permit is void, the clock went back by more than a minute, or the store failed. Nothing is charged then.
    pub async fn charge(
        &mut self,
        permit: ReleasePermit,
        update_id: UpdateId,
        now_ms: u64,
    ) -> Result<Vec<CommittedCharge>, SiteLedgerError> {
        if permit.charges_before() != self.chain.entries().len() {
            return Err(SiteLedgerError::PermitVoid);
        }
        let newest_ms = self.chain.entries().last().map_or(0, |entry| entry.charge().time_ms);
        let set_back_ms = newest_ms.saturating_sub(now_ms);
        let time_ms = if set_back_ms <= CLOCK_TOLERANCE_MS { now_ms.max(newest_ms) } else { now_ms };
        let requests = permit.into_charges(time_ms, update_id);
        Ok(self.chain.charge(requests, &mut Appender(&self.store)).await?)
    }
}

/// Appends to the table; private, so that nothing but [`SiteLedger::charge`] does.
struct Appender<'a>(&'a Store);

impl LedgerStore for Appender<'_> {
    type Error = StoreError;

    async fn append(&mut self, entries: &[LedgerEntry]) -> Result<(), StoreError> {
        let mut connection = self.0.connection().await;
        let mut transaction = connection.begin().await?;
        for entry in entries {
            let charge = entry.charge();
            sqlx::query(
                "INSERT INTO ledger (sequence, entry, update_id, study, round, local_step)
                 VALUES ($1, $2, $3, $4, $5, $6)",
            )
            .bind(integer(entry.sequence()))
            .bind(entry.canonical_json())
            .bind(charge.update_id.to_string())
            .bind(charge.study.as_str())
            .bind(i64::from(charge.round))
            .bind(i64::from(charge.local_step))
            .execute(&mut *transaction)
            .await?;
        }
        transaction.commit().await?;
        Ok(())
    }
}

/// One row of the stored ledger.
#[derive(Debug, Clone)]
pub struct LedgerRow {
    /// The entry as stored; not verified.
    pub entry: LedgerEntry,
    /// Its update is stored, so its bytes may have left.
    pub released: bool,
}

impl Store {
    /// Every ledger entry as stored and whether its update is, oldest first: one snapshot, also while an agent runs.
    ///
    /// # Errors
    /// The database fails, or an entry is no entry.
    pub async fn ledger_rows(&self) -> Result<Vec<LedgerRow>, SiteLedgerError> {
        let mut connection = self.connection().await;
        let rows = sqlx::query("SELECT sequence, entry, released_ms FROM ledger ORDER BY sequence")
            .fetch_all(&mut *connection)
            .await
            .map_err(StoreError::from)?;
        rows.iter().map(ledger_row).collect()
    }

    /// Every ledger entry as stored, oldest first; not verified.
    ///
    /// # Errors
    /// As [`Store::ledger_rows`].
    pub async fn ledger_entries(&self) -> Result<Vec<LedgerEntry>, SiteLedgerError> {
        Ok(self.ledger_rows().await?.into_iter().map(|row| row.entry).collect())
    }
}

fn ledger_row(row: &SqliteRow) -> Result<LedgerRow, SiteLedgerError> {
    let sequence: i64 = row.try_get("sequence").map_err(StoreError::from)?;
    let text: String = row.try_get("entry").map_err(StoreError::from)?;
    let released_ms: Option<i64> = row.try_get("released_ms").map_err(StoreError::from)?;
    let entry =
        serde_json::from_str(&text).map_err(|source| SiteLedgerError::Unreadable { sequence, source })?;
    Ok(LedgerRow { entry, released: released_ms.is_some() })
}
