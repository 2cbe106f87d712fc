//! What the site has stated about the key of its ledger, once for each certificate.

use fusiondp_dp::Digest;
use fusiondp_protocol::key_statement::{CertificateProof, KeyStatement, SignedKeyStatement};
use sqlx::Row;

use super::{Store, StoreError, integer};

impl Store {
    /// Signs a key statement with the ledger's key.
    ///
    /// # Errors
    /// The store was opened to be read.
    pub fn sign_key_statement(
        &self,
        statement: KeyStatement,
        proof: CertificateProof,
    ) -> Result<SignedKeyStatement, StoreError> {
        Ok(statement.signed(&self.signer()?.key, proof))
    }

    /// The statement that was made for a certificate; `None` if there is none.
    ///
    /// # Errors
    /// The database fails or is damaged.
    pub async fn key_statement(&self, certificate: Digest) -> Result<Option<SignedKeyStatement>, StoreError> {
        let mut connection = self.connection().await;
        let text: Option<String> =
            sqlx::query_scalar("SELECT statement FROM key_statement WHERE certificate = $1")
                .bind(certificate.to_string())
                .fetch_optional(&mut *connection)
                .await?;
        text.as_deref().map(parse).transpose()
    }

    /// Keeps a statement for as long as there is a ledger.
    ///
    /// # Errors
    /// The database fails, or holds a statement for this certificate.
    pub async fn keep_key_statement(&self, signed: &SignedKeyStatement) -> Result<(), StoreError> {
        let mut connection = self.connection().await;
        sqlx::query("INSERT INTO key_statement (certificate, statement, made_ms) VALUES ($1, $2, $3)")
            .bind(signed.statement.certificate.to_string())
            .bind(signed.canonical_json())
            .bind(integer(signed.statement.made_ms))
            .execute(&mut *connection)
            .await?;
        Ok(())
    }

    /// Every statement, oldest first; none from a database that knows no statements yet.
    ///
    /// # Errors
    /// The database fails or is damaged.
    pub async fn key_statements(&self) -> Result<Vec<SignedKeyStatement>, StoreError> {
        let mut connection = self.connection().await;
        let table =
            sqlx::query("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'key_statement'");
        if table.fetch_optional(&mut *connection).await?.is_none() {
            return Ok(Vec::new());
        }
        let rows = sqlx::query("SELECT statement FROM key_statement ORDER BY made_ms, certificate")
            .fetch_all(&mut *connection)
            .await?;
        rows.iter().map(|row| parse(&row.try_get::<String, _>("statement")?)).collect()
    }
}

fn parse(text: &str) -> Result<SignedKeyStatement, StoreError> {
    serde_json::from_str(text).map_err(|_| StoreError::damaged("key_statement.statement", "no key statement"))
}
