//! Offered studies and what people at the site decided of them.
//!
//! The command line writes decisions while an agent runs: each is one insert, which waits for the agent's own short
//! transactions, and touches no table that the agent's lock is for.

use fusiondp_dp::Digest;
use fusiondp_protocol::ids::StudyId;
use fusiondp_protocol::messages::EnrolmentOffer;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::{Store, StoreError, count, integer};
use crate::policy::Verdict;

/// A study as it was offered, and what the site found when it looked at its data for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfferedStudy {
    /// The study.
    pub study: StudyId,
    /// Digest of the document.
    pub digest: Digest,
    /// The document's bytes.
    pub document: Vec<u8>,
    /// The consortium that asks.
    pub asked_by: String,
    /// End of the newest offer, Unix milliseconds.
    pub deadline_ms: u64,
    /// First offer, Unix milliseconds.
    pub first_ms: u64,
    /// What the site found, and when; `None`: not looked yet.
    pub look: Option<(Look, u64)>,
}

/// What the site found when it read its data for a study. Nothing of it leaves before the study is approved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    /// Data and imputer serve.
    Ready {
        /// Privacy units N_k.
        units: u64,
        /// Records.
        records: u64,
        /// What charges would be counted against.
        data_set: Digest,
    },
    /// They do not.
    Problem(String),
}

/// One decision of a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The study.
    pub study: StudyId,
    /// Digest of the document that was decided about.
    pub digest: Digest,
    /// What was decided.
    pub verdict: Verdict,
    /// Name of the person.
    pub decided_by: String,
    /// When, Unix milliseconds.
    pub decided_ms: u64,
}

impl Store {
    /// Notes that a study was offered. A second offer changes its times alone.
    ///
    /// # Errors
    /// The database fails.
    pub async fn record_offer(
        &self,
        offer: &EnrolmentOffer,
        asked_by: &str,
        now_ms: u64,
    ) -> Result<(), StoreError> {
        let mut connection = self.connection().await;
        sqlx::query(
            "INSERT INTO offer (digest, study, document, asked_by, deadline_ms, first_ms, newest_ms)
             VALUES ($1, $2, $3, $4, $5, $6, $6)
             ON CONFLICT (digest) DO UPDATE SET deadline_ms = excluded.deadline_ms, newest_ms = excluded.newest_ms",
        )
        .bind(offer.study_digest.to_string())
        .bind(offer.study_id.as_str())
        .bind(&offer.study_toml[..])
        .bind(asked_by)
        .bind(integer(offer.deadline_ms))
        .bind(integer(now_ms))
        .execute(&mut *connection)
        .await?;
        Ok(())
    }

    /// Notes what the site found when it looked at its data for an offered study.
    ///
    /// # Errors
    /// The database fails.
    pub async fn record_look(&self, digest: Digest, look: &Look, now_ms: u64) -> Result<(), StoreError> {
        let (units, records, data_set, problem) = match look {
            Look::Ready { units, records, data_set } => {
                (Some(integer(*units)), Some(integer(*records)), Some(data_set.to_string()), None)
            }
            Look::Problem(text) => (None, None, None, Some(text.as_str())),
        };
        let mut connection = self.connection().await;
        sqlx::query(
            "UPDATE offer SET units = $2, records = $3, data_set = $4, problem = $5, looked_ms = $6 WHERE digest = $1",
        )
        .bind(digest.to_string())
        .bind(units)
        .bind(records)
        .bind(data_set)
        .bind(problem)
        .bind(integer(now_ms))
        .execute(&mut *connection)
        .await?;
        Ok(())
    }

    /// Every offered study, oldest first.
    ///
    /// # Errors
    /// The database fails, or a row is damaged.
    pub async fn offered(&self) -> Result<Vec<OfferedStudy>, StoreError> {
        let mut connection = self.connection().await;
        let rows =
            sqlx::query("SELECT * FROM offer ORDER BY first_ms, digest").fetch_all(&mut *connection).await?;
        rows.iter().map(offered_study).collect()
    }

    /// Notes a decision. An earlier one about the same document stays in the record and counts no more.
    ///
    /// # Errors
    /// The database fails.
    pub async fn record_decision(&self, decision: &Decision) -> Result<(), StoreError> {
        let (verdict, reason) = match &decision.verdict {
            Verdict::Approved => ("approved", ""),
            Verdict::Rejected { reason } => ("rejected", reason.as_str()),
        };
        let mut connection = self.connection().await;
        sqlx::query(
            "INSERT INTO approval (digest, study, verdict, decided_by, reason, decided_ms)
             VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(decision.digest.to_string())
        .bind(decision.study.as_str())
        .bind(verdict)
        .bind(decision.decided_by.as_str())
        .bind(reason)
        .bind(integer(decision.decided_ms))
        .execute(&mut *connection)
        .await?;
        Ok(())
    }

    /// Every decision, oldest first.
    ///
    /// # Errors
    /// The database fails, or a row is damaged.
    pub async fn decisions(&self) -> Result<Vec<Decision>, StoreError> {
        let mut connection = self.connection().await;
        let rows =
            sqlx::query("SELECT * FROM approval ORDER BY decision").fetch_all(&mut *connection).await?;
        rows.iter().map(decision).collect()
    }

    /// The newest decision about a document; `None` where nobody has decided.
    ///
    /// # Errors
    /// The database fails, or the row is damaged.
    pub async fn verdict(&self, digest: Digest) -> Result<Option<Verdict>, StoreError> {
        let mut connection = self.connection().await;
        let row = sqlx::query("SELECT * FROM approval WHERE digest = $1 ORDER BY decision DESC LIMIT 1")
            .bind(digest.to_string())
            .fetch_optional(&mut *connection)
            .await?;
        Ok(row.map(|row| decision(&row)).transpose()?.map(|decision| decision.verdict))
    }
}

impl Store {
    /// The newest decision about the document that the site has enrolled with under an id; `None` where nobody has decided,
    /// or the site never enrolled.
    ///
    /// # Errors
    /// The database fails, or the row is damaged.
    pub async fn verdict_of_study(&self, study: &StudyId) -> Result<Option<Verdict>, StoreError> {
        let mut connection = self.connection().await;
        let row = sqlx::query(
            "SELECT approval.* FROM study JOIN approval ON approval.digest = study.digest WHERE study.study = $1
             ORDER BY approval.decision DESC LIMIT 1",
        )
        .bind(study.as_str())
        .fetch_optional(&mut *connection)
        .await?;
        Ok(row.map(|row| decision(&row)).transpose()?.map(|decision| decision.verdict))
    }

    /// What the site found when it last looked at its data for an offered study, and when; `None`: not looked yet.
    ///
    /// # Errors
    /// The database fails, or the row is damaged.
    pub async fn last_look(&self, digest: Digest) -> Result<Option<(Look, u64)>, StoreError> {
        let mut connection = self.connection().await;
        let row =
            sqlx::query("SELECT looked_ms, units, records, data_set, problem FROM offer WHERE digest = $1")
                .bind(digest.to_string())
                .fetch_optional(&mut *connection)
                .await?;
        row.map_or(Ok(None), |row| look(&row))
    }
}

fn offered_study(row: &SqliteRow) -> Result<OfferedStudy, StoreError> {
    let document: Vec<u8> = row.try_get("document")?;
    let digest = parsed("offer.digest", row.try_get("digest")?)?;
    if Digest::of(&document) != digest {
        return Err(StoreError::damaged("offer.document", "not what its digest says"));
    }
    Ok(OfferedStudy {
        study: parsed("offer.study", row.try_get("study")?)?,
        digest,
        document,
        asked_by: row.try_get("asked_by")?,
        deadline_ms: count("offer.deadline_ms", row.try_get("deadline_ms")?)?,
        first_ms: count("offer.first_ms", row.try_get("first_ms")?)?,
        look: look(row)?,
    })
}

fn look(row: &SqliteRow) -> Result<Option<(Look, u64)>, StoreError> {
    let Some(looked_ms) = row.try_get::<Option<i64>, _>("looked_ms")? else { return Ok(None) };
    let look = match row.try_get::<Option<String>, _>("problem")? {
        Some(problem) => Look::Problem(problem),
        None => Look::Ready {
            units: count("offer.units", row.try_get("units")?)?,
            records: count("offer.records", row.try_get("records")?)?,
            data_set: parsed("offer.data_set", row.try_get("data_set")?)?,
        },
    };
    Ok(Some((look, count("offer.looked_ms", looked_ms)?)))
}

fn decision(row: &SqliteRow) -> Result<Decision, StoreError> {
    let verdict = match row.try_get::<String, _>("verdict")?.as_str() {
        "approved" => Verdict::Approved,
        "rejected" => Verdict::Rejected { reason: row.try_get("reason")? },
        _ => return Err(StoreError::damaged("approval.verdict", "neither approved nor rejected")),
    };
    Ok(Decision {
        study: parsed("approval.study", row.try_get("study")?)?,
        digest: parsed("approval.digest", row.try_get("digest")?)?,
        verdict,
        decided_by: row.try_get("decided_by")?,
        decided_ms: count("approval.decided_ms", row.try_get("decided_ms")?)?,
    })
}

fn parsed<T: std::str::FromStr>(column: &'static str, text: String) -> Result<T, StoreError> {
    text.parse().map_err(|_| StoreError::damaged(column, "not what it should be"))
}
