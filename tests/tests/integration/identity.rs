//! Who may call what: refused clients get a clear message, and so does the coordinator's log.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fusiondp_dp::{Digest, Epsilon, LedgerKey, UpdateId};
use fusiondp_proto::v1;
use fusiondp_proto::v1::federation_client::FederationClient;
use fusiondp_protocol::messages::UpdateHeader;
use fusiondp_protocol::problem::{Problem, ProblemType};
use fusiondp_protocol::receipt::{Receipt, ReceiptEpsilons, ReceiptFormat};
use fusiondp_protocol::study::StudyDocument;
use fusiondp_runtime::tls::{ClientOptions, connect};
use fusiondp_runtime::{TlsFiles, install_crypto_provider};
use fusiondp_tests::harness::toml_text::TomlText;
use fusiondp_tests::harness::{CommandLine, Federation, FederationOptions, both_streams, small};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use tonic::Status;
use tonic::transport::Channel;

async fn federation(root: &Path, hospitals: u32) -> Federation {
    install_crypto_provider();
    let sites = small::sites(&root.join("cohort"), hospitals, 100).unwrap();
    let mut federation =
        Federation::provision(&root.join("run"), sites, FederationOptions::default()).await.unwrap();
    federation.start_coordinator().await.unwrap();
    federation
}

fn kit(federation: &Federation, site: &str) -> PathBuf {
    federation.site_toml(site).parent().unwrap().to_owned()
}

fn files(kit: &Path, stem: &str) -> TlsFiles {
    TlsFiles {
        ca: kit.join("ca.pem"),
        certificate: kit.join(format!("{stem}.pem")),
        key: kit.join(format!("{stem}.key")),
    }
}

async fn channel(federation: &Federation, files: &TlsFiles) -> Channel {
    let url = format!("https://localhost:{}", federation.port());
    connect(&url, "coordinator", files, &ClientOptions::default()).await.unwrap()
}

/// Waits until the coordinator's log holds `text`.
async fn logged(federation: &Federation, text: &str) {
    for _ in 0..100 {
        if federation.coordinator_log_text().contains(text) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{text:?} is not in the coordinator's log:\n{}", federation.coordinator_log_text());
}

fn problem(status: &Status) -> ProblemType {
    Problem::from_status(status).unwrap_or_else(|| panic!("no problem type in {status:?}")).kind
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_without_a_certificate_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let federation = federation(root.path(), 1).await;
    let authority = CertificateDer::from_pem_file(kit(&federation, "hospital-a").join("ca.pem")).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(authority).unwrap();
    let mut config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let name = ServerName::try_from("coordinator.coordinator.fusiondp").unwrap();
    let port = federation.port();
    let said = tokio::task::spawn_blocking(move || {
        let mut connection = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
        let mut socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut stream = rustls::Stream::new(&mut connection, &mut socket);
        let written = stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        let read = written.and_then(|()| stream.read(&mut [0; 64]).map(drop)).and_then(|()| {
            // The first read may still deliver frames that were on their way; the next one has the alert.
            stream.read(&mut [0; 64]).map(drop)
        });
        read.unwrap_err().to_string()
    });
    let said = said.await.unwrap();
    assert!(said.contains("CertificateRequired"), "{said}");
    logged(&federation, "the client sent no certificate").await;
    federation.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_another_authority_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let here = federation(root.path(), 1).await;
    // Another consortium with a site of the same name; its kit knows this consortium's authority but not its own.
    let other_root = tempfile::tempdir().unwrap();
    let sites = small::sites(&other_root.path().join("cohort"), 1, 100).unwrap();
    let options = FederationOptions { port: None, ..FederationOptions::default() };
    let other = Federation::provision(&other_root.path().join("run"), sites, options).await.unwrap();
    let (foreign, own) = (kit(&other, "hospital-a"), kit(&here, "hospital-a"));
    for file in ["site.pem", "site.key"] {
        fs::copy(foreign.join(file), own.join(file)).unwrap();
    }
    let output = here.check_site("hospital-a", None).output().await.unwrap();
    let said = both_streams(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("another authority"), "{said}");
    logged(&here, "unknown authority").await;
    here.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_is_not_listed_is_refused_by_name() {
    let root = tempfile::tempdir().unwrap();
    let mut federation = federation(root.path(), 2).await;
    // The administrator takes the site off the allow-list; its certificate stays valid.
    let list = federation.coordinator_toml().with_file_name("consortium.toml");
    let kept = fs::read_to_string(&list).unwrap();
    let before = kept.find("[[sites]]\nid = \"hospital-b\"").unwrap();
    fs::write(&list, &kept[..before]).unwrap();
    federation.kill_coordinator().await.unwrap();
    federation.start_coordinator().await.unwrap();
    let output = federation.check_site("hospital-b", None).output().await.unwrap();
    let said = both_streams(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("unknown-site") && said.contains("hospital-b"), "{said}");
    logged(&federation, "hospital-b").await;
    federation.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_cannot_answer_for_another() {
    let root = tempfile::tempdir().unwrap();
    let mut federation = federation(root.path(), 2).await;
    // The study is for hospital-a alone, which is offered to it; hospital-b answers.
    let mut study = small::split_study(3).unwrap();
    study.set("federation", "sites", vec!["hospital-a"]).unwrap();
    study.set("federation", "min_sites", 1).unwrap();
    let path = root.path().join("study.toml");
    fs::write(&path, study.text()).unwrap();
    let id = federation.submit(&path).await.unwrap();
    let stranger = channel(&federation, &files(&kit(&federation, "hospital-b"), "site")).await;
    let mut client = FederationClient::new(stranger);
    let register = v1::RegisterRequest {
        protocol_version: 1,
        agent_version: "test".to_owned(),
        limits: Some(v1::Limits { max_chunk_bytes: 1 << 19, max_model_bytes: 1 << 28 }),
        ..v1::RegisterRequest::default()
    };
    // What counts is the certificate, whatever the message wants.
    assert_eq!(client.register(register).await.unwrap().into_inner().site_id, "hospital-b");
    let enrol = v1::EnrolRequest {
        study_id: id.clone(),
        study_digest: fusiondp_dp::Digest::of(study.text().as_bytes()).as_bytes().to_vec().into(),
        units: 70,
        records: 70,
        ledger_head: vec![0; 32].into(),
        ledger_key: vec![0; 32].into(),
    };
    let refused = client.enrol(enrol).await.unwrap_err();
    assert!(refused.message().contains("hospital-b"), "{refused:?}");
    assert_eq!(problem(&refused), ProblemType::NotEnrolled, "{refused:?}");
    let model = v1::FetchModelRequest { study_id: id.clone(), model_version: 1 };
    assert!(client.fetch_model(model).await.is_err());
    let header = v1::UpdateHeader::from(foreign_update(study.text()));
    let chunks = vec![
        v1::UpdateChunk { part: Some(v1::update_chunk::Part::Header(header)) },
        v1::UpdateChunk { part: Some(v1::update_chunk::Part::Data(vec![0; 4].into())) },
    ];
    let refused = client.submit_update(tokio_stream::iter(chunks)).await.unwrap_err();
    assert_eq!(problem(&refused), ProblemType::StaleTask, "{refused:?}");
    // The rightful site is not disturbed.
    federation.start_site("hospital-a").unwrap();
    federation.wait_finished(&id, Duration::from_secs(60)).await.unwrap();
    federation.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_are_kept_apart() {
    let root = tempfile::tempdir().unwrap();
    let federation = federation(root.path(), 1).await;
    // A site's certificate in the admin's place.
    let admin = federation.admin();
    let stolen = root.path().join("stolen");
    fs::create_dir(&stolen).unwrap();
    let text = fs::read_to_string(admin.join("admin.toml")).unwrap();
    let mut config = TomlText::new(&text);
    config.set("tls", "certificate", "site.pem").unwrap();
    config.set("tls", "key", "site.key").unwrap();
    fs::write(stolen.join("admin.toml"), config.text()).unwrap();
    for file in ["site.pem", "site.key", "ca.pem"] {
        fs::copy(kit(&federation, "hospital-a").join(file), stolen.join(file)).unwrap();
    }
    let line = CommandLine::new("fusiondp-coordinator").args(["study", "list", "--admin"]).arg(&stolen);
    let output = line.output().await.unwrap();
    let said = both_streams(&output);
    assert!(!output.status.success() && said.contains("wrong-role"), "{said}");
    logged(&federation, "wrong-role").await;
    // An admin's certificate in a site's place.
    let mut client = FederationClient::new(channel(&federation, &files(&admin, "admin")).await);
    let refused = client.next_assignment(v1::NextAssignmentRequest { wait_ms: 0 }).await.unwrap_err();
    assert_eq!(problem(&refused), ProblemType::WrongRole);
    federation.stop().await.unwrap();
}

/// A well-formed update of hospital-b for a study that it takes no part in.
fn foreign_update(study: &str) -> UpdateHeader {
    let document = StudyDocument::from_bytes(study.as_bytes()).unwrap();
    let receipt = Receipt {
        format: ReceiptFormat::V1,
        site: "hospital-b".parse().unwrap(),
        study: document.id().clone(),
        study_digest: document.digest(),
        round: 1,
        attempt: 1,
        update_id: UpdateId::from_bytes([7; 16]),
        model_version: 1,
        model_digest: Digest::of(b"model"),
        imputer: document.study().imputer.clone(),
        public_values: 1,
        private_values: 0,
        payload_digest: Digest::of(&[0; 4]),
        charges: Vec::new(),
        study_charges: 0,
        ledger_head: Digest::of(b"head"),
        delta: document.study().privacy.delta,
        epsilon: ReceiptEpsilons {
            replace: Epsilon::ZERO,
            zero_out: Epsilon::ZERO,
            data_replace: Epsilon::ZERO,
            data_zero_out: Epsilon::ZERO,
        },
        epsilon_records: None,
    };
    UpdateHeader {
        update_id: receipt.update_id,
        study_id: receipt.study.clone(),
        round: 1,
        attempt: 1,
        model_version: 1,
        public_values: 1,
        private_values: 0,
        units: 70,
        records: 70,
        payload_digest: receipt.payload_digest,
        public_loss: 0.5,
        receipt: receipt.signed(&LedgerKey::from_seed([7; LedgerKey::SEED_BYTES])),
    }
}
