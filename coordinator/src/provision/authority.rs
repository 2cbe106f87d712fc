//! The consortium's certificate authority, made once and never replaced.

use std::path::{Path, PathBuf};

use fusiondp_runtime::files::{create_atomic, create_private_folder, read_limited};
use rcgen::{Issuer, KeyPair, PublicKeyData};
use x509_parser::certificate::X509Certificate;
use x509_parser::pem::parse_x509_pem;

use super::certificate::{Subject, Validity, authority_params, open_or_create_key};
use super::{ConsortiumFile, ProvisionError, ProvisionReport};

/// File of the authority's certificate.
pub(super) const CERTIFICATE: &str = "ca.pem";
/// File of the authority's key.
const KEY: &str = "ca.key";

const MAX_PEM_BYTES: u64 = 64 * 1024;
/// The authority is worth a warning when it ends sooner.
const SOON_MS: u64 = 60 * 86_400_000;

/// An authority whose certificate is there. Its key may be kept elsewhere until it is needed.
pub(super) struct Authority {
    path: PathBuf,
    key_path: PathBuf,
    pem: String,
    not_after_ms: u64,
}

impl Authority {
    /// The authority of a folder, or a new one.
    ///
    /// A key without a certificate is what an interrupted run leaves: it gets its certificate now.
    pub(super) fn open_or_create(
        consortium: &ConsortiumFile,
        folder: &Path,
        now_ms: u64,
        report: &mut ProvisionReport,
    ) -> Result<Self, ProvisionError> {
        create_private_folder(folder)?;
        let (path, key_path) = (folder.join(CERTIFICATE), folder.join(KEY));
        if path.exists() {
            report.kept();
            if key_path.exists() {
                report.kept();
            }
        } else {
            create(consortium, &path, &key_path, now_ms, report)?;
        }
        let authority = Self::read(path, key_path)?;
        authority.check_validity(now_ms, report)?;
        Ok(authority)
    }

    /// The certificate in PEM form.
    pub(super) fn pem(&self) -> &str {
        &self.pem
    }

    /// The certificate's file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Signs a certificate over `key`, valid as long as the consortium wants and the authority lives; as PEM.
    pub(super) fn sign(
        &self,
        consortium: &ConsortiumFile,
        subject: &Subject,
        key: &KeyPair,
        now_ms: u64,
    ) -> Result<String, ProvisionError> {
        let validity = Validity::new(now_ms, consortium.validity_days(), self.not_after_ms)
            .ok_or_else(|| ProvisionError::Validity { subject: subject.name() })?;
        let issuer = self.issuer(&subject.name())?;
        subject
            .params(consortium.name(), validity)?
            .signed_by(key, &issuer)
            .map(|certificate| certificate.pem())
            .map_err(|source| ProvisionError::Signing { subject: subject.name(), source })
    }

    fn read(path: PathBuf, key_path: PathBuf) -> Result<Self, ProvisionError> {
        let bytes = read_limited(&path, MAX_PEM_BYTES)?;
        let unusable = |problem: &str| ProvisionError::AuthorityUnusable {
            path: path.clone(),
            problem: problem.to_owned(),
        };
        let pem =
            String::from_utf8(bytes).map_err(|_| unusable("is not a PEM file; put the right one back"))?;
        let not_after_ms = with_certificate(&pem, |certificate| {
            certificate
                .is_ca()
                .then(|| u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or(0) * 1_000)
        })
        .flatten()
        .ok_or_else(|| unusable("is not the certificate of an authority; put the right one back"))?;
        Ok(Self { path, key_path, pem, not_after_ms })
    }

    fn check_validity(&self, now_ms: u64, report: &mut ProvisionReport) -> Result<(), ProvisionError> {
        if self.not_after_ms <= now_ms {
            return Err(ProvisionError::AuthorityUnusable {
                path: self.path.clone(),
                problem: "has expired; a new consortium folder with new kits for everybody is needed"
                    .to_owned(),
            });
        }
        let left_ms = self.not_after_ms - now_ms;
        if left_ms < SOON_MS {
            let days = left_ms / 86_400_000;
            report
                .warning(format!("the authority itself ends in {days} days, and every certificate with it"));
        }
        Ok(())
    }

    fn issuer(&self, subject: &str) -> Result<Issuer<'static, KeyPair>, ProvisionError> {
        if !self.key_path.exists() {
            let key = self.key_path.clone();
            return Err(ProvisionError::AuthorityKeyMissing { key, subject: subject.to_owned() });
        }
        let (key, _) = open_or_create_key(&self.key_path, subject)?;
        let public = key.subject_public_key_info();
        if with_certificate(&self.pem, |certificate| certificate.public_key().raw == public) != Some(true) {
            return Err(ProvisionError::AuthorityUnusable {
                path: self.key_path.clone(),
                problem: format!("is not the key of {}; put the right one back", self.path.display()),
            });
        }
        Issuer::from_ca_cert_pem(&self.pem, key)
            .map_err(|source| ProvisionError::Signing { subject: subject.to_owned(), source })
    }
}

fn create(
    consortium: &ConsortiumFile,
    path: &Path,
    key_path: &Path,
    now_ms: u64,
    report: &mut ProvisionReport,
) -> Result<(), ProvisionError> {
    let subject = format!("the authority of {}", consortium.name());
    let (key, is_new) = open_or_create_key(key_path, &subject)?;
    if is_new {
        report.created(key_path)
    } else {
        report.kept()
    }
    let validity = Validity::new(now_ms, consortium.authority_validity_days(), u64::MAX)
        .ok_or_else(|| ProvisionError::Validity { subject: subject.clone() })?;
    let common_name = format!("{} CA {}", consortium.name(), distinction(&key));
    let certificate = authority_params(&common_name, consortium.name(), validity)
        .self_signed(&key)
        .map_err(|source| ProvisionError::Signing { subject, source })?;
    create_atomic(path, certificate.pem().as_bytes())?;
    report.created(path);
    Ok(())
}

/// Tells apart authorities that were made from the same consortium file.
fn distinction(key: &KeyPair) -> String {
    use sha2::{Digest, Sha256};
    hex::encode(&Sha256::digest(key.subject_public_key_info())[..4])
}

fn with_certificate<R>(pem: &str, read: impl FnOnce(&X509Certificate<'_>) -> R) -> Option<R> {
    let (_, block) = parse_x509_pem(pem.as_bytes()).ok()?;
    let certificate = block.parse_x509().ok()?;
    Some(read(&certificate))
}
