//! Documents the site has enrolled with, so that a restarted agent knows what a task is about.

use fusiondp_dp::Digest;
use fusiondp_protocol::ids::StudyId;
use sqlx::Row;

use super::{Store, StoreError, integer};

/// A study the site takes part in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnrolledStudy {
    /// The study.
    pub study: StudyId,
    /// Digest of the document.
    pub digest: Digest,
    /// The document's bytes.
    pub document: Vec<u8>,
}

impl Store {
    /// Keeps a study's document. A second time changes nothing.
    ///
    /// # Errors
    /// The database fails, or holds another document under this id.
    pub async fn keep_study(&self, study: &EnrolledStudy, now_ms: u64) -> Result<(), StoreError> {
        let mut connection = self.connection().await;
        sqlx::query(
            "INSERT INTO study (study, digest, document, enrolled_ms) VALUES ($1, $2, $3, $4)
             ON CONFLICT (study) DO NOTHING",
        )
        .bind(study.study.as_str())
        .bind(study.digest.to_string())
        .bind(study.document.as_slice())
        .bind(integer(now_ms))
        .execute(&mut *connection)
        .await?;
        drop(connection);
        match self.study(&study.study).await? {
            Some(kept) if kept.digest == study.digest => Ok(()),
            _ => Err(StoreError::damaged("study", "another document under the same id")),
        }
    }

    /// The document of a study; `None` if the site never enrolled in it.
    ///
    /// # Errors
    /// The database fails, or the bytes no longer have their digest.
    pub async fn study(&self, study: &StudyId) -> Result<Option<EnrolledStudy>, StoreError> {
        let mut connection = self.connection().await;
        let row = sqlx::query("SELECT digest, document FROM study WHERE study = $1")
            .bind(study.as_str())
            .fetch_optional(&mut *connection)
            .await?;
        let Some(row) = row else {
            return Ok(None);
        };
        let document: Vec<u8> = row.try_get("document")?;
        let digest = Digest::of(&document);
        if digest.to_string() != row.try_get::<String, _>("digest")? {
            return Err(StoreError::damaged("study.document", "not what its digest says"));
        }
        Ok(Some(EnrolledStudy { study: study.clone(), digest, document }))
    }
}
