//! Model versions and the server's state.

use fusiondp_protocol::{Digest, StudyId};
use sqlx::AnyConnection;

use super::row::{RowExt as _, int};
use super::{Store, StoreError};

/// Trained versions that are kept besides those an evaluation still needs.
const KEPT_VERSIONS: u64 = 3;

/// How a version came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelKind {
    /// The initial parameters, or those after a server step.
    Trained,
    /// The parameters a study ends with: averaged, if the study says so.
    Final,
}

impl ModelKind {
    const fn as_str(self) -> &'static str {
        match self {
            ModelKind::Trained => "trained",
            ModelKind::Final => "final",
        }
    }
}

/// A version to be stored.
pub struct NewModel {
    /// From 1.
    pub version: u64,
    /// How it came to be.
    pub kind: ModelKind,
    /// The round whose application made it, 0 for the initial one.
    pub round: u32,
    /// SHA-256 of `parameters`.
    pub digest: Digest,
    /// P little-endian f32; before a private round of a study that projects, the directions behind them.
    pub parameters: Vec<u8>,
    /// Server state that belongs to it; absent for a final version, from which nothing goes on.
    pub state: Option<Vec<u8>>,
}

/// A stored version.
#[derive(Clone)]
pub struct ModelRow {
    /// SHA-256 of `parameters`.
    pub digest: Digest,
    /// As in [`NewModel`].
    pub parameters: Vec<u8>,
}

pub(super) async fn insert(tx: &mut AnyConnection, id: &StudyId, model: &NewModel) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO models (study_id, version, kind, round, digest, parameters) VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(id.as_str())
    .bind(int(model.version))
    .bind(model.kind.as_str())
    .bind(int(model.round))
    .bind(model.digest.to_string())
    .bind(model.parameters.clone())
    .execute(&mut *tx)
    .await?;
    if let Some(state) = &model.state {
        sqlx::query(
            "INSERT INTO server_states (study_id, version, state) VALUES ($1, $2, $3) \
             ON CONFLICT (study_id) DO UPDATE SET version = excluded.version, state = excluded.state",
        )
        .bind(id.as_str())
        .bind(int(model.version))
        .bind(state.clone())
        .execute(tx)
        .await?;
    }
    Ok(())
}

/// Deletes trained versions that nobody will ask for any more.
pub(super) async fn prune(tx: &mut AnyConnection, id: &StudyId, newest: u64) -> Result<(), StoreError> {
    sqlx::query(
        "DELETE FROM models WHERE study_id = $1 AND kind = 'trained' AND version <= $2 AND version NOT IN \
         (SELECT model_version FROM evaluations WHERE study_id = $1 AND state = 'open')",
    )
    .bind(id.as_str())
    .bind(int(newest.saturating_sub(KEPT_VERSIONS)))
    .execute(tx)
    .await?;
    Ok(())
}

pub(super) async fn model(
    tx: &mut AnyConnection,
    id: &StudyId,
    version: u64,
) -> Result<Option<ModelRow>, StoreError> {
    let query = sqlx::query("SELECT digest, parameters FROM models WHERE study_id = $1 AND version = $2");
    let row = query.bind(id.as_str()).bind(int(version)).fetch_optional(tx).await?;
    row.map(|row| Ok(ModelRow { digest: row.parsed("digest")?, parameters: row.blob("parameters")? }))
        .transpose()
}

impl Store {
    /// One model version, if it is still kept.
    pub async fn model(&self, id: &StudyId, version: u64) -> Result<Option<ModelRow>, StoreError> {
        self.read("model", |tx| Box::pin(model(tx, id, version))).await
    }

    /// The server's state and the version it belongs to.
    pub async fn server_state(&self, id: &StudyId) -> Result<Option<(u64, Vec<u8>)>, StoreError> {
        self.read("server_state", |tx| {
            Box::pin(async move {
                let query = sqlx::query("SELECT version, state FROM server_states WHERE study_id = $1");
                let row = query.bind(id.as_str()).fetch_optional(&mut **tx).await?;
                row.map(|row| Ok((row.uint("version")?, row.blob("state")?))).transpose()
            })
        })
        .await
    }
}
