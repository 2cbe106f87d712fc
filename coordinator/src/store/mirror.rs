//! The mirror of the sites' ledgers, and warnings.
//!
//! The site's ledger is authoritative. The mirror tells what has been charged in a study as far as it was seen from
//! here: a receipt lists the charges of its update and those of earlier updates that never arrived, and says how many the
//! study has in all. Where fewer are mirrored, the site's own figures count more than the mirror. Charges of tables of counts
//! are mirrored from their reports; what is accounted here is training alone, and leaves them out.

use std::collections::BTreeMap;

use fusiondp_dp::{DpEvent, LedgerEntry, Released, SignedEntry};
use fusiondp_protocol::{Receipt, SignedReceipt, SiteId, StudyId};
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
    /// The mirrored events that sensitive values lose by, in ledger order.
    pub events: Vec<DpEvent>,
    /// What whole records lose; nothing in a study that does not protect them.
    pub records: RecordClaim,
    /// Private attempts that it was given since its newest receipt: each may have been charged once, or more often if the
    /// site crashed and began again.
    pub unreported: u64,
    /// Every charge of the study that the site's receipts count is mirrored.
    pub complete: bool,
}

/// What a site last said that whole records have lost.
#[derive(Debug, Clone, Default)]
pub struct RecordClaim {
    /// Its figure under replace.
    pub epsilon_replace: f64,
    /// Its figure under zero_out.
    pub epsilon_zero_out: f64,
    /// All mirrored events, in ledger order.
    pub events: Vec<DpEvent>,
}

/// A [`Claim`] as it is stored; reading it is no work for a transaction.
#[derive(Debug, Clone)]
pub struct StoredClaim {
    row: StudySiteRow,
    /// Canonical JSON, in ledger order.
    entries: Vec<String>,
    unreported: u64,
}

/// What a site claims, with charges that were mirrored since somebody last looked.
#[derive(Debug, Clone)]
pub struct NewCharges {
    /// The site.
    pub site: SiteId,
    /// Its figure under replace.
    pub epsilon_replace: f64,
    /// Its figure under zero_out.
    pub epsilon_zero_out: f64,
    /// What it says of whole records under replace; 0 where the study does not protect them.
    pub records_replace: f64,
    /// The same under zero_out.
    pub records_zero_out: f64,
    /// Every charge of the study that the site's receipts count is mirrored.
    pub complete: bool,
    /// In ledger order.
    pub entries: Vec<LedgerEntry>,
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

/// Keeps the receipt of one update and appends the charges it lists that are not mirrored yet.
pub(super) async fn append(
    tx: &mut AnyConnection,
    site: &SiteId,
    signed: &SignedReceipt,
    now_ms: u64,
) -> Result<(), StoreError> {
    let receipt = &signed.receipt;
    for charge in &receipt.charges {
        insert(tx, &receipt.study, site, (charge, Paid::Update), now_ms).await?;
    }
    sqlx::query(
        "INSERT INTO receipts (update_id, study_id, site_id, round, receipt, received_ms) \
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(receipt.update_id.to_string())
    .bind(receipt.study.as_str())
    .bind(site.as_str())
    .bind(int(receipt.round))
    .bind(signed.canonical_json())
    .bind(int(now_ms))
    .execute(&mut *tx)
    .await?;
    note_claim(tx, site, receipt).await?;
    note_gap(tx, site, receipt, now_ms).await
}

/// Never lowered: an update that arrives out of order knows less than one that came before it.
async fn note_claim(tx: &mut AnyConnection, site: &SiteId, receipt: &Receipt) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE study_sites SET \
         epsilon_replace = CASE WHEN epsilon_replace < $3 THEN $3 ELSE epsilon_replace END, \
         epsilon_zero_out = CASE WHEN epsilon_zero_out < $4 THEN $4 ELSE epsilon_zero_out END, \
         study_charges = CASE WHEN study_charges < $5 THEN $5 ELSE study_charges END, \
         records_replace = CASE WHEN records_replace < $6 THEN $6 ELSE records_replace END, \
         records_zero_out = CASE WHEN records_zero_out < $7 THEN $7 ELSE records_zero_out END \
         WHERE study_id = $1 AND site_id = $2",
    )
    .bind(receipt.study.as_str())
    .bind(site.as_str())
    .bind(receipt.epsilon.replace.get())
    .bind(receipt.epsilon.zero_out.get())
    .bind(int(receipt.study_charges))
    .bind(receipt.epsilon_records.map_or(0.0, |records| records.replace.get()))
    .bind(receipt.epsilon_records.map_or(0.0, |records| records.zero_out.get()))
    .execute(tx)
    .await?;
    Ok(())
}

/// Counts the charges that the site's receipts count and none lists.
async fn note_gap(
    tx: &mut AnyConnection,
    site: &SiteId,
    receipt: &Receipt,
    now_ms: u64,
) -> Result<(), StoreError> {
    let query = sqlx::query(
        "SELECT s.study_charges AS study_charges, (SELECT COUNT(*) FROM mirror m \
         WHERE m.study_id = s.study_id AND m.site_id = s.site_id AND m.counts = 0) AS mirrored \
         FROM study_sites s WHERE s.study_id = $1 AND s.site_id = $2",
    );
    let row = query.bind(receipt.study.as_str()).bind(site.as_str()).fetch_one(&mut *tx).await?;
    let gap = row.uint("study_charges")?.saturating_sub(row.uint("mirrored")?);
    sqlx::query("UPDATE study_sites SET mirror_gaps = $3 WHERE study_id = $1 AND site_id = $2")
        .bind(receipt.study.as_str())
        .bind(site.as_str())
        .bind(int(gap))
        .execute(&mut *tx)
        .await?;
    if gap == 0 {
        return Ok(());
    }
    let message =
        "its receipts count more charges of this study than they list; its own figures count them all";
    warn(tx, &receipt.study, Some(site), message, now_ms).await
}

/// What a mirrored charge has paid for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Paid {
    /// An update, whose receipt or a later one lists it.
    Update,
    /// A table of counts, whose report has it.
    Counts,
}

/// Mirrors one charge; one that is mirrored changes nothing.
pub(super) async fn insert(
    tx: &mut AnyConnection,
    id: &StudyId,
    site: &SiteId,
    (signed, paid): (&SignedEntry, Paid),
    now_ms: u64,
) -> Result<(), StoreError> {
    let entry = &signed.entry;
    sqlx::query(
        "INSERT INTO mirror (site_id, hash, previous, sequence, study_id, entry, signature, received_ms, counts) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (site_id, hash) DO NOTHING",
    )
    .bind(site.as_str())
    .bind(entry.hash().to_string())
    .bind(entry.previous().to_string())
    .bind(int(entry.sequence()))
    .bind(id.as_str())
    .bind(entry.canonical_json())
    .bind(signed.signature.to_string())
    .bind(int(now_ms))
    .bind(int(u64::from(paid == Paid::Counts)))
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

    /// The entry of a site's ledger with the highest sequence number that was ever mirrored.
    pub async fn newest_entry(&self, site: &SiteId) -> Result<Option<SignedEntry>, StoreError> {
        self.read("newest_entry", |tx| {
            Box::pin(async move {
                let query = sqlx::query(
                    "SELECT entry, signature FROM mirror WHERE site_id = $1 ORDER BY sequence DESC LIMIT 1",
                );
                query
                    .bind(site.as_str())
                    .fetch_optional(&mut **tx)
                    .await?
                    .map(|row| signed_entry(&row))
                    .transpose()
            })
        })
        .await
    }

    /// The receipts of a study, by site and in the order in which they came.
    pub async fn receipts(&self, id: &StudyId) -> Result<Vec<(SiteId, SignedReceipt)>, StoreError> {
        self.read("receipts", |tx| Box::pin(receipts(tx, id))).await
    }

    /// What each site claims now, with the charges of the study behind the places given for each site, in one moment.
    pub async fn charges_behind(
        &self,
        id: &StudyId,
        behind: &BTreeMap<SiteId, u64>,
    ) -> Result<Vec<NewCharges>, StoreError> {
        self.read("charges_behind", |tx| Box::pin(charges_behind(tx, id, behind))).await
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
    /// Reads the entries. CPU work.
    ///
    /// # Errors
    /// [`StoreError::Column`] when a stored entry does not read.
    pub fn read(self) -> Result<Claim, StoreError> {
        let entry = |text: &String| serde_json::from_str(text);
        let entries: Result<Vec<LedgerEntry>, _> = self.entries.iter().map(entry).collect();
        let entries = entries.map_err(|source| StoreError::column("entry", source))?;
        Ok(Claim {
            site: self.row.site,
            epsilon_replace: self.row.epsilon_replace,
            epsilon_zero_out: self.row.epsilon_zero_out,
            events: entries
                .iter()
                .map(LedgerEntry::charge)
                .filter(|charge| charge.released != Released::PublicSum)
                .map(|charge| charge.event)
                .collect(),
            records: RecordClaim {
                epsilon_replace: self.row.records_replace,
                epsilon_zero_out: self.row.records_zero_out,
                events: entries.iter().map(|entry| entry.charge().event).collect(),
            },
            unreported: self.unreported,
            complete: self.row.mirror_gaps == 0,
        })
    }
}

/// By site, the private attempts it was given that no receipt of it tells about: one of the attempt itself or of a later one,
/// which lists what was charged before it. An attempt of which it had reported before it opened was not given out to it
/// again.
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
         WHERE u.study_id = s.study_id AND u.site_id = s.site_id AND (u.round > s.round OR (u.round = s.round \
         AND (u.attempt >= s.attempt OR (u.outcome = 'accepted' AND u.received_ms < r.opened_ms))))) \
         GROUP BY s.site_id",
    );
    // Where public parts are noised too, warm-up rounds have charges.
    let free_rounds = if plan.records.is_some() { 0 } else { plan.warmup_rounds };
    let rows = query.bind(id.as_str()).bind(int(free_rounds)).fetch_all(tx).await?;
    rows.iter().map(|row| Ok((row.parsed("site_id")?, row.uint("attempts")?))).collect()
}

async fn receipts(tx: &mut AnyConnection, id: &StudyId) -> Result<Vec<(SiteId, SignedReceipt)>, StoreError> {
    let query = sqlx::query(
        "SELECT site_id, receipt FROM receipts WHERE study_id = $1 ORDER BY site_id, round, received_ms, update_id",
    );
    let read = |row: &AnyRow| {
        let receipt = serde_json::from_str(&row.text("receipt")?);
        Ok((row.parsed("site_id")?, receipt.map_err(|source| StoreError::column("receipt", source))?))
    };
    query.bind(id.as_str()).fetch_all(tx).await?.iter().map(read).collect()
}

async fn charges_behind(
    tx: &mut AnyConnection,
    id: &StudyId,
    behind: &BTreeMap<SiteId, u64>,
) -> Result<Vec<NewCharges>, StoreError> {
    let mut charges = Vec::new();
    for row in super::sites::study_sites(tx, id).await? {
        let query = sqlx::query(
            "SELECT entry FROM mirror WHERE study_id = $1 AND site_id = $2 AND sequence > $3 AND counts = 0 \
             ORDER BY sequence",
        );
        let place = behind.get(&row.site).map_or(-1, |place| int(*place));
        let rows = query.bind(id.as_str()).bind(row.site.as_str()).bind(place).fetch_all(&mut *tx).await?;
        charges.push(NewCharges {
            entries: rows.iter().map(entry).collect::<Result<_, _>>()?,
            epsilon_replace: row.epsilon_replace,
            epsilon_zero_out: row.epsilon_zero_out,
            records_replace: row.records_replace,
            records_zero_out: row.records_zero_out,
            complete: row.mirror_gaps == 0,
            site: row.site,
        });
    }
    Ok(charges)
}

fn entry(row: &AnyRow) -> Result<LedgerEntry, StoreError> {
    serde_json::from_str(&row.text("entry")?).map_err(|source| StoreError::column("entry", source))
}

pub(super) fn signed_entry(row: &AnyRow) -> Result<SignedEntry, StoreError> {
    Ok(SignedEntry { entry: entry(row)?, signature: row.parsed("signature")? })
}

async fn mirrored_entries(
    tx: &mut AnyConnection,
    id: &StudyId,
    site: &SiteId,
) -> Result<Vec<String>, StoreError> {
    let query = sqlx::query(
        "SELECT entry FROM mirror WHERE study_id = $1 AND site_id = $2 AND counts = 0 ORDER BY sequence",
    );
    let rows = query.bind(id.as_str()).bind(site.as_str()).fetch_all(tx).await?;
    rows.iter().map(|row| row.text("entry")).collect()
}
