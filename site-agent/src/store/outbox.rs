//! Updates from the moment they exist until the coordinator has them, and a little longer.
//!
//! An update enters the outbox in the transaction that marks its charges as released; a second release of a charge is
//! impossible there. Whatever is sent, is sent from here: a retry sends the same bytes.

use bytes::Bytes;
use fusiondp_dp::{Digest, UpdateId};
use fusiondp_protocol::ids::StudyId;
use fusiondp_protocol::messages::{TrainingTask, UpdateHeader};
use fusiondp_protocol::receipt::SignedReceipt;
use sqlx::sqlite::SqliteRow;
use sqlx::{Connection, Row, SqliteConnection};

use super::{Store, StoreError, count, integer, receipts};

/// What makes two tasks the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskKey {
    /// The study.
    pub study: StudyId,
    /// The round, from 1.
    pub round: u32,
    /// The attempt, from 1.
    pub attempt: u32,
    /// The model version to compute on.
    pub model_version: u64,
    /// Digest of that version.
    pub model_digest: Digest,
}

/// An update as it is sent.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredUpdate {
    /// What precedes the payload.
    pub header: UpdateHeader,
    /// The values, little-endian.
    pub payload: Bytes,
    /// Whether the coordinator has confirmed it.
    pub sent: bool,
    /// Digest of the model version it was computed on.
    pub model_digest: Digest,
}

impl TaskKey {
    /// The key of a task.
    pub fn of(task: &TrainingTask) -> Self {
        Self {
            study: task.plan.study_id.clone(),
            round: task.round,
            attempt: task.attempt,
            model_version: task.model_version,
            model_digest: task.model_digest,
        }
    }
}

impl Store {
    /// Releases an update: stores its bytes and its receipt, and marks its charges, in one transaction. Sent updates of earlier tasks of
    /// the study are dropped with it.
    ///
    /// # Errors
    /// [`StoreError::NotReleasable`] when a charge is missing or was released before; the database fails. Nothing is
    /// released then.
    pub async fn release_update(
        &self,
        key: &TaskKey,
        header: &UpdateHeader,
        payload: &[u8],
        now_ms: u64,
    ) -> Result<(), StoreError> {
        let mut connection = self.connection().await;
        let mut transaction = connection.begin().await?;
        let charges = header.receipt.receipt.own_charges().len();
        mark_released(&mut transaction, header.update_id, charges, now_ms).await?;
        drop_sent(&mut transaction, key).await?;
        insert(&mut transaction, key, header, payload, now_ms).await?;
        receipts::insert(&mut transaction, &header.receipt).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// The update of a task's round and model version, of whichever attempt; `None` if there is none.
    ///
    /// Attempts of a round ask for the same thing, and the coordinator takes an update of an earlier attempt as long as
    /// the round is open. What was charged once is sent, not computed and charged again.
    ///
    /// # Errors
    /// The database fails or is damaged.
    pub async fn update_of(&self, key: &TaskKey) -> Result<Option<StoredUpdate>, StoreError> {
        let mut connection = self.connection().await;
        let row = sqlx::query(
            "SELECT * FROM outbox WHERE study = $1 AND round = $2 AND model_version = $3 ORDER BY attempt DESC LIMIT 1",
        )
        .bind(key.study.as_str())
        .bind(i64::from(key.round))
        .bind(integer(key.model_version))
        .fetch_optional(&mut *connection)
        .await?;
        let Some(row) = row else {
            return Ok(None);
        };
        let receipt = receipts::of_update(&mut connection, row.try_get("update_id")?).await?;
        decode(key, &row, receipt).map(Some)
    }

    /// Notes that the coordinator has an update, and with it the receipt.
    ///
    /// # Errors
    /// The database fails.
    pub async fn mark_sent(&self, update_id: UpdateId, now_ms: u64) -> Result<(), StoreError> {
        let mut connection = self.connection().await;
        let mut transaction = connection.begin().await?;
        sqlx::query("UPDATE outbox SET sent_ms = $1 WHERE update_id = $2 AND sent_ms IS NULL")
            .bind(integer(now_ms))
            .bind(update_id.to_string())
            .execute(&mut *transaction)
            .await?;
        receipts::confirm(&mut transaction, update_id, now_ms).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Drops an update that the coordinator does not take; its charges stay.
    ///
    /// # Errors
    /// The database fails.
    pub async fn discard_update(&self, update_id: UpdateId) -> Result<(), StoreError> {
        let mut connection = self.connection().await;
        sqlx::query("DELETE FROM outbox WHERE update_id = $1")
            .bind(update_id.to_string())
            .execute(&mut *connection)
            .await?;
        Ok(())
    }

    /// Drops unsent updates of a study's other rounds and models, which nobody waits for any more; their charges stay.
    /// Returns how many there were.
    ///
    /// # Errors
    /// The database fails.
    pub async fn discard_stale(&self, current: &TaskKey) -> Result<u64, StoreError> {
        let mut connection = self.connection().await;
        let result = sqlx::query(
            "DELETE FROM outbox WHERE study = $1 AND sent_ms IS NULL AND NOT (round = $2 AND model_version = $3)",
        )
        .bind(current.study.as_str())
        .bind(i64::from(current.round))
        .bind(integer(current.model_version))
        .execute(&mut *connection)
        .await?;
        Ok(result.rows_affected())
    }

    /// Newest round and attempt of a study that the site has an update or a charge of.
    ///
    /// # Errors
    /// The database fails.
    pub async fn newest_round(&self, study: &StudyId) -> Result<u32, StoreError> {
        let mut connection = self.connection().await;
        let newest: Option<i64> = sqlx::query_scalar(
            "SELECT MAX(round) FROM
             (SELECT round FROM outbox WHERE study = $1 UNION ALL SELECT round FROM ledger WHERE study = $1)",
        )
        .bind(study.as_str())
        .fetch_one(&mut *connection)
        .await?;
        u32::try_from(newest.unwrap_or(0)).map_err(|_| StoreError::damaged("round", "out of range"))
    }
}

pub(super) async fn mark_released(
    connection: &mut SqliteConnection,
    update_id: UpdateId,
    charges: usize,
    now_ms: u64,
) -> Result<(), StoreError> {
    if charges == 0 {
        return Ok(());
    }
    let result =
        sqlx::query("UPDATE ledger SET released_ms = $1 WHERE update_id = $2 AND released_ms IS NULL")
            .bind(integer(now_ms))
            .bind(update_id.to_string())
            .execute(connection)
            .await?;
    if result.rows_affected() == charges as u64 {
        return Ok(());
    }
    Err(StoreError::NotReleasable {
        update_id: update_id.to_string(),
        problem: "its charges are not in the ledger, or were released before",
    })
}

async fn drop_sent(connection: &mut SqliteConnection, current: &TaskKey) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM outbox WHERE study = $1 AND sent_ms IS NOT NULL AND round < $2")
        .bind(current.study.as_str())
        .bind(i64::from(current.round))
        .execute(connection)
        .await?;
    Ok(())
}

async fn insert(
    connection: &mut SqliteConnection,
    key: &TaskKey,
    header: &UpdateHeader,
    payload: &[u8],
    now_ms: u64,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO outbox (update_id, study, round, attempt, model_version, model_digest, public_values,
             private_values, units, records, public_loss, payload, payload_digest, stored_ms)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
    )
    .bind(header.update_id.to_string())
    .bind(key.study.as_str())
    .bind(i64::from(key.round))
    .bind(i64::from(key.attempt))
    .bind(integer(key.model_version))
    .bind(key.model_digest.to_string())
    .bind(integer(header.public_values))
    .bind(integer(header.private_values))
    .bind(integer(header.units))
    .bind(integer(header.records))
    .bind(header.public_loss)
    .bind(payload)
    .bind(header.payload_digest.to_string())
    .bind(integer(now_ms))
    .execute(connection)
    .await?;
    Ok(())
}

fn decode(key: &TaskKey, row: &SqliteRow, receipt: SignedReceipt) -> Result<StoredUpdate, StoreError> {
    let payload: Vec<u8> = row.try_get("payload")?;
    let payload_digest: Digest = hex(row, "payload_digest")?;
    if Digest::of(&payload) != payload_digest {
        return Err(StoreError::damaged("outbox.payload", "not what its digest says"));
    }
    let header = UpdateHeader {
        update_id: hex(row, "update_id")?,
        study_id: key.study.clone(),
        round: key.round,
        attempt: u32::try_from(row.try_get::<i64, _>("attempt")?)
            .map_err(|_| StoreError::damaged("outbox.attempt", "out of range"))?,
        model_version: key.model_version,
        public_values: count("outbox.public_values", row.try_get("public_values")?)?,
        private_values: count("outbox.private_values", row.try_get("private_values")?)?,
        units: count("outbox.units", row.try_get("units")?)?,
        records: count("outbox.records", row.try_get("records")?)?,
        payload_digest,
        public_loss: row.try_get("public_loss")?,
        receipt,
    };
    let sent = row.try_get::<Option<i64>, _>("sent_ms")?.is_some();
    Ok(StoredUpdate { header, payload: payload.into(), sent, model_digest: hex(row, "model_digest")? })
}

pub(super) fn hex<T: std::str::FromStr>(row: &SqliteRow, column: &'static str) -> Result<T, StoreError> {
    let text: String = row.try_get(column)?;
    text.parse().map_err(|_| StoreError::damaged(column, "no hexadecimal id"))
}
