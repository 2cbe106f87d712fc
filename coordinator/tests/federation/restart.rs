//! A coordinator that comes back finds the stored phase and goes on from it, whichever it is.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use fusiondp_coordinator::Store;
use fusiondp_coordinator::round::configuration::TaskInput;
use fusiondp_coordinator::round::reporting::SiteOutcome;
use fusiondp_coordinator::round::{Abandoned, Configuration, RoundKey};
use fusiondp_coordinator::store::{ModelKind, NewModel, NewUpdate, StudyStart};
use fusiondp_dp::{Digest, Epsilon, UpdateId};
use fusiondp_learn::encode::Encoder;
use fusiondp_learn::model::Model;
use fusiondp_learn::server::ServerState;
use fusiondp_proto::v1;
use fusiondp_protocol::receipt::{Receipt, ReceiptEpsilons, ReceiptFormat, SignedReceipt};
use fusiondp_protocol::{
    Enrolment, Plan, RoundPhase, SiteId, SiteSize, StudyDocument, StudyState, UpdateHeader, chunks,
};
use sqlx::Connection as _;

use crate::fake::{Behavior, FakeSite, ledger_key};
use crate::setup::{Federation, database_url, document, open_store};

const KEY: RoundKey = RoundKey { round: 1, attempt: 1, model_version: 1 };

/// A study whose first round has no private part, so that this test can write its updates itself.
fn study() -> StudyDocument {
    document(&[("every_rounds = 2", "every_rounds = 0")])
}

fn site(id: &str) -> SiteId {
    id.parse().unwrap()
}

/// A store in which both sites have enrolled and the plan stands.
async fn enrolled(store: &Store, document: &StudyDocument) -> Plan {
    let sites = [site("a"), site("b")];
    store.submit_study(document, &sites, 1_000).await.unwrap();
    assert!(store.open_enrolment(document.id(), 2_000).await.unwrap());
    for id in &sites {
        let enrolment = Enrolment {
            study_id: document.id().clone(),
            study_digest: document.digest(),
            units: 100,
            records: 200,
            ledger_head: FakeSite::new("a", Behavior::Works).ledger.head(),
            ledger_key: ledger_key().public(),
        };
        assert!(store.record_enrolment(id, &enrolment).await.unwrap());
    }
    let sizes = sites.map(|site| SiteSize { site, units: 100, records: 200 });
    let plan = Plan::derive(document, &sizes).unwrap();
    let start =
        StudyStart { plan: plan.clone(), model: initial(document), sites: [site("a"), site("b")].to_vec() };
    store.start_study(document.id(), &start, 3_000).await.unwrap();
    plan
}

fn initial(document: &StudyDocument) -> NewModel {
    let study = document.study();
    let encoder = Encoder::new(&study.schema, &study.model).unwrap();
    let model = Model::new(&study.model, encoder.input_shape()).unwrap();
    let state = ServerState::new(&model, study.server_settings(), model.initialise(1)).unwrap();
    let mut parameters = Vec::new();
    chunks::encode_f32(state.parameters(), &mut parameters);
    let digest = Digest::of(&parameters);
    NewModel {
        version: 1,
        kind: ModelKind::Trained,
        round: 0,
        digest,
        parameters,
        state: Some(state.to_bytes()),
    }
}

/// Brings the first round into a phase, with `reported` of its updates stored.
async fn reach(store: &Store, document: &StudyDocument, plan: &Plan, phase: RoundPhase, reported: &[&str]) {
    let id = document.id();
    if phase == RoundPhase::Selection {
        return;
    }
    let chosen = Configuration::new(KEY, BTreeSet::from([site("a"), site("b")]));
    store.edge_selected(id, &chosen).await.unwrap();
    if phase == RoundPhase::Configuration {
        return;
    }
    let digest = store.model(id, 1).await.unwrap().unwrap().digest;
    let input = TaskInput { plan, newest_version: 1, model_digest: digest, deadline_ms: 5_000 };
    let reporting = chosen.configure(&input).unwrap();
    store.edge_configured(id, KEY, reporting.deadline_ms()).await.unwrap();
    for name in reported {
        store.record_update(&update(document, name, store).await, 4_000).await.unwrap().unwrap();
    }
    if phase == RoundPhase::Aggregation {
        store.edge_reported(id, KEY).await.unwrap();
    }
}

async fn update(document: &StudyDocument, name: &str, store: &Store) -> NewUpdate {
    let parameters = store.model(document.id(), 1).await.unwrap().unwrap().parameters.len() / 4;
    let mut payload = Vec::new();
    chunks::encode_f32(&vec![0.25; parameters], &mut payload);
    let update_id = UpdateId::random(&mut fusiondp_dp::SecureRng::from_os().unwrap());
    let header = UpdateHeader {
        update_id,
        study_id: document.id().clone(),
        round: 1,
        attempt: 1,
        model_version: 1,
        public_values: parameters as u64,
        private_values: 0,
        units: 100,
        records: 200,
        payload_digest: Digest::of(&payload),
        public_loss: 0.5,
        receipt: free_receipt(document, name, update_id, parameters as u64, Digest::of(&payload)),
    };
    NewUpdate { site: site(name), header, payload }
}

/// The receipt of an update of the first round, a warm-up round.
fn free_receipt(
    document: &StudyDocument,
    name: &str,
    update_id: UpdateId,
    public_values: u64,
    payload_digest: Digest,
) -> SignedReceipt {
    let receipt = Receipt {
        format: ReceiptFormat::V1,
        site: site(name),
        study: document.id().clone(),
        study_digest: document.digest(),
        round: 1,
        attempt: 1,
        update_id,
        model_version: 1,
        model_digest: Digest::of(b"model"),
        imputer: document.study().imputer.clone(),
        public_values,
        private_values: 0,
        payload_digest,
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
    receipt.signed(&ledger_key())
}

/// Starts a coordinator on the state, lets both sites work, and checks that the study ends as it should.
async fn resume(folder: &Path, document: &StudyDocument) -> Vec<FakeSite> {
    let mut federation = Federation::start(folder, &["a", "b"]).await;
    federation.join("a", Behavior::Works);
    federation.join("b", Behavior::Works);
    let status = federation.wait_end(document.id()).await;
    assert_eq!((status.state, status.round), (StudyState::Finished, 6), "{}", status.detail);
    let store = federation.store.clone();
    let finished = store.finished_rounds(document.id(), 100).await.unwrap();
    let rounds: Vec<u32> = finished.iter().rev().map(|row| row.key.round).collect();
    assert_eq!(rounds, [1, 2, 3, 4, 5, 6], "every round is applied once");
    assert_eq!(store.study(document.id()).await.unwrap().unwrap().model_version, 7);
    drop(store);
    federation.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_phase_is_resumed() {
    let cases: [(RoundPhase, &[&str]); 5] = [
        (RoundPhase::Selection, &[]),
        (RoundPhase::Configuration, &[]),
        (RoundPhase::Reporting, &[]),
        (RoundPhase::Reporting, &["a"]),
        (RoundPhase::Aggregation, &["a", "b"]),
    ];
    for (phase, reported) in cases {
        let folder = tempfile::tempdir().unwrap();
        let document = study();
        let store = open_store(folder.path()).await;
        let plan = enrolled(&store, &document).await;
        reach(&store, &document, &plan, phase, reported).await;
        drop(store);
        let sites = resume(folder.path(), &document).await;
        for site in sites {
            let first = site.receipts.iter().filter(|(round, _, _)| *round == 1).count();
            let stored = reported.contains(&site.id.as_str());
            assert_eq!(
                first,
                usize::from(!stored),
                "{phase} {}: a stored update is not asked for again",
                site.id
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_abandoned_round_goes_on_with_what_was_reported() {
    let folder = tempfile::tempdir().unwrap();
    let document = study();
    let store = open_store(folder.path()).await;
    let plan = enrolled(&store, &document).await;
    reach(&store, &document, &plan, RoundPhase::Reporting, &["b"]).await;
    let abandoned = Abandoned::new(KEY, "test".into());
    let next = abandoned.clone().next(3).unwrap();
    store.edge_abandoned(document.id(), &abandoned, Some(&next), 6_000).await.unwrap();
    drop(store);
    let sites = resume(folder.path(), &document).await;
    let b = sites.iter().find(|site| site.id.as_str() == "b").unwrap();
    assert!(b.receipts.iter().all(|(round, _, _)| *round > 1), "{:?}", b.receipts);
}

#[tokio::test(flavor = "multi_thread")]
async fn enrollment_and_the_final_evaluation_are_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let document = study();
    let store = open_store(folder.path()).await;
    store.submit_study(&document, &[site("a"), site("b")], 1_000).await.unwrap();
    // The deadline of the offer has passed while nobody was there to ask.
    assert!(store.open_enrolment(document.id(), 2_000).await.unwrap());
    drop(store);
    resume(folder.path(), &document).await;
    // The study has ended; a new start leaves it alone.
    let mut federation = Federation::start(folder.path(), &["a", "b"]).await;
    let status = federation.status(document.id()).await;
    assert_eq!(status.state, StudyState::Finished);
    assert!(status.metrics.iter().any(|metric| metric.cohort.as_str() == "test"));
    federation.stop().await;
}

#[test]
fn a_coordinator_killed_again_and_again_finishes_the_study() {
    let folder = tempfile::tempdir().unwrap();
    // The fakes of each start have a new ledger, so only the last round charges: a second charge on an empty ledger
    // would be a true disagreement with the mirror.
    let document = document(&[("rounds = 6", "rounds = 40"), ("warmup_rounds = 1", "warmup_rounds = 39")]);
    let mut applied = 0;
    let mut kills = 0;
    loop {
        // A runtime of its own: dropping it is as sudden as a process that dies.
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let status = runtime.block_on(async {
            let mut federation = Federation::start(folder.path(), &["a", "b"]).await;
            federation.join("a", Behavior::Works);
            federation.join("b", Behavior::Works);
            federation.submit(&document).await;
            let target = applied + 7;
            let reached =
                |status: &fusiondp_protocol::StudyStatus| status.state.has_ended() || status.round >= target;
            let status = federation.wait(document.id(), "progress", reached).await;
            drop(federation);
            status
        });
        runtime.shutdown_timeout(Duration::from_secs(5));
        assert!(status.round >= applied, "rounds never go back");
        applied = status.round;
        if status.state.has_ended() {
            assert_eq!((status.state, status.round), (StudyState::Finished, 40), "{}", status.detail);
            break;
        }
        kills += 1;
    }
    assert!(kills >= 3, "{kills} kills");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let store = open_store(folder.path()).await;
        let finished = store.finished_rounds(document.id(), 100).await.unwrap();
        assert_eq!(finished.len(), 40);
        let participation = store.participation(document.id()).await.unwrap();
        assert!(participation.iter().all(|row| row.outcome != SiteOutcome::Working));
    });
}

/// Replaces stored bytes of a study by what another version might have written.
async fn overwrite(folder: &Path, document: &StudyDocument, statement: &'static str, bytes: &[u8]) {
    sqlx::any::install_default_drivers();
    let embedded = || format!("sqlite://{}", folder.join("coordinator.sqlite").display());
    let url = database_url(folder).await.unwrap_or_else(embedded);
    let mut connection = sqlx::AnyConnection::connect(&url).await.unwrap();
    let changed = sqlx::query(statement)
        .bind(bytes.to_vec())
        .bind(document.id().as_str())
        .execute(&mut connection)
        .await;
    assert_eq!(changed.unwrap().rows_affected(), 1);
    connection.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_study_that_this_version_cannot_read_says_so_and_can_be_ended() {
    let folder = tempfile::tempdir().unwrap();
    let (unreadable, next) = (study(), document(&[("name = \"small", "name = \"next small")]));
    let store = open_store(folder.path()).await;
    let sites = [site("a"), site("b")];
    store.submit_study(&unreadable, &sites, 1_000).await.unwrap();
    store.submit_study(&next, &sites, 2_000).await.unwrap();
    drop(store);
    let statement = "UPDATE studies SET document = $1 WHERE study_id = $2";
    overwrite(folder.path(), &unreadable, statement, b"[study]\nname = \"of another version\"\n").await;

    let mut federation = Federation::start(folder.path(), &["a", "b"]).await;
    federation.join("a", Behavior::Works);
    federation.join("b", Behavior::Works);
    let told = |status: &fusiondp_protocol::StudyStatus| !status.detail.is_empty();
    let status = federation.wait(unreadable.id(), "word of what is wrong", told).await;
    assert!(
        status.detail.contains("cannot be read") && status.detail.contains("study stop"),
        "{}",
        status.detail
    );
    assert_eq!(federation.status(next.id()).await.state, StudyState::Enrolling);
    let request = v1::StopStudyRequest { study_id: unreadable.id().to_string() };
    federation.admin.stop_study(request).await.unwrap();
    assert_eq!(federation.wait_end(unreadable.id()).await.state, StudyState::Stopped);
    assert_eq!(federation.wait_end(next.id()).await.state, StudyState::Finished);
    federation.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_study_whose_state_cannot_be_read_says_so_and_can_be_ended() {
    let statements = [
        "UPDATE server_states SET state = $1 WHERE study_id = $2",
        "UPDATE studies SET plan = $1 WHERE study_id = $2",
    ];
    for statement in statements {
        let folder = tempfile::tempdir().unwrap();
        let document = study();
        let store = open_store(folder.path()).await;
        let plan = enrolled(&store, &document).await;
        reach(&store, &document, &plan, RoundPhase::Aggregation, &["a", "b"]).await;
        drop(store);
        overwrite(folder.path(), &document, statement, &[255; 7]).await;

        let mut federation = Federation::start(folder.path(), &["a", "b"]).await;
        let told = |status: &fusiondp_protocol::StudyStatus| !status.detail.is_empty();
        federation.wait(document.id(), "word of what is wrong", told).await;
        let list = federation.admin.list_studies(v1::ListStudiesRequest {}).await.unwrap().into_inner();
        assert_eq!(list.studies.len(), 1, "{statement}");
        let request = v1::StopStudyRequest { study_id: document.id().to_string() };
        federation.admin.stop_study(request).await.unwrap();
        assert_eq!(federation.wait_end(document.id()).await.state, StudyState::Stopped, "{statement}");
        federation.stop().await;
    }
}
