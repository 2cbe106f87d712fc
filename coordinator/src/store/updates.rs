//! Updates of sites.

use std::collections::BTreeSet;

use fusiondp_dp::Epsilon;
use fusiondp_protocol::{RoundPhase, SiteId, StudyId, StudyState, UpdateHeader, UpdateOutcome};
use sqlx::AnyConnection;
use sqlx::any::AnyRow;

use super::row::{RowExt as _, int};
use super::{Store, StoreError, history, mirror, studies};
use crate::round::aggregation::StoredUpdate;
use crate::round::reporting::SiteOutcome;

/// An update that has passed every check that needs no store.
pub struct NewUpdate {
    /// From the certificate.
    pub site: SiteId,
    /// As received.
    pub header: UpdateHeader,
    /// As received, of the announced digest.
    pub payload: Vec<u8>,
}

/// What was recorded of an update, without its values.
#[derive(Debug, Clone)]
pub struct UpdateRow {
    /// Round, from 1.
    pub round: u32,
    /// The site.
    pub site: SiteId,
    /// It came when the round had gone on.
    pub late: bool,
    /// Mean loss over the site's public batch, nats per record.
    pub public_loss: f64,
    /// Ledger entries it was charged to.
    pub events: u64,
    /// The site's figure for the study after it, upper bound.
    pub epsilon_replace: f64,
    /// The same under zero_out.
    pub epsilon_zero_out: f64,
    /// The site's figure over all studies on the same data.
    pub data_epsilon_replace: f64,
    /// The same under zero_out.
    pub data_epsilon_zero_out: f64,
    /// Unix milliseconds.
    pub received_ms: u64,
}

/// Why an update belongs to nothing that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UpdateRefusal {
    /// The site had no task of that attempt.
    #[error(
        "site {site} was not selected for attempt {attempt} of round {round}; \
         drop the update and ask for the next assignment"
    )]
    NotSelected {
        /// The site.
        site: SiteId,
        /// Round.
        round: u32,
        /// Attempt.
        attempt: u32,
    },
    /// The round trains on another model.
    #[error("round {round} trains on model version {expected}, the update on {version}; drop the update")]
    WrongVersion {
        /// Round.
        round: u32,
        /// Version of the round.
        expected: u64,
        /// Version of the update.
        version: u64,
    },
}

impl Store {
    /// Stores an update, mirrors the charges it names, and says whether it counts. One transaction: the decision and
    /// the phase it depends on cannot drift apart.
    ///
    /// An update counts while its round has not gone on to aggregation, whichever attempt it was computed for, if it
    /// is the site's first of the round.
    pub async fn record_update(
        &self,
        update: &NewUpdate,
        now_ms: u64,
    ) -> Result<Result<UpdateOutcome, UpdateRefusal>, StoreError> {
        self.write("record_update", |tx| Box::pin(record(tx, update, now_ms))).await
    }

    /// The updates that count in a round, with their values.
    pub async fn accepted_updates(&self, id: &StudyId, round: u32) -> Result<Vec<StoredUpdate>, StoreError> {
        self.read("accepted_updates", |tx| {
            Box::pin(async move {
                let query = sqlx::query(
                    "SELECT site_id, units, records, public_loss, public_values, private_values, payload \
                     FROM updates WHERE study_id = $1 AND round = $2 AND outcome = 'accepted' ORDER BY site_id",
                );
                let rows = query.bind(id.as_str()).bind(int(round)).fetch_all(&mut **tx).await?;
                rows.iter().map(stored_update).collect()
            })
        })
        .await
    }

    /// The sites whose updates count in a round.
    pub async fn reported_sites(&self, id: &StudyId, round: u32) -> Result<BTreeSet<SiteId>, StoreError> {
        self.read("reported_sites", |tx| {
            Box::pin(async move {
                let query = sqlx::query(
                    "SELECT site_id FROM updates WHERE study_id = $1 AND round = $2 AND outcome = 'accepted'",
                );
                let rows = query.bind(id.as_str()).bind(int(round)).fetch_all(&mut **tx).await?;
                rows.iter().map(|row| row.parsed("site_id")).collect()
            })
        })
        .await
    }

    /// Every update of a study without its values, by round and site.
    pub async fn updates(&self, id: &StudyId) -> Result<Vec<UpdateRow>, StoreError> {
        self.read("updates", |tx| {
            Box::pin(async move {
                let query = sqlx::query(
                    "SELECT round, site_id, outcome, public_loss, events, epsilon_replace, epsilon_zero_out, \
                     data_epsilon_replace, data_epsilon_zero_out, received_ms \
                     FROM updates WHERE study_id = $1 ORDER BY round, site_id, received_ms",
                );
                query.bind(id.as_str()).fetch_all(&mut **tx).await?.iter().map(update_row).collect()
            })
        })
        .await
    }
}

fn stored_update(row: &AnyRow) -> Result<StoredUpdate, StoreError> {
    let size = |column| Ok::<_, StoreError>(usize::try_from(row.uint(column)?).unwrap_or(usize::MAX));
    Ok(StoredUpdate {
        site: row.parsed("site_id")?,
        units: row.uint("units")?,
        records: row.uint("records")?,
        public_loss: row.real("public_loss")?,
        public_values: size("public_values")?,
        private_values: size("private_values")?,
        payload: row.optional_blob("payload")?.ok_or_else(|| StoreError::Missing {
            what: "payload of an update that has not been applied".into(),
        })?,
    })
}

fn update_row(row: &AnyRow) -> Result<UpdateRow, StoreError> {
    Ok(UpdateRow {
        round: row.uint32("round")?,
        site: row.parsed("site_id")?,
        late: row.text("outcome")? != "accepted",
        public_loss: row.real("public_loss")?,
        events: row.uint("events")?,
        epsilon_replace: row.real("epsilon_replace")?,
        epsilon_zero_out: row.real("epsilon_zero_out")?,
        data_epsilon_replace: row.real("data_epsilon_replace")?,
        data_epsilon_zero_out: row.real("data_epsilon_zero_out")?,
        received_ms: row.uint("received_ms")?,
    })
}

async fn record(
    tx: &mut AnyConnection,
    update: &NewUpdate,
    now_ms: u64,
) -> Result<Result<UpdateOutcome, UpdateRefusal>, StoreError> {
    let NewUpdate { site, header, .. } = update;
    let id = &header.study_id;
    if exists(tx, header).await? {
        return Ok(Ok(UpdateOutcome::Duplicate));
    }
    let Some(expected) = selected_version(tx, site, header).await? else {
        let (site, round, attempt) = (site.clone(), header.round, header.attempt);
        return Ok(Err(UpdateRefusal::NotSelected { site, round, attempt }));
    };
    if expected != header.model_version {
        let (round, version) = (header.round, header.model_version);
        return Ok(Err(UpdateRefusal::WrongVersion { round, expected, version }));
    }
    let counts = counts(tx, site, header).await?;
    insert(tx, update, counts, now_ms).await?;
    note_outcome(tx, site, header, counts).await?;
    if let Some(ledger) = &header.ledger {
        mirror::append(tx, id, site, ledger, now_ms).await?;
    }
    Ok(Ok(if counts { UpdateOutcome::Accepted } else { UpdateOutcome::Late }))
}

async fn exists(tx: &mut AnyConnection, header: &UpdateHeader) -> Result<bool, StoreError> {
    let query = sqlx::query("SELECT 1 FROM updates WHERE update_id = $1").bind(header.update_id.to_string());
    Ok(query.fetch_optional(tx).await?.is_some())
}

/// Model version of the attempt the site was selected for; `None` if it was not.
async fn selected_version(
    tx: &mut AnyConnection,
    site: &SiteId,
    header: &UpdateHeader,
) -> Result<Option<u64>, StoreError> {
    let query = sqlx::query(
        "SELECT r.model_version AS model_version FROM round_sites s JOIN rounds r ON r.study_id = s.study_id \
         AND r.round = s.round AND r.attempt = s.attempt \
         WHERE s.study_id = $1 AND s.round = $2 AND s.attempt = $3 AND s.site_id = $4",
    );
    let query = query.bind(header.study_id.as_str()).bind(int(header.round)).bind(int(header.attempt));
    query.bind(site.as_str()).fetch_optional(tx).await?.map(|row| row.uint("model_version")).transpose()
}

async fn counts(tx: &mut AnyConnection, site: &SiteId, header: &UpdateHeader) -> Result<bool, StoreError> {
    let running =
        studies::load(tx, &header.study_id).await?.is_some_and(|row| row.state == StudyState::Running);
    let Some(current) = history::current(tx, &header.study_id).await? else { return Ok(false) };
    let open =
        matches!(current.phase, RoundPhase::Selection | RoundPhase::Configuration | RoundPhase::Reporting);
    if !running || !open || current.key.round != header.round {
        return Ok(false);
    }
    let query = sqlx::query(
        "SELECT 1 FROM updates WHERE study_id = $1 AND round = $2 AND site_id = $3 AND outcome = 'accepted'",
    );
    let query = query.bind(header.study_id.as_str()).bind(int(header.round)).bind(site.as_str());
    Ok(query.fetch_optional(tx).await?.is_none())
}

async fn insert(
    tx: &mut AnyConnection,
    update: &NewUpdate,
    counts: bool,
    now_ms: u64,
) -> Result<(), StoreError> {
    let NewUpdate { site, header, payload } = update;
    let ledger = header.ledger.as_ref();
    let figure =
        |of: fn(&fusiondp_protocol::LedgerMirror) -> Epsilon| ledger.map_or(0.0, |one| of(one).get());
    sqlx::query(
        "INSERT INTO updates (update_id, study_id, round, attempt, site_id, model_version, outcome, units, records, \
         public_values, private_values, public_loss, payload, events, ledger_head, epsilon_replace, \
         epsilon_zero_out, data_epsilon_replace, data_epsilon_zero_out, received_ms) VALUES \
         ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20)",
    )
    .bind(header.update_id.to_string())
    .bind(header.study_id.as_str())
    .bind(int(header.round))
    .bind(int(header.attempt))
    .bind(site.as_str())
    .bind(int(header.model_version))
    .bind(if counts { "accepted" } else { "late" })
    .bind(int(header.units))
    .bind(int(header.records))
    .bind(int(header.public_values))
    .bind(int(header.private_values))
    .bind(header.public_loss)
    .bind(counts.then(|| payload.clone()))
    .bind(int(ledger.map_or(0, |one| one.entries.len() as u64)))
    .bind(ledger.map(|one| one.head.to_string()))
    .bind(figure(|one| one.epsilon_replace))
    .bind(figure(|one| one.epsilon_zero_out))
    .bind(figure(|one| one.data_epsilon_replace))
    .bind(figure(|one| one.data_epsilon_zero_out))
    .bind(int(now_ms))
    .execute(tx)
    .await?;
    Ok(())
}

async fn note_outcome(
    tx: &mut AnyConnection,
    site: &SiteId,
    header: &UpdateHeader,
    counts: bool,
) -> Result<(), StoreError> {
    let outcome = if counts { SiteOutcome::Reported } else { SiteOutcome::Late };
    // A site that has reported in this round keeps that, whatever else arrives from it. An update that counts does so in
    // the attempt that is open; in an abandoned one, whose tasks it was made for, it came late.
    sqlx::query(
        "UPDATE round_sites SET outcome = CASE WHEN $6 = 1 AND EXISTS (SELECT 1 FROM rounds r WHERE \
         r.study_id = $1 AND r.round = $2 AND r.attempt = round_sites.attempt AND r.phase <> 'abandoned') \
         THEN $4 ELSE 'late' END, detail = '' WHERE study_id = $1 AND round = $2 AND site_id = $3 \
         AND outcome <> 'reported' AND (attempt = $5 OR ($6 = 1 AND EXISTS (SELECT 1 FROM rounds r WHERE \
         r.study_id = $1 AND r.round = $2 AND r.attempt = round_sites.attempt AND r.phase <> 'abandoned')))",
    )
    .bind(header.study_id.as_str())
    .bind(int(header.round))
    .bind(site.as_str())
    .bind(outcome.as_str())
    .bind(int(header.attempt))
    .bind(int(u8::from(counts)))
    .execute(&mut *tx)
    .await?;
    if counts { join_current_attempt(tx, site, header).await } else { Ok(()) }
}

/// A site that the current attempt did not select, because it was still busy with an earlier one, takes part in it with
/// the update of that one: aggregation finds the sites of its phase and the stored updates to be the same.
async fn join_current_attempt(
    tx: &mut AnyConnection,
    site: &SiteId,
    header: &UpdateHeader,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO round_sites (study_id, round, attempt, site_id, outcome, detail) \
         SELECT study_id, round, attempt, $3, 'reported', '' FROM rounds \
         WHERE study_id = $1 AND round = $2 AND phase IN ('configuration', 'reporting') \
         ON CONFLICT (study_id, round, attempt, site_id) DO NOTHING",
    )
    .bind(header.study_id.as_str())
    .bind(int(header.round))
    .bind(site.as_str())
    .execute(tx)
    .await?;
    Ok(())
}
