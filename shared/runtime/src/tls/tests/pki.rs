//! A small authority, and kits that it or another one signs.

use std::path::Path;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use crate::clock::{Clock, SystemClock};
use crate::tls::TlsFiles;

const DAY_MS: i64 = 86_400_000;

pub(super) struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// What to put into a certificate; `client` and `server` make the ordinary ones.
pub(super) struct Leaf<'a> {
    pub(super) names: &'a [&'a str],
    pub(super) purpose: ExtendedKeyUsagePurpose,
    /// Days from now.
    pub(super) valid: (i64, i64),
}

pub(super) fn client<'a>(names: &'a [&'a str]) -> Leaf<'a> {
    Leaf { names, purpose: ExtendedKeyUsagePurpose::ClientAuth, valid: (-1, 1) }
}

pub(super) fn server<'a>(names: &'a [&'a str]) -> Leaf<'a> {
    Leaf { names, purpose: ExtendedKeyUsagePurpose::ServerAuth, valid: (-1, 1) }
}

impl Authority {
    pub(super) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// Writes a kit into a folder: the authority trusted there, a certificate, its key.
    pub(super) fn kit(&self, folder: &Path, name: &str, leaf: &Leaf<'_>) -> TlsFiles {
        let names: Vec<String> = leaf.names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.extended_key_usages = vec![leaf.purpose.clone()];
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        params.not_before = epoch + days_from_now(leaf.valid.0);
        params.not_after = epoch + days_from_now(leaf.valid.1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        let files = TlsFiles {
            ca: folder.join(format!("{name}-ca.pem")),
            certificate: folder.join(format!("{name}.pem")),
            key: folder.join(format!("{name}.key")),
        };
        std::fs::write(&files.ca, &self.pem).unwrap();
        std::fs::write(&files.certificate, certificate).unwrap();
        crate::files::write_private(&files.key, key.serialize_pem().as_bytes()).unwrap();
        files
    }

    /// Makes a kit trust this authority instead of the one that signed it.
    pub(super) fn trusted_by(&self, files: &TlsFiles) {
        std::fs::write(&files.ca, &self.pem).unwrap();
    }
}

/// As time since 1970.
fn days_from_now(days: i64) -> Duration {
    Duration::from_millis(SystemClock.now_ms().checked_add_signed(days * DAY_MS).unwrap())
}
