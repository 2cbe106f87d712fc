//! Tables of counts with noise: released once, and sent again as they were.

use fusiondp_dp::{Digest, LedgerEntry, SignedEntry};
use fusiondp_protocol::ids::{CohortName, StudyId};
use fusiondp_protocol::messages::{EvaluationTask, NoisyCounts};
use sqlx::{Connection, Row};

use super::outbox::{hex, mark_released};
use super::{Store, StoreError, integer};

/// What makes two evaluations the same, and the model that must not differ then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CountsKey {
    /// The study.
    pub study: StudyId,
    /// The model version that is evaluated.
    pub model_version: u64,
    /// The cohort that is counted.
    pub cohort: CohortName,
    /// Digest of that version.
    pub model_digest: Digest,
}

impl CountsKey {
    /// The key of a task.
    pub fn of(task: &EvaluationTask) -> Self {
        Self {
            study: task.study_id.clone(),
            model_version: task.model_version,
            cohort: task.cohort.clone(),
            model_digest: task.model_digest,
        }
    }
}

impl Store {
    /// Signs an entry of the ledger, as it is signed there.
    ///
    /// # Errors
    /// The store was opened to be read.
    pub fn sign_entry(&self, entry: LedgerEntry) -> Result<SignedEntry, StoreError> {
        Ok(self.signer()?.key.sign_entry(entry))
    }

    /// Releases a table: stores it and marks its charge, in one transaction.
    ///
    /// # Errors
    /// [`StoreError::NotReleasable`] when the charge is missing or was released before; there is a table of this key; the
    /// database fails. Nothing is released then.
    pub async fn release_counts(
        &self,
        key: &CountsKey,
        counts: &NoisyCounts,
        now_ms: u64,
    ) -> Result<(), StoreError> {
        // Unwrap safety: the fields are integers, finite numbers and texts, which serde_json cannot fail to write.
        let payload = serde_json::to_string(counts).expect("counts have a JSON form");
        let update_id = counts.charge.entry.charge().update_id;
        let mut connection = self.connection().await;
        let mut transaction = connection.begin().await?;
        mark_released(&mut transaction, update_id, 1, now_ms).await?;
        sqlx::query(
            "INSERT INTO noisy_counts (study, model_version, cohort, model_digest, update_id, payload, payload_digest,
                 stored_ms)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(key.study.as_str())
        .bind(integer(key.model_version))
        .bind(key.cohort.as_str())
        .bind(key.model_digest.to_string())
        .bind(update_id.to_string())
        .bind(&payload)
        .bind(Digest::of(payload.as_bytes()).to_string())
        .bind(integer(now_ms))
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(())
    }

    /// The table that was released for an evaluation, and the digest of the model it was computed on; `None` if there is none.
    ///
    /// # Errors
    /// The database fails or is damaged.
    pub async fn counts_of(&self, key: &CountsKey) -> Result<Option<(Digest, NoisyCounts)>, StoreError> {
        let mut connection = self.connection().await;
        let row = sqlx::query(
            "SELECT model_digest, payload, payload_digest FROM noisy_counts
             WHERE study = $1 AND model_version = $2 AND cohort = $3",
        )
        .bind(key.study.as_str())
        .bind(integer(key.model_version))
        .bind(key.cohort.as_str())
        .fetch_optional(&mut *connection)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let payload: String = row.try_get("payload")?;
        if Digest::of(payload.as_bytes()) != hex(&row, "payload_digest")? {
            return Err(StoreError::damaged("noisy_counts.payload", "not what its digest says"));
        }
        let counts = serde_json::from_str(&payload)
            .map_err(|_| StoreError::damaged("noisy_counts.payload", "no table of counts"))?;
        Ok(Some((hex(&row, "model_digest")?, counts)))
    }
}
