//! One participant's folder: certificate, key, the authority's certificate, and files for people.

use std::fs;
use std::path::{Path, PathBuf};

use fusiondp_runtime::TlsFiles;
use fusiondp_runtime::files::{create_atomic, create_private_folder};
use fusiondp_runtime::identity::PeerIdentity;

use super::authority::{Authority, CERTIFICATE as AUTHORITY_FILE};
use super::certificate::{Subject, open_or_create_key};
use super::{ConsortiumFile, ProvisionError, ProvisionReport};

/// A certificate is worth a warning when it ends within this many days.
const SOON_DAYS: i64 = 30;

/// What belongs into a participant's folder.
#[derive(Debug)]
pub(super) struct Kit {
    pub(super) folder: PathBuf,
    /// Name of certificate and key files, without extension.
    pub(super) stem: &'static str,
    pub(super) subject: Subject,
    /// File name and content; written once, then the participant's own.
    pub(super) documents: Vec<(&'static str, String)>,
}

impl Kit {
    pub(super) fn certificate(&self) -> PathBuf {
        self.folder.join(format!("{}.pem", self.stem))
    }

    /// Whether an earlier run made this kit, or began to.
    pub(super) fn is_begun(&self) -> bool {
        self.certificate().exists() || self.folder.join(AUTHORITY_FILE).exists()
    }

    fn key(&self) -> PathBuf {
        self.folder.join(format!("{}.key", self.stem))
    }

    /// Adds what is missing and checks what is there.
    pub(super) fn complete(
        &self,
        consortium: &ConsortiumFile,
        authority: &Authority,
        now_ms: u64,
        report: &mut ProvisionReport,
    ) -> Result<(), ProvisionError> {
        create_private_folder(&self.folder)?;
        self.complete_authority(authority, report)?;
        if self.certificate().exists() && !self.key().exists() {
            return Err(ProvisionError::KeyMissing { certificate: self.certificate(), key: self.key() });
        }
        let (key, is_new) = open_or_create_key(&self.key(), &self.subject.name())?;
        note(report, &self.key(), is_new);
        if self.certificate().exists() {
            report.kept();
        } else {
            let pem = authority.sign(consortium, &self.subject, &key, now_ms)?;
            create_atomic(&self.certificate(), pem.as_bytes())?;
            report.created(&self.certificate());
        }
        self.check(now_ms, report)?;
        self.complete_documents(consortium, report)
    }

    fn complete_authority(
        &self,
        authority: &Authority,
        report: &mut ProvisionReport,
    ) -> Result<(), ProvisionError> {
        let path = self.folder.join(AUTHORITY_FILE);
        if !path.exists() {
            create_atomic(&path, authority.pem().as_bytes())?;
            report.created(&path);
            return Ok(());
        }
        report.kept();
        if fs::read(&path).is_ok_and(|bytes| bytes == authority.pem().as_bytes()) {
            return Ok(());
        }
        Err(ProvisionError::OtherAuthority { path, authority: authority.path().to_owned() })
    }

    /// Checks with the same code that the participant's program will use.
    fn check(&self, now_ms: u64, report: &mut ProvisionReport) -> Result<(), ProvisionError> {
        let damaged = |source| ProvisionError::KitDamaged { folder: self.folder.clone(), source };
        let files = TlsFiles {
            ca: self.folder.join(AUTHORITY_FILE),
            certificate: self.certificate(),
            key: self.key(),
        };
        let credentials = files.load().map_err(damaged)?;
        self.check_owner(credentials.identity())?;
        let days_left = credentials.summary().map_err(damaged)?.days_left(now_ms);
        if days_left < 0 {
            report.warning(self.renewal("has expired"));
            return Ok(());
        }
        if days_left < SOON_DAYS {
            report.warning(self.renewal(&format!("ends in {days_left} days")));
        }
        credentials.verify(now_ms).map(|_| ()).map_err(damaged)
    }

    fn renewal(&self, state: &str) -> String {
        let path = self.certificate();
        format!("{} {state}; delete it and run again to have a new one for the same key", path.display())
    }

    fn check_owner(&self, found: &PeerIdentity) -> Result<(), ProvisionError> {
        if found.dns_name() == self.subject.name() {
            return Ok(());
        }
        Err(ProvisionError::KitOfAnother {
            path: self.certificate(),
            found: found.dns_name(),
            expected: self.subject.name(),
        })
    }

    fn complete_documents(
        &self,
        consortium: &ConsortiumFile,
        report: &mut ProvisionReport,
    ) -> Result<(), ProvisionError> {
        for (name, content) in &self.documents {
            let path = self.folder.join(name);
            if path.exists() {
                report.kept();
                warn_if_outdated(&path, consortium, report);
            } else {
                create_atomic(&path, content.as_bytes())?;
                report.created(&path);
            }
        }
        Ok(())
    }
}

fn note(report: &mut ProvisionReport, path: &Path, is_new: bool) {
    if is_new { report.created(path) } else { report.kept() }
}

/// A configuration that its owner may have edited is not ours to replace; a moved coordinator is worth telling.
fn warn_if_outdated(path: &Path, consortium: &ConsortiumFile, report: &mut ProvisionReport) {
    let Some(table) = fs::read_to_string(path).ok().and_then(|text| text.parse::<toml::Table>().ok()) else {
        return;
    };
    let url = consortium.coordinator().url();
    if let Some(configured) = table.get("coordinator").and_then(toml::Value::as_str)
        && configured != url
    {
        report.warning(format!(
            "{} names the coordinator {configured}, the consortium file {url}",
            path.display()
        ));
    }
}
