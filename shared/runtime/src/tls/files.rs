//! The three files that make a member of a consortium: its authority's certificate, its own certificate, its key.

use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::CertifiedKey;
use serde::Deserialize;

use super::reason;
use crate::config::resolve;
use crate::files::{FileError, read_limited};
use crate::identity::{CertificateSummary, IdentityError, PeerIdentity, Role};

/// Larger files are no certificates.
const MAX_PEM_BYTES: u64 = 1 << 20;

/// Section `[tls]` of a service's configuration: PEM files.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// Certificate of the consortium's authority.
    pub ca: PathBuf,
    /// Own certificate.
    pub certificate: PathBuf,
    /// Own private key, PKCS #8.
    pub key: PathBuf,
}

/// Why the files do not serve.
#[derive(Debug, thiserror::Error)]
pub enum TlsFilesError {
    /// A file cannot be read.
    #[error("{0}; check section [tls] of the configuration")]
    File(#[from] FileError),
    /// No certificate in a file.
    #[error("{} holds no certificate in PEM form ({problem}); use the file of the kit", path.display())]
    NoCertificate {
        /// Which file.
        path: PathBuf,
        /// Why.
        problem: String,
    },
    /// No private key in a file.
    #[error("{} holds no private key in PEM form ({problem}); use the file of the kit", path.display())]
    NoKey {
        /// Which file.
        path: PathBuf,
        /// Why; never the content.
        problem: String,
    },
    /// A certificate names nobody.
    #[error("{}: {source}", path.display())]
    Identity {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: IdentityError,
    },
    /// A certificate for another part in the consortium.
    #[error("{} is the certificate of {found}; this program needs one of role {expected}", path.display())]
    WrongRole {
        /// Which file.
        path: PathBuf,
        /// Whom it names.
        found: PeerIdentity,
        /// What is needed.
        expected: Role,
    },
    /// Key and certificate do not belong together.
    #[error("{} is not the key of {}; both must come from the same kit", key.display(), certificate.display())]
    KeyMismatch {
        /// Key file.
        key: PathBuf,
        /// Certificate file.
        certificate: PathBuf,
    },
    /// The TLS library refuses a file.
    #[error("{} cannot be used: {source}", path.display())]
    Unusable {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// Not signed by the authority, outside its validity, or not for this purpose.
    #[error("{} is not accepted by {}: {reason}", certificate.display(), ca.display())]
    NotAccepted {
        /// Certificate file.
        certificate: PathBuf,
        /// Authority's file.
        ca: PathBuf,
        /// Why, with the remedy.
        reason: String,
    },
}

impl TlsFiles {
    /// The same files, relative paths counted from `base`.
    #[must_use]
    pub fn resolved(&self, base: &Path) -> Self {
        Self {
            ca: resolve(base, &self.ca),
            certificate: resolve(base, &self.certificate),
            key: resolve(base, &self.key),
        }
    }

    /// Reads the files and checks that key and certificate belong together.
    ///
    /// # Errors
    /// [`TlsFilesError`], naming the file.
    pub fn load(&self) -> Result<Credentials, TlsFilesError> {
        let chain = read_certificates(&self.certificate)?;
        let identity = PeerIdentity::from_certificate(&chain[0])
            .map_err(|source| TlsFilesError::Identity { path: self.certificate.clone(), source })?;
        let key = read_key(&self.key)?;
        self.check_pair(&chain, &key)?;
        Ok(Credentials { files: self.clone(), roots: Arc::new(read_roots(&self.ca)?), chain, key, identity })
    }

    /// Like [`load`](Self::load), and insists on a role.
    ///
    /// # Errors
    /// Also [`TlsFilesError::WrongRole`].
    pub fn load_as(&self, expected: Role) -> Result<Credentials, TlsFilesError> {
        let credentials = self.load()?;
        if credentials.identity.role() != expected {
            let found = credentials.identity;
            return Err(TlsFilesError::WrongRole { path: self.certificate.clone(), found, expected });
        }
        Ok(credentials)
    }

    fn check_pair(
        &self,
        chain: &[CertificateDer<'static>],
        key: &PrivateKeyDer<'static>,
    ) -> Result<(), TlsFilesError> {
        match CertifiedKey::from_der(chain.to_vec(), key.clone_key(), &provider()) {
            Ok(_) => Ok(()),
            Err(rustls::Error::InconsistentKeys(_)) => Err(TlsFilesError::KeyMismatch {
                key: self.key.clone(),
                certificate: self.certificate.clone(),
            }),
            Err(source) => Err(TlsFilesError::Unusable { path: self.key.clone(), source }),
        }
    }
}

/// Loaded and consistent [`TlsFiles`]. Debug output shows neither key nor certificates.
pub struct Credentials {
    files: TlsFiles,
    roots: Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    identity: PeerIdentity,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("identity", &self.identity).finish_non_exhaustive()
    }
}

impl Credentials {
    /// Whom the own certificate names.
    #[must_use]
    pub fn identity(&self) -> &PeerIdentity {
        &self.identity
    }

    /// Checks at the time `now_ms` (Unix milliseconds) what the other end will check: authority, validity, purpose.
    ///
    /// # Errors
    /// [`TlsFilesError::NotAccepted`] with the reason.
    pub fn verify(&self, now_ms: u64) -> Result<CertificateSummary, TlsFilesError> {
        let now = UnixTime::since_unix_epoch(Duration::from_millis(now_ms));
        let verdict = match self.identity.role() {
            Role::Coordinator => self.verify_as_server(now),
            Role::Site | Role::Admin => self.verify_as_client(now),
        };
        verdict.map_err(|error| TlsFilesError::NotAccepted {
            certificate: self.files.certificate.clone(),
            ca: self.files.ca.clone(),
            reason: reason::own_certificate(&error),
        })?;
        self.summary()
    }

    /// What the own certificate says, whether it is valid or not.
    ///
    /// # Errors
    /// [`TlsFilesError::Identity`].
    pub fn summary(&self) -> Result<CertificateSummary, TlsFilesError> {
        CertificateSummary::from_certificate(&self.chain[0])
            .map_err(|source| TlsFilesError::Identity { path: self.files.certificate.clone(), source })
    }

    fn verify_as_server(&self, now: UnixTime) -> Result<(), rustls::Error> {
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::clone(&self.roots), provider())
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        let name = server_name(self.identity.id())?;
        verifier.verify_server_cert(&self.chain[0], &self.chain[1..], &name, &[], now).map(|_| ())
    }

    fn verify_as_client(&self, now: UnixTime) -> Result<(), rustls::Error> {
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(&self.roots), provider())
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        verifier.verify_client_cert(&self.chain[0], &self.chain[1..], now).map(|_| ())
    }

    pub(super) fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    pub(super) fn key(&self) -> &PrivateKeyDer<'static> {
        &self.key
    }

    pub(super) fn roots(&self) -> Arc<RootCertStore> {
        Arc::clone(&self.roots)
    }

    pub(super) fn files(&self) -> &TlsFiles {
        &self.files
    }

    pub(super) fn into_chain_and_key(self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        (self.chain, self.key)
    }
}

/// The one cryptography provider of this crate, given explicitly so that no global decides.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// The name that a coordinator of this id proves, as rustls wants it.
pub(super) fn server_name(id: &str) -> Result<ServerName<'static>, rustls::Error> {
    ServerName::try_from(crate::identity::dns_name(id, Role::Coordinator))
        .map_err(|_| rustls::Error::General(format!("`{id}` cannot be part of a DNS name")))
}

pub(super) fn read_roots(path: &Path) -> Result<RootCertStore, TlsFilesError> {
    let mut roots = RootCertStore::empty();
    for certificate in read_certificates(path)? {
        let added = roots.add(certificate);
        added.map_err(|source| TlsFilesError::Unusable { path: path.to_owned(), source })?;
    }
    Ok(roots)
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsFilesError> {
    let missing = |problem: String| TlsFilesError::NoCertificate { path: path.to_owned(), problem };
    let bytes = read_limited(path, MAX_PEM_BYTES)?;
    let certificates = CertificateDer::pem_slice_iter(&bytes)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| missing(pem_problem(&error)))?;
    if certificates.is_empty() {
        return Err(missing("no BEGIN CERTIFICATE line".to_owned()));
    }
    Ok(certificates)
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsFilesError> {
    let bytes = read_limited(path, MAX_PEM_BYTES)?;
    warn_if_readable_by_others(path);
    PrivateKeyDer::from_pem_slice(&bytes)
        .map_err(|error| TlsFilesError::NoKey { path: path.to_owned(), problem: pem_problem(&error) })
}

/// The library's own texts quote parts of the file.
fn pem_problem(error: &pem::Error) -> String {
    match error {
        pem::Error::NoItemsFound => "no such section".to_owned(),
        pem::Error::MissingSectionEnd { .. } => "a section has no end line".to_owned(),
        pem::Error::Base64Decode(_) => "a section is not base64".to_owned(),
        _ => "malformed".to_owned(),
    }
}

fn warn_if_readable_by_others(path: &Path) {
    // A file that cannot be examined could not be read either; that error is reported by the reader.
    if let Ok(metadata) = std::fs::metadata(path)
        && metadata.permissions().mode() & 0o077 != 0
    {
        tracing::warn!(key = %path.display(), "private key is accessible to other users; chmod 600 it");
    }
}
