//! Whose the ledger's key is: a statement under the certificate that the site connects with.

use fusiondp_dp::Digest;
use fusiondp_protocol::key_statement::{
    CertificateProof, HexBytes, KeyStatement, KeyStatementFormat, SignedKeyStatement,
};
use fusiondp_protocol::{IdError, SiteId};
use fusiondp_runtime::tls::{CertificateSignature, Credentials, TlsFilesError};

use super::{AgentError, SiteAgent};
use crate::store::StoreError;
use crate::store::ledger::SiteLedgerError;
use crate::transport::TransportError;

/// Why there is no statement.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeyStatementError {
    /// The certificate or its key does not serve; the connection would fail for the same reason.
    #[error(transparent)]
    Files(#[from] TlsFilesError),
    /// The certificate names what is no site id.
    #[error("the certificate names {name}: {source}; use the certificate of this site's kit")]
    Site {
        /// What it names.
        name: String,
        /// Why that is no id.
        source: IdError,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl KeyStatementError {
    /// Why there is no connection; a store that fails ends the agent.
    pub(super) fn lost(self) -> Result<TransportError, AgentError> {
        match self {
            Self::Store(error) => Err(SiteLedgerError::from(error).into()),
            Self::Files(error) => Ok(TransportError::Connect(error.into())),
            Self::Site { .. } => Ok(TransportError::KeyStatement { reason: self.to_string() }),
        }
    }
}

impl SiteAgent {
    /// The statement to register with: the kept one for the certificate in use, or a new one that is kept before anybody sees
    /// it. `None` where connections carry no certificate.
    pub(super) async fn key_statement(&self) -> Result<Option<SignedKeyStatement>, KeyStatementError> {
        match self.connector.credentials() {
            Some(credentials) => Ok(Some(self.statement_under(&credentials?).await?)),
            None => Ok(None),
        }
    }

    async fn statement_under(
        &self,
        credentials: &Credentials,
    ) -> Result<SignedKeyStatement, KeyStatementError> {
        let identity = credentials.identity();
        let certificate = Digest::from_bytes(*identity.fingerprint());
        if let Some(kept) = self.store.key_statement(certificate).await? {
            return Ok(kept);
        }
        let made_ms = self.clock.now_ms();
        // A statement from outside the certificate's validity would convince nobody, and it would be kept.
        credentials.verify(made_ms)?;
        let site: SiteId = identity
            .id()
            .parse()
            .map_err(|source| KeyStatementError::Site { name: identity.dns_name(), source })?;
        let ledger_key = self.store.signing_key()?;
        let statement =
            KeyStatement { format: KeyStatementFormat::V1, site, ledger_key, certificate, made_ms };
        let proof = proof(credentials.sign(&statement.message())?);
        let signed = self.store.sign_key_statement(statement, proof)?;
        self.store.keep_key_statement(&signed).await?;
        tracing::info!(%ledger_key, %certificate, "the ledger's key is stated under this site's certificate");
        Ok(signed)
    }
}

fn proof(signed: CertificateSignature) -> CertificateProof {
    CertificateProof {
        scheme: signed.scheme,
        signature: HexBytes(signed.signature),
        chain: signed.chain.into_iter().map(HexBytes).collect(),
    }
}
