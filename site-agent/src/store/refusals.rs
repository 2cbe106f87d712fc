//! What the site did not do and why, for people at the site.

use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::{Store, StoreError, count, integer};

/// Refusals that are kept; the oldest give way, so that a coordinator cannot fill the disk by asking.
const MOST_REFUSALS: i64 = 1_000;

/// A task that was not done, as often as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusalRow {
    /// Study id.
    pub study: String,
    /// `enrolment`, `training` or `evaluation`.
    pub stage: String,
    /// `refusal`: the site will not; `failure`: it could not.
    pub decline: String,
    /// Problem type, as the coordinator hears it.
    pub problem: String,
    /// For people at the site; the coordinator hears less.
    pub text: String,
    /// How often.
    pub times: u64,
    /// Newest time, Unix milliseconds.
    pub newest_ms: u64,
}

impl Store {
    /// Counts a refusal or failure.
    ///
    /// # Errors
    /// The database fails.
    pub async fn record_refusal(&self, refusal: &RefusalRow) -> Result<(), StoreError> {
        let mut connection = self.connection().await;
        let now_ms = integer(refusal.newest_ms);
        sqlx::query(
            "INSERT INTO refusal (study, stage, decline, problem, text, times, first_ms, newest_ms)
             VALUES ($1, $2, $3, $4, $5, 1, $6, $6)
             ON CONFLICT (study, stage, decline, problem, text)
             DO UPDATE SET times = times + 1, newest_ms = excluded.newest_ms",
        )
        .bind(refusal.study.as_str())
        .bind(refusal.stage.as_str())
        .bind(refusal.decline.as_str())
        .bind(refusal.problem.as_str())
        .bind(refusal.text.as_str())
        .bind(now_ms)
        .execute(&mut *connection)
        .await?;
        sqlx::query(
            "DELETE FROM refusal WHERE rowid IN
             (SELECT rowid FROM refusal ORDER BY newest_ms DESC, rowid DESC LIMIT -1 OFFSET $1)",
        )
        .bind(MOST_REFUSALS)
        .execute(&mut *connection)
        .await?;
        Ok(())
    }

    /// The newest refusals, newest first.
    ///
    /// # Errors
    /// The database fails.
    pub async fn newest_refusals(&self, most: u32) -> Result<Vec<RefusalRow>, StoreError> {
        let mut connection = self.connection().await;
        let rows = sqlx::query("SELECT * FROM refusal ORDER BY newest_ms DESC, rowid DESC LIMIT $1")
            .bind(i64::from(most))
            .fetch_all(&mut *connection)
            .await?;
        rows.iter().map(refusal_row).collect()
    }
}

fn refusal_row(row: &SqliteRow) -> Result<RefusalRow, StoreError> {
    Ok(RefusalRow {
        study: row.try_get("study")?,
        stage: row.try_get("stage")?,
        decline: row.try_get("decline")?,
        problem: row.try_get("problem")?,
        text: row.try_get("text")?,
        times: count("refusal.times", row.try_get("times")?)?,
        newest_ms: count("refusal.newest_ms", row.try_get("newest_ms")?)?,
    })
}
