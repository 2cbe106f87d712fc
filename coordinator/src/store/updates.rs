//! Updates of sites.

use std::collections::BTreeSet;

use fusiondp_dp::UpdateId;
use fusiondp_protocol::{Receipt, RoundPhase, SiteId, StudyId, StudyState, UpdateHeader, UpdateOutcome};
use futures::{StreamExt as _, TryStreamExt as _};
use sqlx::AnyConnection;
use sqlx::any::AnyRow;

use super::row::{BindExt as _, RowExt as _, int};
use super::{Store, StoreError, history, mirror, studies};
use crate::round::aggregation::StoredUpdate;

/// Updates of one site that are stored for one attempt: a site that crashes and begins again sends a few.
const MAX_STORED: u64 = 8;

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
    /// No honest site needs so many.
    #[error(
        "attempt {attempt} of round {round} holds {max} updates of this site; \
         drop the update and ask for the next assignment",
        max = MAX_STORED
    )]
    TooMany {
        /// Round.
        round: u32,
        /// Attempt.
        attempt: u32,
    },
    /// The id names an update of another site.
    #[error(
        "update id {update_id} belongs to another site's update; drop the update, ids are drawn at random"
    )]
    ForeignId {
        /// The id.
        update_id: UpdateId,
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
                let rows = query.bind(id.as_str()).bind(int(round)).fetch(&mut **tx);
                // Row by row: a row is another copy of its payload.
                rows.map(|row| stored_update(&row?)).try_collect().await
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
        self.read("updates", |tx| Box::pin(updates(tx, id))).await
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

pub(super) async fn updates(tx: &mut AnyConnection, id: &StudyId) -> Result<Vec<UpdateRow>, StoreError> {
    let query = sqlx::query(
        "SELECT round, site_id, outcome, public_loss, events, epsilon_replace, epsilon_zero_out, \
         data_epsilon_replace, data_epsilon_zero_out, received_ms \
         FROM updates WHERE study_id = $1 ORDER BY round, site_id, received_ms",
    );
    query.bind(id.as_str()).fetch_all(tx).await?.iter().map(update_row).collect()
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
    match owner(tx, header).await? {
        None => {}
        Some(owner) if owner == *site => return Ok(Ok(UpdateOutcome::Duplicate)),
        Some(_) => return Ok(Err(UpdateRefusal::ForeignId { update_id: header.update_id })),
    }
    let Some(expected) = selected_version(tx, site, header).await? else {
        let (site, round, attempt) = (site.clone(), header.round, header.attempt);
        return Ok(Err(UpdateRefusal::NotSelected { site, round, attempt }));
    };
    if expected != header.model_version {
        let (round, version) = (header.round, header.model_version);
        return Ok(Err(UpdateRefusal::WrongVersion { round, expected, version }));
    }
    if stored(tx, site, header).await? >= MAX_STORED {
        return Ok(Err(UpdateRefusal::TooMany { round: header.round, attempt: header.attempt }));
    }
    let outcome = outcome(tx, site, header).await?;
    insert(tx, update, outcome, now_ms).await?;
    match outcome {
        UpdateOutcome::Accepted => note_reported(tx, site, header).await?,
        _ => note_late(tx, site, header, now_ms).await?,
    }
    mirror::append(tx, site, &header.receipt, now_ms).await?;
    Ok(Ok(outcome))
}

/// The site whose update of that id is stored.
async fn owner(tx: &mut AnyConnection, header: &UpdateHeader) -> Result<Option<SiteId>, StoreError> {
    let query = sqlx::query("SELECT site_id FROM updates WHERE update_id = $1");
    let row = query.bind(header.update_id.to_string()).fetch_optional(tx).await?;
    row.map(|row| row.parsed("site_id")).transpose()
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
    let query = query.attempt(&header.study_id, header.round, header.attempt);
    query.bind(site.as_str()).fetch_optional(tx).await?.map(|row| row.uint("model_version")).transpose()
}

/// How many updates of the site are stored for the attempt.
async fn stored(tx: &mut AnyConnection, site: &SiteId, header: &UpdateHeader) -> Result<u64, StoreError> {
    let query = sqlx::query(
        "SELECT COUNT(*) AS stored FROM updates WHERE study_id = $1 AND round = $2 AND attempt = $3 AND site_id = $4",
    );
    let query = query.attempt(&header.study_id, header.round, header.attempt);
    query.bind(site.as_str()).fetch_one(tx).await?.uint("stored")
}

async fn outcome(
    tx: &mut AnyConnection,
    site: &SiteId,
    header: &UpdateHeader,
) -> Result<UpdateOutcome, StoreError> {
    let counts = counts(tx, site, header).await?;
    Ok(if counts { UpdateOutcome::Accepted } else { UpdateOutcome::Late })
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
    outcome: UpdateOutcome,
    now_ms: u64,
) -> Result<(), StoreError> {
    let NewUpdate { site, header, payload } = update;
    let accepted = outcome == UpdateOutcome::Accepted;
    sqlx::query(
        "INSERT INTO updates (update_id, study_id, round, attempt, site_id, model_version, outcome, units, records, \
         public_values, private_values, public_loss, payload, events, epsilon_replace, epsilon_zero_out, \
         data_epsilon_replace, data_epsilon_zero_out, received_ms) VALUES \
         ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, 0, 0.0, 0.0, 0.0, 0.0, $14)",
    )
    .bind(header.update_id.to_string())
    .attempt(&header.study_id, header.round, header.attempt)
    .bind(site.as_str())
    .bind(int(header.model_version))
    .bind(if accepted { "accepted" } else { "late" })
    .bind(int(header.units))
    .bind(int(header.records))
    .bind(int(header.public_values))
    .bind(int(header.private_values))
    .bind(header.public_loss)
    .bind(accepted.then(|| payload.clone()))
    .bind(int(now_ms))
    .execute(&mut *tx)
    .await?;
    insert_figures(tx, &header.receipt.receipt).await
}

/// What the site says of its ledger, in the row of its update.
async fn insert_figures(tx: &mut AnyConnection, receipt: &Receipt) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE updates SET events = $2, ledger_head = $3, epsilon_replace = $4, epsilon_zero_out = $5, \
         data_epsilon_replace = $6, data_epsilon_zero_out = $7 WHERE update_id = $1",
    )
    .bind(receipt.update_id.to_string())
    .bind(int(receipt.own_charges().len() as u64))
    .bind(receipt.ledger_head.to_string())
    .bind(receipt.epsilon.replace.get())
    .bind(receipt.epsilon.zero_out.get())
    .bind(receipt.epsilon.data_replace.get())
    .bind(receipt.epsilon.data_zero_out.get())
    .execute(tx)
    .await?;
    Ok(())
}

/// The update counts: the site has reported in the attempt that is under way, also if that one did not select it
/// because it was still busy with an earlier one. The earlier one keeps that it had to go on without the update.
async fn note_reported(
    tx: &mut AnyConnection,
    site: &SiteId,
    header: &UpdateHeader,
) -> Result<(), StoreError> {
    let current = history::current(tx, &header.study_id).await?;
    if current.as_ref().is_some_and(|row| row.key.attempt > header.attempt) {
        mark_late(tx, site, header).await?;
    }
    // Aggregation finds the sites of its phase and the stored updates to be the same. A selection has no rows yet.
    sqlx::query(
        "INSERT INTO round_sites (study_id, round, attempt, site_id, outcome, detail) \
         SELECT study_id, round, attempt, $3, 'reported', '' FROM rounds \
         WHERE study_id = $1 AND round = $2 AND phase IN ('configuration', 'reporting') \
         ON CONFLICT (study_id, round, attempt, site_id) DO UPDATE SET outcome = 'reported', detail = ''",
    )
    .bind(header.study_id.as_str())
    .bind(int(header.round))
    .bind(site.as_str())
    .execute(tx)
    .await?;
    Ok(())
}

/// The update does not count. A second one for a round in which the site has reported is late too.
async fn note_late(
    tx: &mut AnyConnection,
    site: &SiteId,
    header: &UpdateHeader,
    now_ms: u64,
) -> Result<(), StoreError> {
    mark_late(tx, site, header).await?;
    let message = format!(
        "an update of round {} came too late to count; what it was charged stays spent",
        header.round
    );
    mirror::warn(tx, &header.study_id, Some(site), &message, now_ms).await
}

/// An attempt in which the site has reported keeps that.
async fn mark_late(tx: &mut AnyConnection, site: &SiteId, header: &UpdateHeader) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE round_sites SET outcome = 'late', detail = '' WHERE study_id = $1 AND round = $2 AND attempt = $3 \
         AND site_id = $4 AND outcome <> 'reported'",
    )
    .attempt(&header.study_id, header.round, header.attempt)
    .bind(site.as_str())
    .execute(tx)
    .await?;
    Ok(())
}
