//! Rounds as they were: attempts, and what each site did in them.

use std::collections::BTreeMap;

use fusiondp_protocol::{RoundPhase, SiteId, StudyId};
use sqlx::AnyConnection;
use sqlx::any::AnyRow;

use super::row::{BindExt as _, RowExt as _, beginning, int};
use super::{Store, StoreError};
use crate::round::RoundKey;
use crate::round::reporting::SiteOutcome;

/// One attempt of one round.
#[derive(Debug, Clone)]
pub struct RoundRow {
    /// Which.
    pub key: RoundKey,
    /// Where it stands.
    pub phase: RoundPhase,
    /// What it waits for, or why it was abandoned.
    pub detail: String,
    /// Unix milliseconds.
    pub opened_ms: u64,
    /// Of reporting, Unix milliseconds.
    pub deadline_ms: Option<u64>,
    /// Unix milliseconds.
    pub ended_ms: Option<u64>,
    /// Mean over the public batches, nats per record.
    pub public_loss: Option<f64>,
}

/// What one site did in one attempt.
#[derive(Debug, Clone)]
pub struct ParticipationRow {
    /// Round, from 1.
    pub round: u32,
    /// Attempt, from 1.
    pub attempt: u32,
    /// The site.
    pub site: SiteId,
    /// How far it came.
    pub outcome: SiteOutcome,
    /// Why, where it did not report.
    pub detail: String,
}

// The columns of a `RoundRow`.
beginning!(
    select_round,
    "SELECT round, attempt, phase, model_version, detail, opened_ms, deadline_ms, ended_ms, public_loss \
             FROM rounds WHERE study_id = $1 "
);

fn round_row(row: &AnyRow) -> Result<RoundRow, StoreError> {
    Ok(RoundRow {
        key: RoundKey {
            round: row.uint32("round")?,
            attempt: row.uint32("attempt")?,
            model_version: row.uint("model_version")?,
        },
        phase: row.parsed("phase")?,
        detail: row.text("detail")?,
        opened_ms: row.uint("opened_ms")?,
        deadline_ms: row.time("deadline_ms")?,
        ended_ms: row.time("ended_ms")?,
        public_loss: row.optional_real("public_loss")?,
    })
}

/// The newest attempt of the newest round.
pub(super) async fn current(tx: &mut AnyConnection, id: &StudyId) -> Result<Option<RoundRow>, StoreError> {
    let query = select_round!("ORDER BY round DESC, attempt DESC LIMIT 1").bind(id.as_str());
    query.fetch_optional(tx).await?.map(|row| round_row(&row)).transpose()
}

/// What the sites of one attempt have answered.
pub(super) async fn outcomes(
    tx: &mut AnyConnection,
    id: &StudyId,
    key: RoundKey,
) -> Result<BTreeMap<SiteId, SiteOutcome>, StoreError> {
    let query = sqlx::query(
        "SELECT site_id, outcome FROM round_sites WHERE study_id = $1 AND round = $2 AND attempt = $3",
    );
    let rows = query.attempt(id, key.round, key.attempt).fetch_all(tx).await?;
    rows.iter().map(|row| Ok((row.parsed("site_id")?, row.parsed("outcome")?))).collect()
}

pub(super) async fn rounds(tx: &mut AnyConnection, id: &StudyId) -> Result<Vec<RoundRow>, StoreError> {
    let query = select_round!("ORDER BY round, attempt").bind(id.as_str());
    query.fetch_all(tx).await?.iter().map(round_row).collect()
}

pub(super) async fn participation(
    tx: &mut AnyConnection,
    id: &StudyId,
) -> Result<Vec<ParticipationRow>, StoreError> {
    let query = sqlx::query(
        "SELECT round, attempt, site_id, outcome, detail FROM round_sites WHERE study_id = $1 \
         ORDER BY round, attempt, site_id",
    );
    query.bind(id.as_str()).fetch_all(tx).await?.iter().map(participation_row).collect()
}

fn participation_row(row: &AnyRow) -> Result<ParticipationRow, StoreError> {
    Ok(ParticipationRow {
        round: row.uint32("round")?,
        attempt: row.uint32("attempt")?,
        site: row.parsed("site_id")?,
        outcome: row.parsed("outcome")?,
        detail: row.text("detail")?,
    })
}

impl Store {
    /// The newest attempt of the newest round; `None` before enrollment has closed.
    pub async fn current_round(&self, id: &StudyId) -> Result<Option<RoundRow>, StoreError> {
        self.read("current_round", |tx| Box::pin(current(tx, id))).await
    }

    /// Every attempt of every round, in order.
    pub async fn rounds(&self, id: &StudyId) -> Result<Vec<RoundRow>, StoreError> {
        self.read("rounds", |tx| Box::pin(rounds(tx, id))).await
    }

    /// The newest `limit` finished attempts, newest first.
    pub async fn finished_rounds(&self, id: &StudyId, limit: u32) -> Result<Vec<RoundRow>, StoreError> {
        self.read("finished_rounds", |tx| {
            Box::pin(async move {
                let query = select_round!("AND phase = 'finished' ORDER BY round DESC LIMIT $2");
                let query = query.bind(id.as_str()).bind(int(limit));
                query.fetch_all(&mut **tx).await?.iter().map(round_row).collect()
            })
        })
        .await
    }

    /// What each site did in each attempt, in order.
    pub async fn participation(&self, id: &StudyId) -> Result<Vec<ParticipationRow>, StoreError> {
        self.read("participation", |tx| Box::pin(participation(tx, id))).await
    }

    /// What the sites of one attempt have answered so far.
    pub async fn outcomes(
        &self,
        id: &StudyId,
        key: RoundKey,
    ) -> Result<BTreeMap<SiteId, SiteOutcome>, StoreError> {
        self.read("outcomes", |tx| Box::pin(outcomes(tx, id, key))).await
    }

    /// Whether a site of the attempt still has to answer: quicker than all outcomes where there are many sites.
    pub async fn someone_is_working(&self, id: &StudyId, key: RoundKey) -> Result<bool, StoreError> {
        self.read("someone_is_working", |tx| {
            Box::pin(async move {
                let query = sqlx::query(
                    "SELECT site_id FROM round_sites WHERE study_id = $1 AND round = $2 AND attempt = $3 \
                     AND outcome = $4 LIMIT 1",
                );
                let query = query.bind(id.as_str()).bind(int(key.round)).bind(int(key.attempt));
                let query = query.bind(SiteOutcome::Working.as_str());
                Ok(query.fetch_optional(&mut **tx).await?.is_some())
            })
        })
        .await
    }

    /// What the sites of the newest attempt that has any have done, with what they said.
    pub async fn newest_outcomes(
        &self,
        id: &StudyId,
    ) -> Result<BTreeMap<SiteId, (SiteOutcome, String)>, StoreError> {
        self.read("newest_outcomes", |tx| {
            Box::pin(async move {
                let query = sqlx::query(
                    "SELECT s.site_id AS site_id, s.outcome AS outcome, s.detail AS detail FROM round_sites s \
                     JOIN (SELECT round, attempt FROM round_sites WHERE study_id = $1 \
                     ORDER BY round DESC, attempt DESC LIMIT 1) newest \
                     ON s.round = newest.round AND s.attempt = newest.attempt WHERE s.study_id = $1",
                );
                let rows = query.bind(id.as_str()).fetch_all(&mut **tx).await?;
                let read = |row: &AnyRow| {
                    Ok((row.parsed("site_id")?, (row.parsed("outcome")?, row.text("detail")?)))
                };
                rows.iter().map(read).collect()
            })
        })
        .await
    }
}
