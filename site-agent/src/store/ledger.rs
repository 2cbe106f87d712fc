//! The site's ledger: the hash chain of charges, verified on opening, and the only way to add to it.
//!
//! [`SiteLedger::charge`] takes a [`ReleasePermit`], so there is no charge without policy, and gives committed charges,
//! without which nothing is noised. An entry is on the disk before its charge exists as a value.

use std::sync::Arc;

use fusiondp_dp::{
    ChargeError, CommittedCharge, Digest, DpEvent, Ledger, LedgerEntry, LedgerError, LedgerPublicKey,
    LedgerStore, Released, SignedEntry, UpdateId,
};
use sqlx::sqlite::SqliteRow;
use sqlx::{Connection, Row, SqliteConnection};

use super::journal::{Journal, JournalError};
use super::repair::DecisionKind;
use super::verified::verified;
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
         restore site.sqlite from a backup, and bring newer charges back from the journal: `fusiondp-site ledger restore`"
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
    /// Database and journal do not agree, or there is no journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A coordinator shows an entry of this site that the ledger does not hold.
    #[error(
        "the coordinator holds entry {sequence} of this site's ledger{of_another_key}, which the ledger does not hold: the state folder \
         was restored from an older backup, or is a new one for the same patients. The agent releases nothing until the \
         charges are back: ask the consortium for receipts-SITE.jsonl of the studies' reports and run `fusiondp-site ledger \
         restore --from FILE`; if they are lost for good, an administrator decides: `fusiondp-site ledger accept lost-entries \
         --reason TEXT`",
        of_another_key = if *own_key { "" } else { ", signed with another key than this ledger's" }
    )]
    EntryLost {
        /// Its place in the chain.
        sequence: u64,
        /// Whether this ledger's key signed it.
        own_key: bool,
    },
    /// The work was given up.
    #[error("the ledger was not verified: {0}")]
    Unfinished(#[from] tokio::task::JoinError),
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
    /// Newest time of an entry up to which an administrator has accepted a clock that was ahead, Unix milliseconds.
    accepted_clock_ms: Option<u64>,
}

impl SiteLedger {
    /// Reads and verifies the chain, its signatures and its journal.
    ///
    /// # Errors
    /// [`SiteLedgerError::Chain`] when an entry was changed, removed or moved; [`SiteLedgerError::Journal`] when the journal
    /// knows other entries.
    pub async fn open(store: Arc<Store>) -> Result<Self, SiteLedgerError> {
        let (ledger, signed) = Self::open_unchecked(store).await?;
        if let Some(journal) = ledger.store.signer()?.journal.clone() {
            tokio::task::spawn_blocking(move || journal.reconcile(&signed)).await??;
        }
        Ok(ledger)
    }

    /// As [`SiteLedger::open`] without the journal, for whoever is about to repair one of them.
    pub(super) async fn open_unchecked(
        store: Arc<Store>,
    ) -> Result<(Self, Vec<SignedEntry>), SiteLedgerError> {
        let signed = store.signed_entries().await?;
        let key = store.signer()?.key.public();
        let accepted_clock_ms = store.newest_decision(DecisionKind::Clock).await?;
        let verify = move || verified(&signed, &key).map(|chain| (chain, signed));
        let (chain, signed) = tokio::task::spawn_blocking(verify).await??;
        Ok((Self { chain, store, accepted_clock_ms }, signed))
    }

    /// Public half of the key that signs the ledger.
    ///
    /// # Errors
    /// The store was opened to be read.
    pub fn key(&self) -> Result<LedgerPublicKey, SiteLedgerError> {
        Ok(self.store.signer()?.key.public())
    }

    /// Whether the ledger holds an entry, also at another place.
    pub fn covers(&self, entry: &LedgerEntry) -> bool {
        self.chain.covers(entry)
    }

    /// The study's charges of training on its data behind a place of the chain, signed, oldest first.
    ///
    /// # Errors
    /// The store was opened to be read.
    pub fn study_charges(
        &self,
        study: &str,
        data_set: Digest,
        behind: Option<u64>,
    ) -> Result<Vec<SignedEntry>, SiteLedgerError> {
        let key = &self.store.signer()?.key;
        let first = behind.map_or(0, |place| usize::try_from(place).map_or(usize::MAX, |place| place + 1));
        let of_study = self.training_charges(study, data_set, first);
        Ok(of_study.map(|entry| key.sign_entry(entry.clone())).collect())
    }

    /// How many charges of training the study has on its data.
    pub fn study_charge_count(&self, study: &str, data_set: Digest) -> u64 {
        self.training_charges(study, data_set, 0).count() as u64
    }

    /// Counts are charged in the same chain and have a report of their own.
    fn training_charges<'a>(
        &'a self,
        study: &'a str,
        data_set: Digest,
        first: usize,
    ) -> impl Iterator<Item = &'a LedgerEntry> {
        self.chain.entries().iter().skip(first).filter(move |entry| {
            let charge = entry.charge();
            let training = !matches!(charge.released, Released::Counts { .. });
            charge.study == study && charge.data_set == data_set && training
        })
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

    /// Everything charged to whole records of one data set; `None` where their loss has no bound.
    pub fn record_events(&self, data_set: Digest) -> Option<Vec<DpEvent>> {
        self.chain.record_events(data_set)
    }

    /// Everything that training in one study charged to whole records of one data set.
    pub fn study_record_events(&self, study: &str, data_set: Digest) -> Vec<DpEvent> {
        self.chain.study_record_events(study, data_set)
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
        let requests = permit.into_charges(self.time_of_charge(now_ms), update_id);
        Ok(self.chain.charge(requests, &mut self.store.appender()?).await?)
    }

    /// The clock's time, or the newest entry's where the clock is behind it by little, or by more with an administrator's
    /// consent: entries of a clock that ran ahead then count as charged now, which no limit is loosened by.
    pub(super) fn time_of_charge(&self, now_ms: u64) -> u64 {
        let newest_ms = self.newest_ms();
        let tolerated = newest_ms.saturating_sub(now_ms) <= CLOCK_TOLERANCE_MS;
        let accepted = self.accepted_clock_ms.is_some_and(|accepted_ms| newest_ms <= accepted_ms);
        if tolerated || accepted { now_ms.max(newest_ms) } else { now_ms }
    }

    /// Time of the newest entry, Unix milliseconds; 0 without entries.
    pub(super) fn newest_ms(&self) -> u64 {
        self.chain.entries().last().map_or(0, |entry| entry.charge().time_ms)
    }

    /// The chain and its store, for whoever repairs them.
    pub(super) fn parts(&mut self) -> (&mut Ledger, Arc<Store>) {
        (&mut self.chain, Arc::clone(&self.store))
    }
}

/// Signs entries, appends them to the table and then to the journal.
pub(super) struct Appender<'a> {
    pub(super) store: &'a Store,
    pub(super) journal: Option<Journal>,
}

impl LedgerStore for Appender<'_> {
    type Error = StoreError;

    async fn append(&mut self, entries: &[LedgerEntry]) -> Result<(), StoreError> {
        let key = &self.store.signer()?.key;
        let signed: Vec<SignedEntry> = entries.iter().map(|entry| key.sign_entry(entry.clone())).collect();
        self.store.insert_entries(&signed, None).await?;
        let Some(journal) = self.journal.clone() else { return Ok(()) };
        // The disk may take a while, and the charge exists only when both copies do.
        let appended = tokio::task::spawn_blocking(move || journal.append(&signed)).await;
        appended.map_err(|_| StoreError::damaged("journal", "not written"))??;
        Ok(())
    }
}

impl Store {
    fn appender(&self) -> Result<Appender<'_>, StoreError> {
        Ok(Appender { store: self, journal: self.signer()?.journal.clone() })
    }

    /// Adds signed entries, all or none; with the time of their release where their bytes may have left already.
    pub(super) async fn insert_entries(
        &self,
        entries: &[SignedEntry],
        released_ms: Option<u64>,
    ) -> Result<(), StoreError> {
        let mut connection = self.connection().await;
        let mut transaction = connection.begin().await?;
        for entry in entries {
            insert(&mut transaction, entry, released_ms).await?;
        }
        transaction.commit().await?;
        Ok(())
    }
}

async fn insert(
    connection: &mut SqliteConnection,
    signed: &SignedEntry,
    released_ms: Option<u64>,
) -> Result<(), StoreError> {
    let charge = signed.entry.charge();
    sqlx::query(
        "INSERT INTO ledger (sequence, entry, update_id, study, round, local_step, signature, released_ms)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(integer(signed.entry.sequence()))
    .bind(signed.entry.canonical_json())
    .bind(charge.update_id.to_string())
    .bind(charge.study.as_str())
    .bind(i64::from(charge.round))
    .bind(i64::from(charge.local_step))
    .bind(signed.signature.to_string())
    .bind(released_ms.map(integer))
    .execute(connection)
    .await?;
    Ok(())
}

/// One row of the stored ledger.
#[derive(Debug, Clone)]
pub struct LedgerRow {
    /// The entry with its signature as stored; not verified.
    pub signed: SignedEntry,
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
        let rows =
            sqlx::query("SELECT sequence, entry, signature, released_ms FROM ledger ORDER BY sequence")
                .fetch_all(&mut *connection)
                .await
                .map_err(StoreError::from)?;
        rows.iter().map(ledger_row).collect()
    }

    /// Every ledger entry as stored, oldest first; not verified.
    ///
    /// # Errors
    /// As [`Store::ledger_rows`].
    pub async fn signed_entries(&self) -> Result<Vec<SignedEntry>, SiteLedgerError> {
        Ok(self.ledger_rows().await?.into_iter().map(|row| row.signed).collect())
    }

    /// The same without signatures.
    ///
    /// # Errors
    /// As [`Store::ledger_rows`].
    pub async fn ledger_entries(&self) -> Result<Vec<LedgerEntry>, SiteLedgerError> {
        Ok(self.ledger_rows().await?.into_iter().map(|row| row.signed.entry).collect())
    }
}

fn ledger_row(row: &SqliteRow) -> Result<LedgerRow, SiteLedgerError> {
    let sequence: i64 = row.try_get("sequence").map_err(StoreError::from)?;
    let text: String = row.try_get("entry").map_err(StoreError::from)?;
    let released_ms: Option<i64> = row.try_get("released_ms").map_err(StoreError::from)?;
    let signature: String = row.try_get("signature").map_err(StoreError::from)?;
    let entry =
        serde_json::from_str(&text).map_err(|source| SiteLedgerError::Unreadable { sequence, source })?;
    let signature = signature.parse().map_err(|_| StoreError::damaged("ledger.signature", "no signature"))?;
    Ok(LedgerRow { signed: SignedEntry { entry, signature }, released: released_ms.is_some() })
}
