//! What the agent states about the key of its ledger: once for each certificate, and never outside of its validity.

use std::time::Duration;

use fusiondp_protocol::SignedKeyStatement;
use fusiondp_runtime::files::write_private;
use fusiondp_runtime::identity::Role;
use fusiondp_runtime::tls::{Credentials, TlsFilesError};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};

use super::*;
use crate::transport::{Connecting, InProcess, TransportError};

/// A connection within the process whose site has a certificate all the same.
pub(super) struct Certified {
    pub(super) connector: InProcess,
    pub(super) files: Option<TlsFiles>,
}

impl Connector for Certified {
    fn connect(&self) -> Connecting<'_> {
        self.connector.connect()
    }

    fn credentials(&self) -> Option<Result<Credentials, TlsFilesError>> {
        self.files.as_ref().map(|files| files.load_as(Role::Site))
    }

    fn is_in_process(&self) -> bool {
        true
    }
}

/// An authority and the key of the site, which certificates are made for.
pub(super) struct Pki {
    authority: String,
    issuer: Issuer<'static, KeyPair>,
    key: KeyPair,
}

impl Pki {
    pub(super) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        let authority = params.self_signed(&key).unwrap().pem();
        Self { authority, issuer: Issuer::new(params, key), key: KeyPair::generate().unwrap() }
    }

    /// Gives a bench a new certificate, valid for an hour from this time on, Unix milliseconds.
    pub(super) fn certify(&self, bench: &mut Bench, from_ms: u64) {
        let mut params = CertificateParams::new(vec!["here.site.fusiondp".to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.not_before = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(from_ms / 1_000);
        params.not_after = params.not_before + Duration::from_secs(3_600);
        let file = |name: &str| bench.folder.path().join(name);
        let files = TlsFiles { ca: file("ca.pem"), certificate: file("site.pem"), key: file("site.key") };
        std::fs::write(&files.ca, &self.authority).unwrap();
        let certificate = params.signed_by(&self.key, &self.issuer).unwrap();
        std::fs::write(&files.certificate, certificate.pem()).unwrap();
        write_private(&files.key, self.key.serialize_pem().as_bytes()).unwrap();
        bench.certificate = Some(files);
    }
}

/// Starts an agent, lets it register, and gives what was stated so far; or why it has not registered.
async fn stated(bench: &Bench) -> Result<Vec<SignedKeyStatement>, TransportError> {
    let shutdown = Shutdown::new();
    let agent = bench.agent(&shutdown).await;
    let outcome = agent.connect().await.unwrap().expect("nobody has ended the agent").map(drop);
    shutdown.trigger();
    drop(agent);
    closed(&bench.state()).await;
    outcome.map(|()| bench.fake.kept().statements.iter().flatten().cloned().collect())
}

#[tokio::test]
async fn one_statement_for_each_certificate_is_kept_and_sent_again() {
    let (pki, mut bench) = (Pki::new(), Bench::new(&[]));
    pki.certify(&mut bench, NOW_MS - 60_000);
    stated(&bench).await.unwrap();
    let twice = stated(&bench).await.unwrap();
    assert_eq!(twice.len(), 2);
    assert_eq!(twice[0].canonical_json(), twice[1].canonical_json(), "the same bytes after a restart");
    pki.certify(&mut bench, NOW_MS - 30_000);
    let all = stated(&bench).await.unwrap();
    assert_ne!(all[2].statement.certificate, all[0].statement.certificate);
    let store = Store::open_read_only(&bench.state()).await.unwrap();
    let key = store.ledger_public_key().await.unwrap().unwrap();
    for signed in &all {
        signed.verify_ledger_key().unwrap();
        let statement = &signed.statement;
        assert_eq!((statement.site.as_str(), statement.ledger_key, statement.made_ms), ("here", key, NOW_MS));
    }
    let mut kept: Vec<String> =
        store.key_statements().await.unwrap().iter().map(SignedKeyStatement::canonical_json).collect();
    let mut sent = vec![all[0].canonical_json(), all[2].canonical_json()];
    kept.sort();
    sent.sort();
    assert_eq!(kept, sent);
}

#[tokio::test]
async fn a_certificate_that_is_not_valid_yet_or_any_more_states_nothing() {
    let (pki, mut bench) = (Pki::new(), Bench::new(&[]));
    for from_ms in [NOW_MS + 60_000, NOW_MS - 7_200_000] {
        pki.certify(&mut bench, from_ms);
        let error = stated(&bench).await.unwrap_err();
        assert!(error.to_string().contains("site.pem"), "{error}");
    }
    assert!(bench.fake.kept().statements.is_empty(), "nor does it register without a statement");
    let store = Store::open_read_only(&bench.state()).await.unwrap();
    assert!(store.key_statements().await.unwrap().is_empty());
}
