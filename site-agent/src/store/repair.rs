//! Bringing back charges that the state folder has lost, and what an administrator decides where nothing can.
//!
//! Charges are never forgotten on purpose: what a journal, an export or a study's receipts know and the ledger does not is
//! added. Where the lost entries continue the chain they are added as they are, with their hashes and signatures; where the
//! chain has gone on without them, their charges are made again at its end, so that both histories are paid for.

use std::sync::Arc;

use fusiondp_dp::{ChargeRequest, LedgerEntry, LedgerPublicKey, SignedEntry};
use sqlx::Connection;

use super::journal::Journal;
use super::ledger::{Appender, SiteLedgerError};
use super::ledger_file::LedgerFile;
use super::{SiteLedger, Store, StoreError, integer};

/// What an administrator may decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecisionKind {
    /// The ledger begins a new journal.
    Journal,
    /// Charges go on although the newest one lies in the future of the clock.
    Clock,
    /// Entries that a coordinator holds are lost for good.
    LostEntry,
    /// Charges were brought back from a file.
    Restored,
}

impl DecisionKind {
    /// Name in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Journal => "journal",
            Self::Clock => "clock",
            Self::LostEntry => "lost-entry",
            Self::Restored => "restored",
        }
    }
}

/// Who decided, why and when.
#[derive(Debug, Clone)]
pub struct Decision<'a> {
    /// In the administrator's words.
    pub reason: &'a str,
    /// As the operating system names the user.
    pub decided_by: &'a str,
    /// Unix milliseconds.
    pub now_ms: u64,
}

/// What became of a file's entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restored {
    /// Entries that the ledger held already.
    pub known: usize,
    /// Entries added as they are.
    pub appended: usize,
    /// Charges made again at the end of the chain.
    pub charged_again: usize,
}

/// Why a ledger was not repaired.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// Another site's file, or of an earlier key of this one.
    #[error(
        "the file is of ledger key {found}, this ledger's is {own}; if it is this hospital's earlier ledger on the same patients, add \
         --trust-key {found}"
    )]
    ForeignKey {
        /// Key of the file.
        found: LedgerPublicKey,
        /// Key of the ledger.
        own: LedgerPublicKey,
    },
    /// There is nothing to decide.
    #[error("nothing to accept: {0}")]
    NothingToDecide(&'static str),
    /// The ledger itself.
    #[error(transparent)]
    Ledger(#[from] SiteLedgerError),
}

impl From<StoreError> for RepairError {
    fn from(error: StoreError) -> Self {
        Self::Ledger(error.into())
    }
}

impl SiteLedger {
    /// Adds every charge of `file` that the ledger of `store` does not hold, and writes the journal anew.
    ///
    /// A file of another key is taken only with that key as `trusted`.
    ///
    /// # Errors
    /// [`RepairError`]; what was added before a failure stays, and running it again adds the rest.
    pub async fn restore(
        store: Arc<Store>,
        file: LedgerFile,
        trusted: Option<LedgerPublicKey>,
        decision: &Decision<'_>,
    ) -> Result<Restored, RepairError> {
        let (mut ledger, _) = Self::open_unchecked(Arc::clone(&store)).await?;
        let own = ledger.key()?;
        if file.key != own && trusted != Some(file.key) {
            return Err(RepairError::ForeignKey { found: file.key, own });
        }
        let all = file.entries.len();
        let missing: Vec<SignedEntry> =
            file.entries.into_iter().filter(|entry| !ledger.covers(&entry.entry)).collect();
        let known = all - missing.len();
        let (mut appended, mut charged_again) = (0, 0);
        if file.key == own && ledger.continued_by(&missing) {
            appended = missing.len();
            store.insert_entries(&missing, Some(decision.now_ms)).await?;
        } else if !missing.is_empty() {
            charged_again = missing.len();
            ledger.charge_again(&missing, decision.now_ms).await?;
        }
        let subject = format!("{appended} entries as they were, {charged_again} charged again");
        store.decide(DecisionKind::Restored, &subject, decision).await?;
        let (_, signed) = Self::open_unchecked(Arc::clone(&store)).await?;
        if let Some(journal) = store.journal()? {
            journal.create(&signed).map_err(SiteLedgerError::from)?;
        }
        Ok(Restored { known, appended, charged_again })
    }

    /// Whether these entries are the next ones of the chain.
    fn continued_by(&mut self, entries: &[SignedEntry]) -> bool {
        let (chain, _) = self.parts();
        let plain: Vec<LedgerEntry> = entries.iter().map(|signed| signed.entry.clone()).collect();
        !plain.is_empty() && chain.mirror(plain).is_ok()
    }

    /// Makes charges again, at a time that the chain permits.
    async fn charge_again(&mut self, entries: &[SignedEntry], now_ms: u64) -> Result<(), SiteLedgerError> {
        let time_ms = now_ms.max(self.newest_ms());
        let again = |signed: &SignedEntry| ChargeRequest { time_ms, ..signed.entry.charge().clone() };
        let requests = entries.iter().map(again).collect();
        let (chain, store) = self.parts();
        // The journal is written anew afterwards; it cannot be appended to while it differs.
        drop(chain.charge(requests, &mut Appender { store: &store, journal: None }).await?);
        Ok(())
    }
}

impl Store {
    /// Begins a new journal with the entries that the database holds.
    ///
    /// # Errors
    /// There is a journal; the chain is broken; the disk.
    pub async fn accept_journal(self: &Arc<Self>, decision: &Decision<'_>) -> Result<usize, RepairError> {
        let (_, signed) = SiteLedger::open_unchecked(Arc::clone(self)).await?;
        let journal = self.journal()?.ok_or(RepairError::NothingToDecide("this state has no journal"))?;
        if journal.path().exists() {
            return Err(RepairError::NothingToDecide(
                "the ledger has a journal; `ledger verify` compares them",
            ));
        }
        self.decide(DecisionKind::Journal, &signed.len().to_string(), decision).await?;
        journal.create(&signed).map_err(SiteLedgerError::from)?;
        Ok(signed.len())
    }

    /// Lets charges go on at the time of the newest one until the clock has passed it. Returns that time, Unix
    /// milliseconds.
    ///
    /// # Errors
    /// The newest charge is not in the clock's future; the chain is broken.
    pub async fn accept_clock(self: &Arc<Self>, decision: &Decision<'_>) -> Result<u64, RepairError> {
        let (ledger, _) = SiteLedger::open_unchecked(Arc::clone(self)).await?;
        let newest_ms = ledger.newest_ms();
        if newest_ms <= decision.now_ms {
            return Err(RepairError::NothingToDecide("no charge lies in the future of this machine's clock"));
        }
        self.decide(DecisionKind::Clock, &newest_ms.to_string(), decision).await?;
        Ok(newest_ms)
    }

    /// Gives entries up that a coordinator has shown and the ledger does not hold. Returns their places in the chain.
    ///
    /// # Errors
    /// There are none; the chain is broken.
    pub async fn accept_lost_entries(
        self: &Arc<Self>,
        decision: &Decision<'_>,
    ) -> Result<Vec<u64>, RepairError> {
        let (ledger, _) = SiteLedger::open_unchecked(Arc::clone(self)).await?;
        let mut places = Vec::new();
        for entry in self.lost_entries().await? {
            if !ledger.covers(&entry.entry) && !self.is_given_up(&entry.entry).await? {
                let hash = entry.entry.hash().to_string();
                self.decide(DecisionKind::LostEntry, &hash, decision).await?;
                places.push(entry.entry.sequence());
            }
        }
        if places.is_empty() {
            return Err(RepairError::NothingToDecide(
                "no coordinator has shown an entry that the ledger lacks",
            ));
        }
        Ok(places)
    }

    /// Keeps an entry that a coordinator has shown and the ledger does not hold.
    pub(crate) async fn keep_lost_entry(&self, entry: &SignedEntry, now_ms: u64) -> Result<(), StoreError> {
        let mut connection = self.connection().await;
        sqlx::query(
            "INSERT INTO lost_entry (hash, entry, seen_ms) VALUES ($1, $2, $3) ON CONFLICT (hash) DO NOTHING",
        )
        .bind(entry.entry.hash().to_string())
        .bind(entry.canonical_json())
        .bind(integer(now_ms))
        .execute(&mut *connection)
        .await?;
        Ok(())
    }

    async fn lost_entries(&self) -> Result<Vec<SignedEntry>, StoreError> {
        let mut connection = self.connection().await;
        let texts: Vec<String> = sqlx::query_scalar("SELECT entry FROM lost_entry ORDER BY rowid")
            .fetch_all(&mut *connection)
            .await?;
        let parse = |text: &String| serde_json::from_str(text);
        let entries: Result<_, _> = texts.iter().map(parse).collect();
        entries.map_err(|_| StoreError::damaged("lost_entry.entry", "no entry"))
    }

    /// Whether an administrator has given an entry up.
    pub(crate) async fn is_given_up(&self, entry: &LedgerEntry) -> Result<bool, StoreError> {
        let mut connection = self.connection().await;
        let found: Option<i64> =
            sqlx::query_scalar("SELECT 1 FROM decision WHERE kind = $1 AND subject = $2 LIMIT 1")
                .bind(DecisionKind::LostEntry.as_str())
                .bind(entry.hash().to_string())
                .fetch_optional(&mut *connection)
                .await?;
        Ok(found.is_some())
    }

    /// Subject of the newest decision of a kind whose subjects are numbers.
    pub(super) async fn newest_decision(&self, kind: DecisionKind) -> Result<Option<u64>, StoreError> {
        let mut connection = self.connection().await;
        let subject: Option<String> =
            sqlx::query_scalar("SELECT subject FROM decision WHERE kind = $1 ORDER BY id DESC LIMIT 1")
                .bind(kind.as_str())
                .fetch_optional(&mut *connection)
                .await?;
        let parse =
            |text: String| text.parse().map_err(|_| StoreError::damaged("decision.subject", "no number"));
        subject.map(parse).transpose()
    }

    async fn decide(
        &self,
        kind: DecisionKind,
        subject: &str,
        decision: &Decision<'_>,
    ) -> Result<(), StoreError> {
        let mut connection = self.connection().await;
        let mut transaction = connection.begin().await?;
        sqlx::query(
            "INSERT INTO decision (kind, subject, reason, decided_by, decided_ms) VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(kind.as_str())
        .bind(subject)
        .bind(decision.reason)
        .bind(decision.decided_by)
        .bind(integer(decision.now_ms))
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(())
    }

    fn journal(&self) -> Result<Option<Journal>, StoreError> {
        Ok(self.signer()?.journal.clone())
    }
}
