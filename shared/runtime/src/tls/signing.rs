//! Signatures with the key of a certificate outside of any handshake, and the authority that tells whose they are.
//!
//! What a member signs must begin with a domain of its own that no other protocol uses. A TLS 1.3 handshake signs 64 spaces
//! and a text of the protocol, so a message that begins otherwise can stand for no handshake, nor the other way round.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, SignatureScheme};
use webpki::EndEntityCert;

use super::files::{provider, read_roots};
use super::{Credentials, TlsFilesError, reason};
use crate::identity::{CertificateSummary, IdentityError, PeerIdentity};

/// Schemes in the order of preference, by their names in RFC 8446. One per kind of key would do; RSA keys have three.
const SCHEMES: [(SignatureScheme, &str); 6] = [
    (SignatureScheme::ED25519, "ed25519"),
    (SignatureScheme::ECDSA_NISTP256_SHA256, "ecdsa_secp256r1_sha256"),
    (SignatureScheme::ECDSA_NISTP384_SHA384, "ecdsa_secp384r1_sha384"),
    (SignatureScheme::RSA_PSS_SHA256, "rsa_pss_rsae_sha256"),
    (SignatureScheme::RSA_PSS_SHA384, "rsa_pss_rsae_sha384"),
    (SignatureScheme::RSA_PSS_SHA512, "rsa_pss_rsae_sha512"),
];

/// A signature with the key of a certificate, and the certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateSignature {
    /// Certificates in DER form: the signer's, then those between it and the authority.
    pub chain: Vec<Vec<u8>>,
    /// Name of the signature scheme in RFC 8446, section 4.2.3.
    pub scheme: String,
    /// The signature, in the scheme's encoding.
    pub signature: Vec<u8>,
}

/// Who has signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signer {
    /// Whom the certificate names.
    pub identity: PeerIdentity,
    /// When the certificate and those between it and the authority were all valid, Unix milliseconds. A certificate states whole
    /// seconds and is valid throughout the last one.
    pub valid_ms: RangeInclusive<u64>,
}

/// Why a signature does not stand.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureProblem {
    /// No certificate.
    #[error("there is no certificate with the signature")]
    NoCertificate,
    /// A certificate that names nobody.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Not of the authority, outside its validity, or for another purpose.
    #[error("its {reason}")]
    NotAccepted {
        /// In plain words.
        reason: String,
    },
    /// A scheme that is unknown here.
    #[error("the signature scheme is unknown; known are {}", SCHEMES.map(|(_, name)| name).join(", "))]
    UnknownScheme,
    /// Something else was signed, or with another key.
    #[error("the signature is not of the certificate's key under these bytes")]
    Signature,
}

impl Credentials {
    /// Signs with the certificate's key. See the [module](self) on what may be signed.
    ///
    /// # Errors
    /// [`TlsFilesError::Unusable`] naming the key's file, when the key knows no scheme that is known here.
    pub fn sign(&self, message: &[u8]) -> Result<CertificateSignature, TlsFilesError> {
        let unusable = |source| TlsFilesError::Unusable { path: self.files().key.clone(), source };
        let certified = CertifiedKey::from_der(self.chain().to_vec(), self.key().clone_key(), &provider())
            .map_err(unusable)?;
        let no_scheme = || rustls::Error::General("the key has no signature scheme in use here".to_owned());
        let signer = certified
            .key
            .choose_scheme(&SCHEMES.map(|(scheme, _)| scheme))
            .ok_or_else(|| unusable(no_scheme()))?;
        let name = SCHEMES.iter().find(|(scheme, _)| *scheme == signer.scheme()).map(|(_, name)| *name);
        Ok(CertificateSignature {
            chain: self.chain().iter().map(|certificate| certificate.to_vec()).collect(),
            scheme: name.ok_or_else(|| unusable(no_scheme()))?.to_owned(),
            signature: signer.sign(message).map_err(unusable)?,
        })
    }
}

/// The authority of a consortium, to check what its members have signed.
#[derive(Clone)]
pub struct Authority {
    roots: Arc<RootCertStore>,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("certificates", &self.roots.len()).finish()
    }
}

impl Authority {
    /// Reads the authority's certificate, PEM; several are taken as several authorities.
    ///
    /// # Errors
    /// [`TlsFilesError`] naming the file.
    pub fn read(path: &Path) -> Result<Self, TlsFilesError> {
        Ok(Self { roots: Arc::new(read_roots(path)?) })
    }

    /// Checks that a client of this authority, whose certificate was valid at `at_ms` (Unix milliseconds), signed `message`.
    ///
    /// # Errors
    /// [`SignatureProblem`].
    pub fn verify(
        &self,
        signed: &CertificateSignature,
        message: &[u8],
        at_ms: u64,
    ) -> Result<Signer, SignatureProblem> {
        let chain: Vec<CertificateDer<'_>> =
            signed.chain.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
        let [own, between @ ..] = chain.as_slice() else { return Err(SignatureProblem::NoCertificate) };
        let identity = PeerIdentity::from_certificate(own)?;
        self.verify_chain(own, between, at_ms)?;
        verify_signature(own, &signed.scheme, message, &signed.signature)?;
        Ok(Signer { identity, valid_ms: validity(own, between)? })
    }

    fn verify_chain(
        &self,
        own: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        at_ms: u64,
    ) -> Result<(), SignatureProblem> {
        let refused = |error: rustls::Error| SignatureProblem::NotAccepted {
            reason: match &error {
                rustls::Error::InvalidCertificate(problem) => reason::certificate_problem(problem),
                other => format!("certificate cannot be checked: {other}"),
            },
        };
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(&self.roots), provider())
            .build()
            .map_err(|error| refused(rustls::Error::General(error.to_string())))?;
        let at = UnixTime::since_unix_epoch(Duration::from_millis(at_ms));
        verifier.verify_client_cert(own, between, at).map(|_| ()).map_err(refused)
    }
}

fn verify_signature(
    own: &CertificateDer<'_>,
    scheme: &str,
    message: &[u8],
    signature: &[u8],
) -> Result<(), SignatureProblem> {
    let wanted = SCHEMES.iter().find(|(_, name)| *name == scheme).map(|(scheme, _)| *scheme);
    let known = provider().signature_verification_algorithms.mapping;
    let algorithm = known.iter().find(|(scheme, _)| Some(*scheme) == wanted);
    // The first one is the scheme's of TLS 1.3; others stand there for older versions.
    let algorithm = algorithm.and_then(|(_, all)| all.first()).ok_or(SignatureProblem::UnknownScheme)?;
    let certificate = EndEntityCert::try_from(own).map_err(|_| IdentityError::Unreadable)?;
    certificate.verify_signature(*algorithm, message, signature).map_err(|_| SignatureProblem::Signature)
}

/// What all certificates of a chain have in common; empty where they were never valid together. The authority's own end is
/// not in it, as in a handshake.
fn validity(
    own: &CertificateDer<'_>,
    between: &[CertificateDer<'_>],
) -> Result<RangeInclusive<u64>, IdentityError> {
    let (mut begin, mut end) = (0, u64::MAX);
    for certificate in std::iter::once(own).chain(between) {
        let validity = CertificateSummary::validity_ms(certificate)?;
        begin = begin.max(*validity.start());
        end = end.min(validity.end().saturating_add(999));
    }
    Ok(begin..=end)
}
