//! Whose a site's ledger key is: stated under its certificate when it registers, held to when it enrolls, and handed on with its
//! receipts.

use fusiondp_coordinator::provision::{ConsortiumFile, provision};
use fusiondp_dp::{Digest, LedgerKey};
use fusiondp_proto::v1;
use fusiondp_proto::v1::federation_client::FederationClient;
use fusiondp_protocol::key_statement::{CertificateProof, HexBytes, KeyStatement, KeyStatementFormat};
use fusiondp_protocol::receipt::ReceiptsFile;
use fusiondp_protocol::{Enrolment, Problem, ProblemType, SignedKeyStatement, StudyDocument, StudyState};
use fusiondp_runtime::tls::Authority;
use fusiondp_runtime::{Clock as _, PeerIdentity, SystemClock, TlsFiles};
use tonic::Status;

use crate::fake::{ledger_key, register, register_with};
use crate::setup::{Federation, document};

/// A provisioned consortium of sites a and b.
struct Kits(tempfile::TempDir);

impl Kits {
    fn new() -> Self {
        let kits = Self(tempfile::tempdir().unwrap());
        kits.provision();
        kits
    }

    fn provision(&self) {
        let path = self.0.path().join("consortium.toml");
        let text = "name = \"tests\"\n[coordinator]\nid = \"main\"\nurl = \"https://localhost:1\"\n\
                    [[sites]]\nid = \"a\"\ntitle = \"A\"\ncontact = \"a\"\n[[sites]]\nid = \"b\"\ntitle = \"B\"\ncontact = \"b\"\n";
        std::fs::write(&path, text).unwrap();
        let out = self.0.path().join("kits");
        provision(&ConsortiumFile::load(&path).unwrap(), &out, SystemClock.now_ms()).unwrap();
    }

    fn files(&self, id: &str) -> TlsFiles {
        let folder = self.0.path().join("kits/sites").join(id);
        TlsFiles {
            ca: folder.join("ca.pem"),
            certificate: folder.join("site.pem"),
            key: folder.join("site.key"),
        }
    }

    fn identity(&self, id: &str) -> PeerIdentity {
        self.files(id).load().unwrap().identity().clone()
    }

    /// What a site says about a key that it holds.
    fn statement(&self, id: &str, key: &LedgerKey) -> SignedKeyStatement {
        let credentials = self.files(id).load().unwrap();
        let statement = KeyStatement {
            format: KeyStatementFormat::V1,
            site: id.parse().unwrap(),
            ledger_key: key.public(),
            certificate: Digest::from_bytes(*credentials.identity().fingerprint()),
            made_ms: SystemClock.now_ms(),
        };
        let proof = credentials.sign(&statement.message()).unwrap();
        let chain = proof.chain.into_iter().map(HexBytes).collect();
        let proof = CertificateProof { scheme: proof.scheme, signature: HexBytes(proof.signature), chain };
        statement.signed(key, proof)
    }

    async fn federation(&self, state: &std::path::Path) -> Federation {
        let authority = Authority::read(&self.files("a").ca).unwrap();
        Federation::start_under(state, &["a", "b"], Some(authority)).await
    }
}

fn refused(status: Status) -> String {
    let problem = Problem::from_status(&status).unwrap_or_else(|| panic!("{status:?}"));
    assert_eq!(problem.kind, ProblemType::KeyStatementInvalid, "{problem}");
    problem.detail
}

fn enrolment(document: &StudyDocument, key: &LedgerKey) -> v1::EnrolRequest {
    v1::EnrolRequest::from(Enrolment {
        study_id: document.id().clone(),
        study_digest: document.digest(),
        units: 100,
        records: 200,
        ledger_head: Digest::of(b"head"),
        ledger_key: key.public(),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_that_do_not_hold_are_refused_with_the_reason() {
    let (kits, foreign, state) = (Kits::new(), Kits::new(), tempfile::tempdir().unwrap());
    let federation = kits.federation(state.path()).await;
    let mut client = FederationClient::new(federation.connector.channel(kits.identity("a")));
    let key = ledger_key();
    let honest = kits.statement("a", &key);
    let mut altered = honest.clone();
    altered.statement.made_ms += 1;
    let other_site = SignedKeyStatement {
        statement: KeyStatement { site: "a".parse().unwrap(), ..kits.statement("b", &key).statement },
        ..kits.statement("b", &key)
    };
    let cases = [
        ("is of site b", kits.statement("b", &key)),
        ("not of the certificate's key", other_site),
        ("not of the certificate's key", altered),
        ("unknown authority", foreign.statement("a", &key)),
    ];
    for (named, statement) in cases {
        let detail = refused(register_with(&mut client, Some(statement)).await.unwrap_err());
        assert!(detail.contains(named) && detail.contains("restart the agent"), "{named}: {detail}");
    }
    // Registered again and again with the same bytes.
    for _ in 0..2 {
        register_with(&mut client, Some(honest.clone())).await.unwrap();
    }
    // The file was replaced while the connection stands.
    std::fs::remove_file(kits.files("a").certificate).unwrap();
    kits.provision();
    let renewed = kits.statement("a", &key);
    let detail = refused(register_with(&mut client, Some(renewed.clone())).await.unwrap_err());
    assert!(detail.contains("this connection's is"), "{detail}");
    let mut client = FederationClient::new(federation.connector.channel(kits.identity("a")));
    register_with(&mut client, Some(renewed)).await.unwrap();
    federation.stop().await;
}

/// Each key is a row for ever, and a member can make as many as it likes.
#[tokio::test(flavor = "multi_thread")]
async fn keys_under_one_certificate_are_limited() {
    let (kits, state) = (Kits::new(), tempfile::tempdir().unwrap());
    let federation = kits.federation(state.path()).await;
    let mut client = FederationClient::new(federation.connector.channel(kits.identity("a")));
    let statement = |seed| kits.statement("a", &LedgerKey::from_seed([seed; LedgerKey::SEED_BYTES]));
    for seed in 1..=16 {
        register_with(&mut client, Some(statement(seed))).await.unwrap();
    }
    let detail = refused(register_with(&mut client, Some(statement(17))).await.unwrap_err());
    assert!(detail.contains("16 other ledger keys") && detail.contains("state_dir"), "{detail}");
    let certificate = statement(17).statement.certificate;
    let kept = federation.store.statements_under(&"a".parse().unwrap(), certificate).await.unwrap();
    assert_eq!(kept.len(), 16);
    // Those that are known go on, and so do other sites and a renewed certificate.
    register_with(&mut client, Some(statement(16))).await.unwrap();
    let mut other = FederationClient::new(federation.connector.channel(kits.identity("b")));
    register_with(&mut other, Some(kits.statement("b", &ledger_key()))).await.unwrap();
    std::fs::remove_file(kits.files("a").certificate).unwrap();
    kits.provision();
    let mut client = FederationClient::new(federation.connector.channel(kits.identity("a")));
    register_with(&mut client, Some(kits.statement("a", &ledger_key()))).await.unwrap();
    federation.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_without_an_authority_takes_no_statement() {
    let (kits, state) = (Kits::new(), tempfile::tempdir().unwrap());
    let federation = Federation::start(state.path(), &["a"]).await;
    let mut client = FederationClient::new(federation.connector.channel(kits.identity("a")));
    let statement = kits.statement("a", &ledger_key());
    let detail = refused(register_with(&mut client, Some(statement)).await.unwrap_err());
    assert!(detail.contains("no certificates"), "{detail}");
    federation.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_enrolls_with_the_key_that_it_has_stated_and_no_other() {
    let (kits, state) = (Kits::new(), tempfile::tempdir().unwrap());
    let mut federation = kits.federation(state.path()).await;
    let document = document(&[("enrolment_timeout_s = 2", "enrolment_timeout_s = 60")]);
    let id = federation.submit(&document).await;
    let mut client = FederationClient::new(federation.connector.channel(kits.identity("a")));
    let stranger = LedgerKey::from_seed([66; LedgerKey::SEED_BYTES]);
    register_with(&mut client, Some(kits.statement("a", &ledger_key()))).await.unwrap();
    let detail = refused(client.enrol(enrolment(&document, &stranger)).await.unwrap_err());
    assert!(detail.contains(&ledger_key().public().to_string()), "{detail}");
    assert!(
        federation.store.study_site(&id, &"a".parse().unwrap()).await.unwrap().unwrap().ledger_key.is_none()
    );
    client.enrol(enrolment(&document, &ledger_key())).await.unwrap();
    // A new ledger under the same certificate is another key, which the site has to state first.
    register_with(&mut client, Some(kits.statement("a", &stranger))).await.unwrap();
    client.enrol(enrolment(&document, &stranger)).await.unwrap();
    let row = federation.store.study_site(&id, &"a".parse().unwrap()).await.unwrap().unwrap();
    assert_eq!(row.ledger_key, Some(ledger_key().public()), "it had enrolled before");
    federation.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn receipts_carry_the_statements_and_an_agent_that_makes_none_is_warned_of() {
    let (kits, state) = (Kits::new(), tempfile::tempdir().unwrap());
    let mut federation = kits.federation(state.path()).await;
    let mut client = FederationClient::new(federation.connector.channel(kits.identity("a")));
    let statement = kits.statement("a", &ledger_key());
    register_with(&mut client, Some(statement.clone())).await.unwrap();
    // Of another ledger: no concern of this study.
    let other = LedgerKey::from_seed([66; LedgerKey::SEED_BYTES]);
    register_with(&mut client, Some(kits.statement("a", &other))).await.unwrap();
    register(&mut client).await.unwrap();
    federation.join_as(kits.identity("a"));
    federation.join_as(kits.identity("b"));
    let id = federation.submit(&document(&[])).await;
    let status = federation.wait_end(&id).await;
    assert_eq!(status.state, StudyState::Finished, "{}", status.detail);
    let files = federation.export(&id).await;
    let header = |name: &str| ReceiptsFile::parse(std::str::from_utf8(&files[name]).unwrap()).unwrap().header;
    assert_eq!(header("receipts-a.jsonl").key_statements, [statement]);
    assert_eq!(header("receipts-b.jsonl").key_statements, []);
    let report: serde_json::Value = serde_json::from_slice(&files["report.json"]).unwrap();
    let warnings: Vec<_> = report["warnings"].as_array().unwrap().iter().map(|one| one.to_string()).collect();
    let unstated: Vec<_> = warnings.iter().filter(|text| text.contains("has not stated")).collect();
    assert!(unstated.len() == 1 && unstated[0].contains("\"b\""), "{warnings:?}");
    federation.stop().await;
}
