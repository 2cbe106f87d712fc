//! What the site has stated in writing of every update that it released.

use fusiondp_dp::UpdateId;
use fusiondp_protocol::ids::StudyId;
use fusiondp_protocol::receipt::{Receipt, SignedReceipt};
use sqlx::{Row, SqliteConnection};

use super::{Store, StoreError, count, integer};

impl Store {
    /// Signs a receipt with the ledger's key.
    ///
    /// # Errors
    /// The store was opened to be read.
    pub fn sign_receipt(&self, receipt: Receipt) -> Result<SignedReceipt, StoreError> {
        Ok(receipt.signed(&self.signer()?.key))
    }

    /// Place in the chain of the newest charge that the coordinator has a receipt of; `None` if it has none of the study.
    ///
    /// # Errors
    /// The database fails.
    pub async fn last_confirmed_charge(&self, study: &StudyId) -> Result<Option<u64>, StoreError> {
        let mut connection = self.connection().await;
        let place: Option<i64> = sqlx::query_scalar(
            "SELECT MAX(last_charge) FROM receipt WHERE study = $1 AND confirmed_ms IS NOT NULL",
        )
        .bind(study.as_str())
        .fetch_one(&mut *connection)
        .await?;
        place.map(|place| count("receipt.last_charge", place)).transpose()
    }

    /// Every receipt of a study, in the order of release.
    ///
    /// # Errors
    /// The database fails or is damaged.
    pub async fn receipts(&self, study: &StudyId) -> Result<Vec<SignedReceipt>, StoreError> {
        let mut connection = self.connection().await;
        let rows = sqlx::query("SELECT receipt FROM receipt WHERE study = $1 ORDER BY rowid")
            .bind(study.as_str())
            .fetch_all(&mut *connection)
            .await?;
        rows.iter().map(|row| parse(&row.try_get::<String, _>("receipt")?)).collect()
    }
}

/// Keeps the receipt of an update, in the transaction that releases it.
pub(super) async fn insert(
    connection: &mut SqliteConnection,
    signed: &SignedReceipt,
) -> Result<(), StoreError> {
    let receipt = &signed.receipt;
    let last = receipt.charges.last().map(|charge| integer(charge.entry.sequence()));
    sqlx::query(
        "INSERT INTO receipt (update_id, study, round, receipt, last_charge) VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(receipt.update_id.to_string())
    .bind(receipt.study.as_str())
    .bind(i64::from(receipt.round))
    .bind(signed.canonical_json())
    .bind(last)
    .execute(connection)
    .await?;
    Ok(())
}

/// The receipt of an update.
pub(super) async fn of_update(
    connection: &mut SqliteConnection,
    update_id: &str,
) -> Result<SignedReceipt, StoreError> {
    let text: Option<String> = sqlx::query_scalar("SELECT receipt FROM receipt WHERE update_id = $1")
        .bind(update_id)
        .fetch_optional(connection)
        .await?;
    parse(&text.ok_or_else(|| StoreError::damaged("receipt", "missing for an update"))?)
}

/// Notes that the coordinator has the receipt.
pub(super) async fn confirm(
    connection: &mut SqliteConnection,
    update_id: UpdateId,
    now_ms: u64,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE receipt SET confirmed_ms = $1 WHERE update_id = $2 AND confirmed_ms IS NULL")
        .bind(integer(now_ms))
        .bind(update_id.to_string())
        .execute(connection)
        .await?;
    Ok(())
}

fn parse(text: &str) -> Result<SignedReceipt, StoreError> {
    serde_json::from_str(text).map_err(|_| StoreError::damaged("receipt.receipt", "no receipt"))
}
