//! Admits members of the consortium: a certificate of the authority, with a client's purpose and a member's name.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore,
    SignatureScheme,
};

use super::files::provider;
use crate::identity::{IdentityError, PeerIdentity, Role};

/// A certificate of the authority that does not make its holder a client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotAMember {
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error("the certificate names a {0}, which must not connect as a client")]
    Role(Role),
}

/// The standard verifier, followed by the check of the name, so that a refusal is part of the handshake.
#[derive(Debug)]
pub(super) struct MemberVerifier {
    inner: Arc<dyn ClientCertVerifier>,
}

impl MemberVerifier {
    pub(super) fn new(roots: Arc<RootCertStore>) -> Result<Self, Error> {
        let inner = WebPkiClientVerifier::builder_with_provider(roots, provider())
            .build()
            .map_err(|error| Error::General(error.to_string()))?;
        Ok(Self { inner })
    }
}

/// The member that a verified certificate names.
pub(super) fn member(certificate: &[u8]) -> Result<PeerIdentity, NotAMember> {
    let identity = PeerIdentity::from_certificate(certificate)?;
    match identity.role() {
        Role::Site | Role::Admin => Ok(identity),
        Role::Coordinator => Err(NotAMember::Role(Role::Coordinator)),
    }
}

impl ClientCertVerifier for MemberVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn client_auth_mandatory(&self) -> bool {
        true
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.inner.verify_client_cert(end_entity, intermediates, now)?;
        match member(end_entity) {
            Ok(_) => Ok(verified),
            Err(problem) => Err(CertificateError::Other(OtherError(Arc::new(problem))).into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
