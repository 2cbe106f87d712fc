//! The mirror of the sites' ledgers, and warnings.
//!
//! The site's ledger is authoritative. The mirror tells what has been charged in a study as far as it was seen from
//! here; a break in the chain means that the site has charged for something else meanwhile, or has lost an update
//! after charging for it. Its own figures count that, the mirror cannot.

use std::collections::BTreeMap;

use fusiondp_dp::{Digest, DpEvent, Ledger, LedgerEntry, LedgerError};
use fusiondp_protocol::{LedgerMirror, SiteId, StudyId};
use sqlx::AnyConnection;
use sqlx::any::AnyRow;

use super::row::{RowExt as _, int};
use super::{Store, StoreError, StudySiteRow, studies};

/// What a site last said it has spent in a study, with the charges that were mirrored up to then.
#[derive(Debug, Clone)]
pub struct Claim {
    /// The site.
    pub site: SiteId,
    /// Its figure under replace.
    pub epsilon_replace: f64,
    /// Its figure under zero_out.
    pub epsilon_zero_out: f64,
    /// The mirrored events of the study, in ledger order.
    pub events: Vec<DpEvent>,
    /// Private attempts that it was given and of which no update is stored: each may have been charged once, or more
    /// often if the site crashed and began again.
    pub unreported: u64,
    /// The chain has no break since enrollment.
    pub complete: bool,
    /// What is wrong with the chain, where it was seen from its first entry on and can be verified here.
    pub broken: Option<LedgerError>,
}

/// A [`Claim`] as it is stored; reading it is no work for a transaction.
#[derive(Debug, Clone)]
pub struct StoredClaim {
    row: StudySiteRow,
    /// Canonical JSON, in ledger order.
    entries: Vec<String>,
    unreported: u64,
}

/// Something that an administrator should know.
#[derive(Debug, Clone)]
pub struct WarningRow {
    /// The site, or `None` for the whole study.
    pub site: Option<SiteId>,
    /// In a line for people.
    pub message: String,
    /// When it was first seen, Unix milliseconds.
    pub at_ms: u64,
}

/// Appends the entries of one update. An entry names its update, so none of them can be known already: one that is
/// fails the transaction.
pub(super) async fn append(
    tx: &mut AnyConnection,
    id: &StudyId,
    site: &SiteId,
    ledger: &LedgerMirror,
    now_ms: u64,
) -> Result<(), StoreError> {
    let mut expected = newest_hash(tx, id, site).await?;
    for entry in &ledger.entries {
        if expected.is_some_and(|hash| hash != entry.previous()) {
            note_gap(tx, id, site, entry, now_ms).await?;
        }
        insert(tx, id, site, entry, now_ms).await?;
        expected = Some(entry.hash());
    }
    // Never lowered: an update that arrives out of order knows less than one that came before it.
    sqlx::query(
        "UPDATE study_sites SET \
         epsilon_replace = CASE WHEN epsilon_replace < $3 THEN $3 ELSE epsilon_replace END, \
         epsilon_zero_out = CASE WHEN epsilon_zero_out < $4 THEN $4 ELSE epsilon_zero_out END \
         WHERE study_id = $1 AND site_id = $2",
    )
    .bind(id.as_str())
    .bind(site.as_str())
    .bind(ledger.epsilon_replace.get())
    .bind(ledger.epsilon_zero_out.get())
    .execute(tx)
    .await?;
    Ok(())
}

async fn newest_hash(
    tx: &mut AnyConnection,
    id: &StudyId,
    site: &SiteId,
) -> Result<Option<Digest>, StoreError> {
    let mirrored = sqlx::query(
        "SELECT hash FROM mirror WHERE study_id = $1 AND site_id = $2 ORDER BY sequence DESC LIMIT 1",
    );
    if let Some(row) = mirrored.bind(id.as_str()).bind(site.as_str()).fetch_optional(&mut *tx).await? {
        return row.parsed("hash").map(Some);
    }
    let enrolled = sqlx::query("SELECT ledger_head FROM study_sites WHERE study_id = $1 AND site_id = $2");
    let Some(row) = enrolled.bind(id.as_str()).bind(site.as_str()).fetch_optional(tx).await? else {
        return Ok(None);
    };
    let head = row.optional_text("ledger_head")?.map(|text| text.parse()).transpose();
    head.map_err(|source| StoreError::column("ledger_head", source))
}

async fn note_gap(
    tx: &mut AnyConnection,
    id: &StudyId,
    site: &SiteId,
    entry: &LedgerEntry,
    now_ms: u64,
) -> Result<(), StoreError> {
    let message = format!(
        "ledger entries before number {} were not mirrored (charges of another study, or a charge whose update was \
         lost); the site's own figures count them",
        entry.sequence()
    );
    warn(tx, id, Some(site), &message, now_ms).await?;
    sqlx::query("UPDATE study_sites SET mirror_gaps = mirror_gaps + 1 WHERE study_id = $1 AND site_id = $2")
        .bind(id.as_str())
        .bind(site.as_str())
        .execute(tx)
        .await?;
    Ok(())
}

async fn insert(
    tx: &mut AnyConnection,
    id: &StudyId,
    site: &SiteId,
    entry: &LedgerEntry,
    now_ms: u64,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO mirror (site_id, hash, previous, sequence, study_id, entry, received_ms) \
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(site.as_str())
    .bind(entry.hash().to_string())
    .bind(entry.previous().to_string())
    .bind(int(entry.sequence()))
    .bind(id.as_str())
    .bind(entry.canonical_json())
    .bind(int(now_ms))
    .execute(tx)
    .await?;
    Ok(())
}

pub(super) async fn warn(
    tx: &mut AnyConnection,
    id: &StudyId,
    site: Option<&SiteId>,
    message: &str,
    now_ms: u64,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO warnings (study_id, site_id, message, at_ms) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (study_id, site_id, message) DO NOTHING",
    )
    .bind(id.as_str())
    .bind(site.map_or("", SiteId::as_str))
    .bind(message)
    .bind(int(now_ms))
    .execute(tx)
    .await?;
    Ok(())
}

impl Store {
    /// Keeps a warning; repeating it changes nothing.
    pub async fn record_warning(
        &self,
        id: &StudyId,
        site: Option<&SiteId>,
        message: &str,
        now_ms: u64,
    ) -> Result<(), StoreError> {
        self.write("record_warning", |tx| Box::pin(warn(tx, id, site, message, now_ms))).await
    }

    /// Warnings in the order in which they came up.
    pub async fn warnings(&self, id: &StudyId) -> Result<Vec<WarningRow>, StoreError> {
        self.read("warnings", |tx| Box::pin(warnings(tx, id))).await
    }

    /// The newest claim of every site that has charged in a study, or may have.
    pub async fn claims(&self, id: &StudyId) -> Result<Vec<StoredClaim>, StoreError> {
        self.read("claims", |tx| Box::pin(claims(tx, id))).await
    }
}

pub(super) async fn warnings(tx: &mut AnyConnection, id: &StudyId) -> Result<Vec<WarningRow>, StoreError> {
    let query = sqlx::query(
        "SELECT site_id, message, at_ms FROM warnings WHERE study_id = $1 ORDER BY at_ms, site_id, message",
    );
    let read = |row: &AnyRow| {
        Ok(WarningRow {
            site: row.optional_id("site_id")?,
            message: row.text("message")?,
            at_ms: row.uint("at_ms")?,
        })
    };
    query.bind(id.as_str()).fetch_all(tx).await?.iter().map(read).collect()
}

pub(super) async fn claims(tx: &mut AnyConnection, id: &StudyId) -> Result<Vec<StoredClaim>, StoreError> {
    let unreported = unreported_attempts(tx, id).await?;
    let mut claims = Vec::new();
    for row in super::sites::study_sites(tx, id).await? {
        let entries = mirrored_entries(tx, id, &row.site).await?;
        let unreported = unreported.get(&row.site).copied().unwrap_or(0);
        if !entries.is_empty() || unreported > 0 {
            claims.push(StoredClaim { row, entries, unreported });
        }
    }
    Ok(claims)
}

impl StoredClaim {
    /// Reads the entries and, where the chain is known from its first entry on, verifies it. CPU work.
    ///
    /// # Errors
    /// [`StoreError::Column`] when a stored entry does not read.
    pub fn read(self) -> Result<Claim, StoreError> {
        let entry = |text: &String| serde_json::from_str(text);
        let entries: Result<Vec<LedgerEntry>, _> = self.entries.iter().map(entry).collect();
        let entries = entries.map_err(|source| StoreError::column("entry", source))?;
        let complete = self.row.mirror_gaps == 0;
        let from_genesis = complete && entries.first().is_some_and(|entry| entry.sequence() == 0);
        Ok(Claim {
            site: self.row.site,
            epsilon_replace: self.row.epsilon_replace,
            epsilon_zero_out: self.row.epsilon_zero_out,
            events: entries.iter().map(|entry| entry.charge().event).collect(),
            unreported: self.unreported,
            complete,
            broken: if from_genesis { Ledger::open(entries).err() } else { None },
        })
    }
}

/// By site, the private attempts it was given that no update of it is stored for. An attempt of which it had reported
/// before it opened was not given out to it again.
async fn unreported_attempts(
    tx: &mut AnyConnection,
    id: &StudyId,
) -> Result<BTreeMap<SiteId, u64>, StoreError> {
    let plan = match studies::load(tx, id).await? {
        Some(study) => study.plan()?,
        None => None,
    };
    let Some(plan) = plan else { return Ok(BTreeMap::new()) };
    let query = sqlx::query(
        "SELECT s.site_id AS site_id, COUNT(*) AS attempts FROM round_sites s JOIN rounds r \
         ON r.study_id = s.study_id AND r.round = s.round AND r.attempt = s.attempt \
         WHERE s.study_id = $1 AND s.round > $2 AND NOT EXISTS (SELECT 1 FROM updates u \
         WHERE u.study_id = s.study_id AND u.round = s.round AND u.site_id = s.site_id \
         AND (u.attempt = s.attempt OR (u.outcome = 'accepted' AND u.received_ms < r.opened_ms))) \
         GROUP BY s.site_id",
    );
    let rows = query.bind(id.as_str()).bind(int(plan.warmup_rounds)).fetch_all(tx).await?;
    rows.iter().map(|row| Ok((row.parsed("site_id")?, row.uint("attempts")?))).collect()
}

async fn mirrored_entries(
    tx: &mut AnyConnection,
    id: &StudyId,
    site: &SiteId,
) -> Result<Vec<String>, StoreError> {
    let query =
        sqlx::query("SELECT entry FROM mirror WHERE study_id = $1 AND site_id = $2 ORDER BY sequence");
    let rows = query.bind(id.as_str()).bind(site.as_str()).fetch_all(tx).await?;
    rows.iter().map(|row| row.text("entry")).collect()
}
