//! What sites have stated about the keys of their ledgers.

use std::collections::BTreeMap;

use fusiondp_protocol::{Digest, SignedKeyStatement, SiteId, StudyId};
use sqlx::AnyConnection;
use sqlx::any::AnyRow;

use super::row::{RowExt as _, int};
use super::{Store, StoreError};

/// Most keys that a site may state under one certificate. A ledger has one for ever, so each further one is a new ledger.
pub const MAX_KEYS_PER_CERTIFICATE: u64 = 16;

/// What became of a key statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatementReceipt {
    /// Kept, now or before.
    Kept,
    /// Not kept: [`MAX_KEYS_PER_CERTIFICATE`] other keys are stated under the certificate.
    TooManyKeys,
}

impl Store {
    /// Keeps a statement. Another one about the same key and certificate says nothing new and is not kept.
    pub async fn keep_key_statement(
        &self,
        site: &SiteId,
        signed: &SignedKeyStatement,
        now_ms: u64,
    ) -> Result<StatementReceipt, StoreError> {
        self.write("keep_key_statement", |tx| {
            Box::pin(async move {
                if other_keys(tx, site, signed).await? >= MAX_KEYS_PER_CERTIFICATE {
                    return Ok(StatementReceipt::TooManyKeys);
                }
                sqlx::query(
                    "INSERT INTO key_statements (site_id, certificate, ledger_key, statement, made_ms, received_ms) \
                     VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (site_id, certificate, ledger_key) DO NOTHING",
                )
                .bind(site.as_str())
                .bind(signed.statement.certificate.to_string())
                .bind(signed.statement.ledger_key.to_string())
                .bind(signed.canonical_json())
                .bind(int(signed.statement.made_ms))
                .bind(int(now_ms))
                .execute(&mut **tx)
                .await?;
                Ok(StatementReceipt::Kept)
            })
        })
        .await
    }

    /// What a site has stated under one certificate.
    pub async fn statements_under(
        &self,
        site: &SiteId,
        certificate: Digest,
    ) -> Result<Vec<SignedKeyStatement>, StoreError> {
        self.read("statements_under", |tx| {
            Box::pin(async move {
                let query = sqlx::query(
                    "SELECT statement FROM key_statements WHERE site_id = $1 AND certificate = $2 ORDER BY made_ms",
                );
                let query = query.bind(site.as_str()).bind(certificate.to_string());
                query.fetch_all(&mut **tx).await?.iter().map(statement).collect()
            })
        })
        .await
    }

    /// What the sites of a study have stated about the keys that they enrolled with, oldest first.
    pub async fn study_key_statements(
        &self,
        id: &StudyId,
    ) -> Result<BTreeMap<SiteId, Vec<SignedKeyStatement>>, StoreError> {
        self.read("study_key_statements", |tx| {
            Box::pin(async move {
                let query = sqlx::query(
                    "SELECT k.site_id AS site_id, k.statement AS statement FROM key_statements k JOIN study_sites s \
                     ON s.site_id = k.site_id AND s.ledger_key = k.ledger_key WHERE s.study_id = $1 \
                     ORDER BY k.site_id, k.made_ms, k.certificate",
                );
                let mut statements: BTreeMap<SiteId, Vec<SignedKeyStatement>> = BTreeMap::new();
                for row in &query.bind(id.as_str()).fetch_all(&mut **tx).await? {
                    statements.entry(row.parsed("site_id")?).or_default().push(statement(row)?);
                }
                Ok(statements)
            })
        })
        .await
    }
}

/// Keys that the site has stated under the statement's certificate, if its own is not among them.
async fn other_keys(
    tx: &mut AnyConnection,
    site: &SiteId,
    signed: &SignedKeyStatement,
) -> Result<u64, StoreError> {
    let query = sqlx::query("SELECT ledger_key FROM key_statements WHERE site_id = $1 AND certificate = $2");
    let query = query.bind(site.as_str()).bind(signed.statement.certificate.to_string());
    let rows = query.fetch_all(tx).await?;
    let keys: Vec<String> = rows.iter().map(|row| row.text("ledger_key")).collect::<Result<_, _>>()?;
    let known = keys.contains(&signed.statement.ledger_key.to_string());
    Ok(if known { 0 } else { keys.len() as u64 })
}

fn statement(row: &AnyRow) -> Result<SignedKeyStatement, StoreError> {
    serde_json::from_str(&row.text("statement")?).map_err(|source| StoreError::column("statement", source))
}
