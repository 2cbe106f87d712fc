//! Edges of the round state machine.
//!
//! Each edge names the phase that it leaves, in the statement itself: an edge that is written twice, or from a phase
//! that another process has moved on from, changes nothing and is an error.

use fusiondp_protocol::{RoundPhase, SiteId, StudyId};
use sqlx::AnyConnection;

use super::models::{self, NewModel};
use super::row::{BindExt as _, int};
use super::{Store, StoreError, mirror, sites};
use crate::round::reporting::SiteOutcome;
use crate::round::{Abandoned, Configuration, RoundKey, Selection};

/// A server step to be stored.
pub struct AppliedRound {
    /// The attempt.
    pub key: RoundKey,
    /// The new version with its server state.
    pub model: NewModel,
    /// Mean over the public batches, nats per record.
    pub public_loss: Option<f64>,
    /// What follows; `None` after the last round.
    pub next: Option<RoundKey>,
}

/// A task that a site will not do, or could not.
#[derive(Debug, Clone, Copy)]
pub struct DeclinedTraining<'a> {
    /// The site.
    pub site: &'a SiteId,
    /// From 1.
    pub round: u32,
    /// From 1.
    pub attempt: u32,
    /// Failed or refused.
    pub outcome: SiteOutcome,
    /// What the site said.
    pub detail: &'a str,
}

pub(super) async fn open(
    tx: &mut AnyConnection,
    id: &StudyId,
    key: RoundKey,
    now_ms: u64,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO rounds (study_id, round, attempt, phase, model_version, detail, opened_ms, deadline_ms, \
         ended_ms) VALUES ($1, $2, $3, 'selection', $4, '', $5, 0, 0)",
    )
    .attempt(id, key.round, key.attempt)
    .bind(int(key.model_version))
    .bind(int(now_ms))
    .execute(tx)
    .await?;
    Ok(())
}

/// Moves an attempt from one phase to the next.
async fn advance(
    tx: &mut AnyConnection,
    id: &StudyId,
    key: RoundKey,
    from: RoundPhase,
    to: RoundPhase,
    edge: &'static str,
) -> Result<(), StoreError> {
    let updated = sqlx::query(
        "UPDATE rounds SET phase = $5, detail = '' WHERE study_id = $1 AND round = $2 AND attempt = $3 \
         AND phase = $4",
    )
    .attempt(id, key.round, key.attempt)
    .bind(from.as_str())
    .bind(to.as_str())
    .execute(tx)
    .await?;
    if updated.rows_affected() == 1 { Ok(()) } else { Err(StoreError::WrongPhase { edge }) }
}

/// Every site whose update counts in the round is part of the attempt that will apply it.
async fn join_reported(tx: &mut AnyConnection, id: &StudyId, key: RoundKey) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO round_sites (study_id, round, attempt, site_id, outcome, detail) \
         SELECT study_id, round, $3, site_id, 'reported', '' FROM updates \
         WHERE study_id = $1 AND round = $2 AND outcome = 'accepted' \
         ON CONFLICT (study_id, round, attempt, site_id) DO NOTHING",
    )
    .attempt(id, key.round, key.attempt)
    .execute(tx)
    .await?;
    Ok(())
}

/// Who has not answered has missed the attempt.
async fn close_reporting(tx: &mut AnyConnection, id: &StudyId, key: RoundKey) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE round_sites SET outcome = 'missing' WHERE study_id = $1 AND round = $2 AND attempt = $3 \
         AND outcome = 'working'",
    )
    .attempt(id, key.round, key.attempt)
    .execute(&mut *tx)
    .await?;
    sqlx::query(
        "UPDATE study_sites SET rounds_missed = rounds_missed + 1 WHERE study_id = $1 AND site_id IN \
         (SELECT site_id FROM round_sites WHERE study_id = $1 AND round = $2 AND attempt = $3 \
         AND outcome <> 'reported')",
    )
    .attempt(id, key.round, key.attempt)
    .execute(tx)
    .await?;
    Ok(())
}

impl Store {
    /// Says what a selection waits for.
    pub async fn note_waiting(&self, id: &StudyId, key: RoundKey, detail: &str) -> Result<(), StoreError> {
        self.write("note_waiting", |tx| {
            Box::pin(async move {
                sqlx::query(
                    "UPDATE rounds SET detail = $4 WHERE study_id = $1 AND round = $2 AND attempt = $3 \
                     AND phase = 'selection'",
                )
                .attempt(id, key.round, key.attempt)
                .bind(detail)
                .execute(&mut **tx)
                .await?;
                Ok(())
            })
        })
        .await
    }

    /// Selection → Configuration. Sites whose update an earlier attempt holds start as reported, also those that were
    /// not chosen: their update may have come in, or the site may have left, while the choice was made.
    pub async fn edge_selected(&self, id: &StudyId, chosen: &Configuration) -> Result<(), StoreError> {
        self.write("edge_selected", |tx| {
            Box::pin(async move {
                let key = chosen.key();
                let (from, to) = (RoundPhase::Selection, RoundPhase::Configuration);
                advance(tx, id, key, from, to, "edge_selected").await?;
                for site in chosen.selected() {
                    sqlx::query(
                        "INSERT INTO round_sites (study_id, round, attempt, site_id, outcome, detail) \
                         SELECT $1, $2, $3, $4, CASE WHEN EXISTS (SELECT 1 FROM updates WHERE study_id = $1 \
                         AND round = $2 AND site_id = $4 AND outcome = 'accepted') \
                         THEN 'reported' ELSE 'working' END, ''",
                    )
                    .attempt(id, key.round, key.attempt)
                    .bind(site.as_str())
                    .execute(&mut **tx)
                    .await?;
                }
                join_reported(tx, id, key).await
            })
        })
        .await
    }

    /// Configuration → Reporting.
    pub async fn edge_configured(
        &self,
        id: &StudyId,
        key: RoundKey,
        deadline_ms: u64,
    ) -> Result<(), StoreError> {
        self.write("edge_configured", |tx| {
            Box::pin(async move {
                let (from, to) = (RoundPhase::Configuration, RoundPhase::Reporting);
                advance(tx, id, key, from, to, "edge_configured").await?;
                set_deadline(tx, id, key, deadline_ms).await
            })
        })
        .await
    }

    /// Gives the sites of a reporting attempt more time: an outage of the coordinator is no fault of theirs.
    pub async fn extend_deadline(
        &self,
        id: &StudyId,
        key: RoundKey,
        deadline_ms: u64,
    ) -> Result<(), StoreError> {
        self.write("extend_deadline", |tx| Box::pin(set_deadline(tx, id, key, deadline_ms))).await
    }

    /// Reporting → Aggregation.
    pub async fn edge_reported(&self, id: &StudyId, key: RoundKey) -> Result<(), StoreError> {
        self.write("edge_reported", |tx| {
            Box::pin(async move {
                let (from, to) = (RoundPhase::Reporting, RoundPhase::Aggregation);
                advance(tx, id, key, from, to, "edge_reported").await?;
                close_reporting(tx, id, key).await
            })
        })
        .await
    }

    /// Aggregation → Finished, with the new model, its server state and the next round, in one transaction.
    pub async fn edge_finished(
        &self,
        id: &StudyId,
        applied: &AppliedRound,
        now_ms: u64,
    ) -> Result<(), StoreError> {
        self.write("edge_finished", |tx| {
            Box::pin(async move {
                let key = applied.key;
                let (from, to) = (RoundPhase::Aggregation, RoundPhase::Finished);
                advance(tx, id, key, from, to, "edge_finished").await?;
                end_attempt(tx, id, key, "", applied.public_loss, now_ms).await?;
                models::insert(tx, id, &applied.model).await?;
                count_round(tx, id, applied).await?;
                models::prune(tx, id, applied.model.version).await?;
                match applied.next {
                    Some(next) => open(tx, id, next, now_ms).await,
                    None => Ok(()),
                }
            })
        })
        .await
    }

    /// Reporting → Abandoned, with the next attempt if there is one.
    pub async fn edge_abandoned(
        &self,
        id: &StudyId,
        abandoned: &Abandoned,
        next: Option<&Selection>,
        now_ms: u64,
    ) -> Result<(), StoreError> {
        self.write("edge_abandoned", |tx| {
            Box::pin(async move {
                let key = abandoned.key();
                let (from, to) = (RoundPhase::Reporting, RoundPhase::Abandoned);
                advance(tx, id, key, from, to, "edge_abandoned").await?;
                close_reporting(tx, id, key).await?;
                end_attempt(tx, id, key, abandoned.reason(), None, now_ms).await?;
                match next {
                    Some(next) => open(tx, id, next.key(), now_ms).await,
                    None => Ok(()),
                }
            })
        })
        .await
    }

    /// A site declines its task. A refusal takes it out of the study with a warning, so it closes the task of whatever
    /// attempt of the round is under way. False when the site had no such task open, which changes nothing.
    pub async fn record_training_decline(
        &self,
        id: &StudyId,
        declined: &DeclinedTraining<'_>,
        now_ms: u64,
    ) -> Result<bool, StoreError> {
        self.write("record_training_decline", |tx| {
            Box::pin(async move {
                let DeclinedTraining { site, round, attempt, outcome, detail } = *declined;
                let refused = outcome == SiteOutcome::Refused;
                let updated = sqlx::query(
                    "UPDATE round_sites SET outcome = $5, detail = $6 WHERE study_id = $1 AND round = $2 \
                     AND (attempt = $3 OR $7 = 1) AND site_id = $4 AND outcome = 'working'",
                )
                .attempt(id, round, attempt)
                .bind(site.as_str())
                .bind(outcome.as_str())
                .bind(detail)
                .bind(int(u8::from(refused)))
                .execute(&mut **tx)
                .await?;
                let open = updated.rows_affected() > 0;
                if refused && open {
                    sites::leave(tx, id, site, detail).await?;
                    let message = format!("left the study in round {round}: {detail}");
                    mirror::warn(tx, id, Some(site), &message, now_ms).await?;
                }
                Ok(open)
            })
        })
        .await
    }
}

async fn set_deadline(
    tx: &mut AnyConnection,
    id: &StudyId,
    key: RoundKey,
    deadline_ms: u64,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE rounds SET deadline_ms = $4 WHERE study_id = $1 AND round = $2 AND attempt = $3")
        .attempt(id, key.round, key.attempt)
        .bind(int(deadline_ms))
        .execute(tx)
        .await?;
    Ok(())
}

async fn end_attempt(
    tx: &mut AnyConnection,
    id: &StudyId,
    key: RoundKey,
    detail: &str,
    public_loss: Option<f64>,
    now_ms: u64,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE rounds SET ended_ms = $4, detail = $5, public_loss = $6 WHERE study_id = $1 AND round = $2 \
         AND attempt = $3",
    )
    .attempt(id, key.round, key.attempt)
    .bind(int(now_ms))
    .bind(detail)
    .bind(public_loss)
    .execute(tx)
    .await?;
    Ok(())
}

/// Counts the applied round for the study and for the sites in it, and frees the payloads it was made from.
async fn count_round(tx: &mut AnyConnection, id: &StudyId, applied: &AppliedRound) -> Result<(), StoreError> {
    let round = int(applied.key.round);
    sqlx::query(
        "UPDATE studies SET rounds_applied = $2, model_version = $3, public_loss = $4 WHERE study_id = $1",
    )
    .bind(id.as_str())
    .bind(round)
    .bind(int(applied.model.version))
    .bind(applied.public_loss)
    .execute(&mut *tx)
    .await?;
    sqlx::query(
        "UPDATE study_sites SET rounds_contributed = rounds_contributed + 1 WHERE study_id = $1 AND site_id IN \
         (SELECT site_id FROM updates WHERE study_id = $1 AND round = $2 AND outcome = 'accepted')",
    )
    .bind(id.as_str())
    .bind(round)
    .execute(&mut *tx)
    .await?;
    sqlx::query("UPDATE updates SET payload = NULL WHERE study_id = $1 AND round = $2")
        .bind(id.as_str())
        .bind(round)
        .execute(tx)
        .await?;
    Ok(())
}
