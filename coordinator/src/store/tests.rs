#![allow(clippy::unwrap_used)]
use std::collections::BTreeSet;

use fusiondp_dp::{Digest, Epsilon, LedgerKey, UpdateId};
use fusiondp_protocol::receipt::{Receipt, ReceiptEpsilons, ReceiptFormat, SignedReceipt};
use fusiondp_protocol::{
    Enrolment, EvaluationReport, MetricSummary, Plan, ReleasedMetrics, RoundPhase, SiteId, SiteSize,
    StudyDocument, StudyId, StudyState, UpdateHeader, UpdateOutcome,
};
use fusiondp_runtime::files::create_private_folder;

use super::*;
use crate::round::reporting::SiteOutcome;
use crate::round::{Abandoned, Configuration, RoundKey};

const KEY: RoundKey = RoundKey { round: 1, attempt: 1, model_version: 1 };

fn document() -> StudyDocument {
    StudyDocument::from_bytes(crate::study::testing::STUDY.as_bytes()).unwrap()
}

fn site(id: &str) -> SiteId {
    id.parse().unwrap()
}

fn model(version: u64, round: u32) -> NewModel {
    let parameters = vec![u8::try_from(version).unwrap(); 12];
    let digest = Digest::of(&parameters);
    NewModel { version, kind: ModelKind::Trained, round, digest, parameters, state: Some(vec![1, 2, 3]) }
}

fn options(folder: &Path) -> StoreOptions {
    // PostgreSQL where an empty database is named, in a build that has the driver: for one test at a time.
    StoreOptions {
        state_dir: folder.to_owned(),
        database_url: std::env::var("FUSIONDP_TEST_DATABASE_URL").ok(),
    }
}

async fn enrol(store: &Store, document: &StudyDocument, name: &str) {
    let enrolment = Enrolment {
        study_id: document.id().clone(),
        study_digest: document.digest(),
        units: 100,
        records: 200,
        ledger_head: Digest::of(b"head"),
        ledger_key: ledger_key().public(),
    };
    assert!(store.record_enrolment(&site(name), &enrolment).await.unwrap());
}

async fn running(folder: &Path) -> (Store, StudyDocument) {
    let store = Store::open(&options(folder)).await.unwrap();
    let document = document();
    let submitted = store.submit_study(&document, &[site("a"), site("b")], 1).await.unwrap();
    assert_eq!(submitted, Submission::Created);
    assert_eq!(store.submit_study(&document, &[site("z")], 2).await.unwrap(), Submission::Known);
    let size = |id| SiteSize { site: site(id), units: 100, records: 200 };
    let plan = Plan::derive(&document, &[size("a"), size("b")]).unwrap();
    for name in ["a", "b"] {
        enrol(&store, &document, name).await;
    }
    let start = StudyStart { plan, model: model(1, 0), sites: vec![site("a"), site("b")] };
    store.start_study(document.id(), &start, 3).await.unwrap();
    (store, document)
}

#[tokio::test]
async fn a_study_survives_being_stored_and_reopened() {
    let folder = tempfile::tempdir().unwrap();
    let (store, document) = running(folder.path()).await;
    let before = store.study(document.id()).await.unwrap().unwrap();
    drop(store);
    let store = reopen(folder.path()).await;
    let row = store.study(document.id()).await.unwrap().unwrap();
    assert_eq!(row.plan, before.plan, "bit for bit");
    assert_eq!((row.state, row.model_version, row.rounds_applied), (StudyState::Running, 1, 0));
    assert_eq!((row.submitted_ms, row.started_ms, row.ended_ms), (1, Some(3), None));
    assert_eq!(store.document(document.id()).await.unwrap().unwrap(), document.text().as_bytes());
    assert_eq!(store.study_sites(document.id()).await.unwrap().len(), 2);
    assert_eq!(store.server_state(document.id()).await.unwrap(), Some((1, vec![1, 2, 3])));
    assert!(store.study(&"no-such".parse().unwrap()).await.unwrap().is_none());
}

async fn reopen(folder: &Path) -> Store {
    for _ in 0..100 {
        if let Ok(store) = Store::open(&options(folder)).await {
            return store;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    Store::open(&options(folder)).await.unwrap()
}

#[tokio::test]
async fn a_second_coordinator_on_the_same_state_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let _store = Store::open(&options(folder.path())).await.unwrap();
    let error = Store::open(&options(folder.path())).await.err().unwrap();
    assert!(matches!(error, StoreError::InUse { .. }));
    assert!(error.to_string().contains("another coordinator"), "{error}");
}

#[tokio::test]
async fn edges_start_from_their_own_phase_only() {
    let folder = tempfile::tempdir().unwrap();
    let (store, document) = running(folder.path()).await;
    let id = document.id();
    let phase = async || store.current_round(id).await.unwrap().unwrap().phase;
    assert_eq!(phase().await, RoundPhase::Selection);
    assert!(wrong(store.edge_configured(id, KEY, 9).await));
    assert!(wrong(store.edge_reported(id, KEY).await));
    let chosen = Configuration::new(KEY, BTreeSet::from([site("a"), site("b")]));
    store.edge_selected(id, &chosen).await.unwrap();
    assert!(wrong(store.edge_selected(id, &chosen).await), "written twice");
    store.edge_configured(id, KEY, 9).await.unwrap();
    assert_eq!(phase().await, RoundPhase::Reporting);
    store.edge_reported(id, KEY).await.unwrap();
    let missing = store.outcomes(id, KEY).await.unwrap();
    assert!(missing.values().all(|outcome| *outcome == SiteOutcome::Missing), "{missing:?}");
    let next = Some(RoundKey::first_attempt(2, 2));
    let applied = AppliedRound { key: KEY, model: model(2, 1), public_loss: Some(0.5), next };
    store.edge_finished(id, &applied, 20).await.unwrap();
    assert!(wrong(store.edge_finished(id, &applied, 21).await), "no round is applied twice");
    let current = store.current_round(id).await.unwrap().unwrap();
    assert_eq!((current.key, current.phase), (RoundKey::first_attempt(2, 2), RoundPhase::Selection));
    let row = store.study(id).await.unwrap().unwrap();
    assert_eq!((row.rounds_applied, row.model_version, row.public_loss), (1, 2, Some(0.5)));
}

fn wrong(outcome: Result<(), StoreError>) -> bool {
    let StoreError::Transaction { source, .. } = outcome.unwrap_err() else { return false };
    matches!(*source, StoreError::WrongPhase { .. })
}

#[tokio::test]
async fn the_same_round_cannot_make_two_models() {
    let folder = tempfile::tempdir().unwrap();
    let (store, document) = running(folder.path()).await;
    let twin = NewModel { version: 7, ..model(7, 0) };
    let error = store.begin_evaluation(document.id(), &twin).await.unwrap_err();
    assert!(error.to_string().contains("begin_evaluation"), "{error}");
    assert_eq!(store.study(document.id()).await.unwrap().unwrap().state, StudyState::Running, "rolled back");
}

#[tokio::test]
async fn old_models_make_room_but_not_those_under_evaluation() {
    let folder = tempfile::tempdir().unwrap();
    let (store, document) = running(folder.path()).await;
    let id = document.id();
    for round in 1..=6 {
        let key = RoundKey::first_attempt(round, u64::from(round));
        store.edge_selected(id, &Configuration::new(key, BTreeSet::from([site("a")]))).await.unwrap();
        store.edge_configured(id, key, 9).await.unwrap();
        store.edge_reported(id, key).await.unwrap();
        let version = u64::from(round) + 1;
        let next = Some(RoundKey::first_attempt(round + 1, version));
        let applied = AppliedRound { key, model: model(version, round), public_loss: None, next };
        store.edge_finished(id, &applied, 20).await.unwrap();
        if round == 1 {
            let cohort = "val".parse().unwrap();
            let evaluation =
                EvaluationRow { model_version: 2, cohort, round, open: true, opened_ms: 1, deadline_ms: 9 };
            store.open_evaluation(id, &evaluation, &[site("a")]).await.unwrap();
        }
    }
    let mut kept = Vec::new();
    for version in 1..=7 {
        if store.model(id, version).await.unwrap().is_some() {
            kept.push(version);
        }
    }
    assert_eq!(kept, [2, 5, 6, 7]);
}

#[tokio::test]
async fn an_abandoned_attempt_counts_as_missed_and_a_refusal_as_departure() {
    let folder = tempfile::tempdir().unwrap();
    let (store, document) = running(folder.path()).await;
    let id = document.id();
    let chosen = Configuration::new(KEY, BTreeSet::from([site("a"), site("b")]));
    store.edge_selected(id, &chosen).await.unwrap();
    store.edge_configured(id, KEY, 9).await.unwrap();
    let decline = async |name, outcome| {
        let site = site(name);
        let declined = DeclinedTraining { site: &site, round: 1, attempt: 1, outcome, detail: "why" };
        store.record_training_decline(id, &declined, 25).await.unwrap()
    };
    assert!(decline("a", SiteOutcome::Refused).await);
    assert!(!decline("a", SiteOutcome::Failed).await, "answered before");
    assert!(!decline("c", SiteOutcome::Failed).await, "never asked");
    let abandoned = Abandoned::new(KEY, "why".into());
    let next = abandoned.clone().next(5).unwrap();
    store.edge_abandoned(id, &abandoned, Some(&next), 30).await.unwrap();
    let sites = store.study_sites(id).await.unwrap();
    let seen: Vec<_> =
        sites.iter().map(|row| (row.standing, row.detail.as_str(), row.rounds_missed)).collect();
    assert_eq!(seen, [(Standing::Declined, "why", 1), (Standing::Enrolled, "", 1)]);
    let history = store.rounds(id).await.unwrap();
    assert_eq!((history[0].phase, history[0].detail.as_str()), (RoundPhase::Abandoned, "why"));
    assert_eq!(history[1].key, RoundKey { attempt: 2, ..KEY });
}

#[tokio::test]
async fn an_end_is_final() {
    let folder = tempfile::tempdir().unwrap();
    let (store, document) = running(folder.path()).await;
    let id = document.id();
    store.end_study(id, StudyState::Stopped, "first", None, 50).await.unwrap();
    store.end_study(id, StudyState::Failed, "second", None, 60).await.unwrap();
    let row = store.request_stop(id, 70).await.unwrap().unwrap();
    assert_eq!((row.state, row.detail.as_str(), row.ended_ms), (StudyState::Stopped, "first", Some(50)));
    assert!(!row.stop_requested);
    assert!(store.next_study().await.unwrap().is_none());
}

#[tokio::test]
async fn warnings_are_kept_once_and_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let (store, document) = running(folder.path()).await;
    let id = document.id();
    store.record_warning(id, Some(&site("b")), "two", 20).await.unwrap();
    store.record_warning(id, None, "one", 10).await.unwrap();
    store.record_warning(id, None, "one", 30).await.unwrap();
    let warnings = store.warnings(id).await.unwrap();
    let seen: Vec<_> =
        warnings.iter().map(|row| (row.message.as_str(), row.at_ms, row.site.is_some())).collect();
    assert_eq!(seen, [("one", 10, false), ("two", 20, true)]);
}

#[tokio::test]
async fn odd_folders_work_and_broken_databases_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let odd = folder.path().join("a b%c?d#e");
    drop(Store::open(&options(&odd)).await.unwrap());
    let broken = folder.path().join("broken");
    create_private_folder(&broken).unwrap();
    std::fs::write(
        broken.join("coordinator.sqlite"),
        "this is no database, and long enough to be read as one",
    )
    .unwrap();
    if options(&broken).database_url.is_none() {
        assert!(odd.join("coordinator.sqlite").is_file());
        let error = Store::open(&options(&broken)).await.err().unwrap();
        assert!(error.to_string().contains("coordinator.sqlite"), "{error}");
    }
    for (url, shown) in [
        ("postgres://user:secret@host/db", "postgres://…@host/db"),
        ("postgres://host/db?user=me&password=secret", "postgres://host/db"),
        ("postgres://user:se/cret@host/db?sslmode=require", "postgres://…@host/db"),
        ("postgres://user:sec?ret@host/db", "postgres://…"),
        ("postgres://host/db?password=sec@ret", "postgres://…"),
        ("secret", "…"),
    ] {
        assert_eq!(without_credentials(url), shown);
    }
    let missing = Store::open(&StoreOptions { state_dir: "/dev/null/x".into(), database_url: None }).await;
    assert!(missing.err().unwrap().to_string().contains("/dev/null/x"));
}

/// Brings an attempt to its reporting phase.
async fn hand_out(store: &Store, id: &StudyId, key: RoundKey, sites: &[&str]) {
    let chosen = Configuration::new(key, sites.iter().map(|name| site(name)).collect());
    store.edge_selected(id, &chosen).await.unwrap();
    store.edge_configured(id, key, 9_000).await.unwrap();
}

/// Applies the round of an attempt that is reporting.
async fn apply(store: &Store, id: &StudyId, key: RoundKey) {
    store.edge_reported(id, key).await.unwrap();
    let version = key.model_version + 1;
    let next = Some(RoundKey::first_attempt(key.round + 1, version));
    let applied = AppliedRound { key, model: model(version, key.round), public_loss: None, next };
    store.edge_finished(id, &applied, 20).await.unwrap();
}

fn update(name: &str, key: RoundKey) -> NewUpdate {
    let update_id = UpdateId::random(&mut fusiondp_dp::SecureRng::from_os().unwrap());
    let header = UpdateHeader {
        update_id,
        study_id: document().id().clone(),
        round: key.round,
        attempt: key.attempt,
        model_version: key.model_version,
        public_values: 1,
        private_values: 0,
        units: 100,
        records: 200,
        payload_digest: Digest::of(&[0; 4]),
        public_loss: 0.5,
        receipt: receipt(name, key, update_id),
    };
    NewUpdate { site: site(name), header, payload: vec![0; 4] }
}

fn ledger_key() -> LedgerKey {
    LedgerKey::from_seed([1; LedgerKey::SEED_BYTES])
}

/// A receipt without charges.
fn receipt(name: &str, key: RoundKey, update_id: UpdateId) -> SignedReceipt {
    let (document, none) = (document(), Epsilon::ZERO);
    let receipt = Receipt {
        format: ReceiptFormat::V1,
        site: site(name),
        study: document.id().clone(),
        study_digest: document.digest(),
        round: key.round,
        attempt: key.attempt,
        update_id,
        model_version: key.model_version,
        model_digest: Digest::of(b"model"),
        imputer: document.study().imputer.clone(),
        public_values: 1,
        private_values: 0,
        payload_digest: Digest::of(&[0; 4]),
        charges: Vec::new(),
        study_charges: 0,
        ledger_head: Digest::of(b"head"),
        delta: document.study().privacy.delta,
        epsilon: ReceiptEpsilons { replace: none, zero_out: none, data_replace: none, data_zero_out: none },
        epsilon_records: None,
    };
    receipt.signed(&ledger_key())
}

async fn unreported(store: &Store, id: &StudyId) -> Vec<(String, u64)> {
    let claims = store.claims(id).await.unwrap().into_iter().map(|claim| claim.read().unwrap());
    claims.map(|claim| (claim.site.to_string(), claim.unreported)).collect()
}

#[tokio::test]
async fn private_attempts_without_an_update_are_counted_by_site() {
    let folder = tempfile::tempdir().unwrap();
    let (store, document) = running(folder.path()).await;
    let id = document.id();
    hand_out(&store, id, KEY, &["a", "b"]).await;
    store.record_update(&update("a", KEY), 4).await.unwrap().unwrap();
    apply(&store, id, KEY).await;
    assert!(unreported(&store, id).await.is_empty(), "nothing is charged in the warm-up round");

    let second = RoundKey::first_attempt(2, 2);
    hand_out(&store, id, second, &["a", "b"]).await;
    store.record_update(&update("a", second), 30).await.unwrap().unwrap();
    assert_eq!(unreported(&store, id).await, [("b".to_owned(), 1)], "it may have charged already");
    let b = site("b");
    let failed =
        DeclinedTraining { site: &b, round: 2, attempt: 1, outcome: SiteOutcome::Failed, detail: "why" };
    store.record_training_decline(id, &failed, 35).await.unwrap();
    let abandoned = Abandoned::new(second, "why".into());
    let next = abandoned.clone().next(5).unwrap();
    store.edge_abandoned(id, &abandoned, Some(&next), 40).await.unwrap();
    hand_out(&store, id, next.key(), &["a", "b"]).await;
    assert_eq!(unreported(&store, id).await, [("b".to_owned(), 2)], "a has reported and was not asked again");
    let outcome = store.record_update(&update("b", second), 50).await.unwrap().unwrap();
    assert_eq!(outcome, UpdateOutcome::Accepted);
    assert_eq!(
        unreported(&store, id).await,
        [("b".to_owned(), 1)],
        "it may have begun the second attempt too"
    );
}

#[tokio::test]
async fn a_plan_that_cannot_be_read_hides_no_other_study() {
    let folder = tempfile::tempdir().unwrap();
    let (store, document) = running(folder.path()).await;
    let id = document.id();
    let damage = sqlx::query("UPDATE studies SET plan = $1 WHERE study_id = $2");
    damage.bind(vec![255_u8; 7]).bind(id.as_str()).execute(&store.pool).await.unwrap();
    let text = crate::study::testing::STUDY.replace("rounds = 6", "rounds = 7");
    let other = StudyDocument::from_bytes(text.as_bytes()).unwrap();
    store.submit_study(&other, &[site("a")], 9).await.unwrap();
    assert_eq!(store.studies().await.unwrap().len(), 2);
    let next = store.next_study().await.unwrap().unwrap();
    assert_eq!(next.id, *id);
    assert!(next.plan().unwrap_err().to_string().contains("column plan"));
    assert!(store.request_stop(id, 70).await.unwrap().unwrap().stop_requested);
    store.end_study(id, StudyState::Stopped, "", None, 10).await.unwrap();
    assert_eq!(store.next_study().await.unwrap().unwrap().id, *other.id());
}

#[tokio::test]
async fn a_queued_study_is_stopped_at_once_and_cannot_be_offered_any_more() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&options(folder.path())).await.unwrap();
    let document = document();
    let id = document.id();
    store.submit_study(&document, &[site("a")], 1).await.unwrap();
    let row = store.request_stop(id, 7).await.unwrap().unwrap();
    assert_eq!((row.state, row.ended_ms), (StudyState::Stopped, Some(7)));
    assert!(!store.open_enrolment(id, 9).await.unwrap());
    let offered = StudyDocument::from_bytes(
        crate::study::testing::STUDY.replace("rounds = 6", "rounds = 7").as_bytes(),
    )
    .unwrap();
    store.submit_study(&offered, &[site("a")], 1).await.unwrap();
    assert!(store.open_enrolment(offered.id(), 9).await.unwrap());
    let row = store.request_stop(offered.id(), 7).await.unwrap().unwrap();
    assert_eq!((row.state, row.stop_requested), (StudyState::Enrolling, true), "its sites have been asked");
}

#[tokio::test]
async fn an_id_that_another_document_has_is_told_apart_from_a_repetition() {
    let folder = tempfile::tempdir().unwrap();
    let (store, document) = running(folder.path()).await;
    let other = Digest::of(b"another document").to_string();
    let change = sqlx::query("UPDATE studies SET digest = $1 WHERE study_id = $2");
    change.bind(other).bind(document.id().as_str()).execute(&store.pool).await.unwrap();
    let submitted = store.submit_study(&document, &[site("a")], 5).await.unwrap();
    assert_eq!(submitted, Submission::IdTaken);
}

#[tokio::test]
async fn nobody_joins_a_plan_that_stands() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&options(folder.path())).await.unwrap();
    let document = document();
    let id = document.id();
    store.submit_study(&document, &["a", "b", "c", "d"].map(site), 1).await.unwrap();
    for name in ["a", "b", "c"] {
        enrol(&store, &document, name).await;
    }
    // c came in while the plan was made from a and b.
    let size = |id| SiteSize { site: site(id), units: 100, records: 200 };
    let plan = Plan::derive(&document, &[size("a"), size("b")]).unwrap();
    let start = StudyStart { plan, model: model(1, 0), sites: vec![site("a"), site("b")] };
    store.start_study(id, &start, 3).await.unwrap();
    let standing: Vec<_> = store.study_sites(id).await.unwrap().iter().map(|row| row.standing).collect();
    let (enrolled, declined) = (Standing::Enrolled, Standing::Declined);
    assert_eq!(standing, [enrolled, enrolled, declined, declined]);
    let enrolment = Enrolment {
        study_id: id.clone(),
        study_digest: document.digest(),
        units: 1,
        records: 1,
        ledger_head: Digest::of(b"head"),
        ledger_key: ledger_key().public(),
    };
    let invite = sqlx::query("UPDATE study_sites SET state = 'invited' WHERE site_id = 'd'");
    invite.execute(&store.pool).await.unwrap();
    assert!(!store.record_enrolment(&site("d"), &enrolment).await.unwrap(), "the study runs");
}

#[tokio::test]
async fn an_end_closes_what_is_open_and_frees_what_nobody_needs() {
    let folder = tempfile::tempdir().unwrap();
    let (store, document) = running(folder.path()).await;
    let id = document.id();
    hand_out(&store, id, KEY, &["a", "b"]).await;
    store.record_update(&update("a", KEY), 4).await.unwrap().unwrap();
    apply(&store, id, KEY).await;
    let second = RoundKey::first_attempt(2, 2);
    hand_out(&store, id, second, &["a", "b"]).await;
    store.record_update(&update("a", second), 30).await.unwrap().unwrap();
    let evaluation = EvaluationRow {
        model_version: 2,
        cohort: "val".parse().unwrap(),
        round: 1,
        open: true,
        opened_ms: 1,
        deadline_ms: 9,
    };
    store.open_evaluation(id, &evaluation, &[site("a")]).await.unwrap();
    let last = NewModel { kind: ModelKind::Final, state: None, ..model(3, 1) };
    store.end_study(id, StudyState::Stopped, "why", Some(&last), 50).await.unwrap();

    assert!(store.rounds(id).await.unwrap().iter().all(|row| row.ended_ms.is_some()));
    let participation = store.participation(id).await.unwrap();
    assert!(participation.iter().all(|row| row.outcome != SiteOutcome::Working), "{participation:?}");
    assert!(store.open_evaluations(id).await.unwrap().is_empty());
    assert!(store.server_state(id).await.unwrap().is_none());
    assert!(store.model(id, 2).await.unwrap().is_none() && store.model(id, 3).await.unwrap().is_some());
    let payloads = sqlx::query("SELECT COUNT(*) AS n FROM updates WHERE payload IS NOT NULL");
    assert_eq!(payloads.fetch_one(&store.pool).await.unwrap().get::<i64, _>("n"), 0);
    let warnings = store.warnings(id).await.unwrap();
    let said: Vec<_> =
        warnings.iter().map(|row| (row.site.clone(), row.message.as_str(), row.at_ms)).collect();
    assert_eq!(said, [(Some(site("b")), "took part in 0 of 1 rounds", 50)]);
}

#[tokio::test]
async fn a_refusal_counts_only_for_a_task_that_is_out() {
    let folder = tempfile::tempdir().unwrap();
    let (store, document) = running(folder.path()).await;
    let id = document.id();
    let b = site("b");
    let refuse = async |round, now_ms| {
        let outcome = SiteOutcome::Refused;
        let declined = DeclinedTraining { site: &b, round, attempt: 1, outcome, detail: "why" };
        store.record_training_decline(id, &declined, now_ms).await.unwrap()
    };
    assert!(!refuse(1, 3).await, "nobody is selected yet");
    hand_out(&store, id, KEY, &["a", "b"]).await;
    assert!(!refuse(2, 4).await, "that round is not out");
    assert_eq!(store.study_site(id, &b).await.unwrap().unwrap().standing, Standing::Enrolled);
    assert!(refuse(1, 5).await);
    assert!(!refuse(1, 6).await, "said before");
    assert_eq!(store.study_site(id, &b).await.unwrap().unwrap().standing, Standing::Declined);
    let warnings = store.warnings(id).await.unwrap();
    let said: Vec<_> = warnings.iter().map(|row| (row.message.as_str(), row.at_ms)).collect();
    assert_eq!(said, [("left the study in round 1: why", 5)]);
}

#[tokio::test]
async fn an_update_of_an_abandoned_attempt_counts_now_and_was_late_then() {
    let folder = tempfile::tempdir().unwrap();
    let (store, document) = running(folder.path()).await;
    let id = document.id();
    hand_out(&store, id, KEY, &["a", "b"]).await;
    let abandoned = Abandoned::new(KEY, "why".into());
    let next = abandoned.clone().next(5).unwrap();
    store.edge_abandoned(id, &abandoned, Some(&next), 30).await.unwrap();
    hand_out(&store, id, next.key(), &["a", "b"]).await;
    let accepted = store.record_update(&update("a", KEY), 40).await.unwrap().unwrap();
    assert_eq!(accepted, UpdateOutcome::Accepted);
    let of = async |key| store.outcomes(id, key).await.unwrap()[&site("a")];
    assert_eq!((of(KEY).await, of(next.key()).await), (SiteOutcome::Late, SiteOutcome::Reported));
    let second = store.record_update(&update("a", next.key()), 41).await.unwrap().unwrap();
    assert_eq!(second, UpdateOutcome::Late);
    assert_eq!(of(next.key()).await, SiteOutcome::Reported, "it keeps that it has reported");
}

#[tokio::test]
async fn updates_are_told_apart_by_site_and_limited_in_number() {
    let folder = tempfile::tempdir().unwrap();
    let (store, document) = running(folder.path()).await;
    hand_out(&store, document.id(), KEY, &["a", "b"]).await;
    let first = update("a", KEY);
    store.record_update(&first, 4).await.unwrap().unwrap();
    assert_eq!(store.record_update(&first, 5).await.unwrap().unwrap(), UpdateOutcome::Duplicate);
    let stolen = NewUpdate { site: site("b"), header: first.header.clone(), payload: vec![0; 4] };
    let refused = store.record_update(&stolen, 6).await.unwrap().unwrap_err();
    assert!(matches!(refused, UpdateRefusal::ForeignId { .. }), "{refused}");
    let mut stored = 1;
    let refused = loop {
        match store.record_update(&update("a", KEY), 7).await.unwrap() {
            Ok(outcome) => assert_eq!(outcome, UpdateOutcome::Late),
            Err(refused) => break refused,
        }
        stored += 1;
    };
    assert_eq!(refused, UpdateRefusal::TooMany { round: 1, attempt: 1 });
    assert_eq!(stored, 8);
    store.record_update(&update("b", KEY), 8).await.unwrap().unwrap();
}

#[tokio::test]
async fn one_coordinator_has_the_database() {
    // SQLite lies in the folder, which has a lock of its own.
    if std::env::var("FUSIONDP_TEST_DATABASE_URL").is_err() {
        return;
    }
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = reopen(folder.path()).await;
    let error = Store::open(&options(other.path())).await.err().unwrap();
    assert!(matches!(error, StoreError::DatabaseInUse { .. }), "{error}");
    drop(store);
    reopen(other.path()).await;
}

/// As many records as reports were there when the figures were made.
fn counted(evaluation: &EvaluationRow, sites: &[EvaluationSite]) -> Vec<MetricRow> {
    vec![MetricRow {
        model_version: evaluation.model_version,
        round: evaluation.round,
        cohort: evaluation.cohort.clone(),
        site: None,
        records: sites.iter().filter(|site| site.report.is_some()).count() as u64,
        positives: 0,
        auroc: None,
        aupr: None,
        brier: Some(0.0),
        log_loss: None,
        noise: Some(MetricNoise { auroc_error: None, positives_error: 2.5 }),
    }]
}

#[tokio::test]
async fn a_report_that_was_acknowledged_is_in_the_figures() {
    let folder = tempfile::tempdir().unwrap();
    let (store, document) = running(folder.path()).await;
    let id = document.id();
    let cohort: fusiondp_protocol::CohortName = "val".parse().unwrap();
    let evaluation = EvaluationRow {
        model_version: 1,
        cohort: cohort.clone(),
        round: 0,
        open: true,
        opened_ms: 1,
        deadline_ms: 9,
    };
    store.open_evaluation(id, &evaluation, &["a", "b"].map(site)).await.unwrap();
    let report = EvaluationReport {
        study_id: id.clone(),
        model_version: 1,
        cohort,
        metrics: ReleasedMetrics::Summary(MetricSummary {
            records: 1,
            positives: 1,
            brier: 0.5,
            log_loss: 0.5,
            positive_counts: [vec![1], vec![0; 4095]].concat(),
            negative_counts: vec![0; 4096],
        }),
    };
    assert_eq!(store.evaluation_waits_for(id, &evaluation).await.unwrap(), 2);
    assert_eq!(store.record_evaluation(&site("a"), &report, 5).await.unwrap(), ReportReceipt::Stored);
    assert_eq!(store.evaluation_waits_for(id, &evaluation).await.unwrap(), 1);
    let sites = store.close_evaluation(id, &evaluation, counted).await.unwrap();
    assert_eq!(sites.iter().map(|site| site.report.is_some()).collect::<Vec<_>>(), [true, false]);
    assert_eq!(store.metrics(id).await.unwrap(), counted(&evaluation, &sites));
    assert_eq!(store.record_evaluation(&site("b"), &report, 5).await.unwrap(), ReportReceipt::TooLate);
    assert!(store.open_evaluations(id).await.unwrap().is_empty());
}

/// The mirror covers charges of counts, also of a report that comes too late, and training is accounted as if they were not there.
#[tokio::test]
async fn charges_of_counts_are_mirrored_and_left_out_of_training() {
    use crate::study::testing::{counts_charge, noisy_counts};
    let folder = tempfile::tempdir().unwrap();
    let (store, document) = running(folder.path()).await;
    let id = document.id();
    let cohort: fusiondp_protocol::CohortName = "test".parse().unwrap();
    let evaluation = EvaluationRow {
        model_version: 1,
        cohort: cohort.clone(),
        round: 0,
        open: true,
        opened_ms: 1,
        deadline_ms: 9,
    };
    store.open_evaluation(id, &evaluation, &[site("a")]).await.unwrap();
    let report = |model: &[u8]| {
        let request = fusiondp_dp::ChargeRequest {
            model_digest: fusiondp_dp::Digest::of(model),
            ..counts_charge(&document, "test")
        };
        // Off the runtime of this test: the charge is made on one of its own.
        let counts = std::thread::spawn(move || noisy_counts(&[1, 2, 3, 4], request)).join().unwrap();
        EvaluationReport {
            study_id: id.clone(),
            model_version: 1,
            cohort: cohort.clone(),
            metrics: ReleasedMetrics::Noisy(Box::new(counts)),
        }
    };
    let (first, late) = (report(b"m"), report(b"other"));
    let charge = |report: &EvaluationReport| match &report.metrics {
        ReleasedMetrics::Noisy(counts) => counts.charge.clone(),
        ReleasedMetrics::Summary(_) => panic!("exact"),
    };
    let claims = async || store.snapshot(id).await.unwrap().unwrap().claims.len();
    let before = claims().await;
    assert_eq!(store.record_evaluation(&site("b"), &first, 5).await.unwrap(), ReportReceipt::NotAsked);
    assert_eq!(store.newest_entry(&site("b")).await.unwrap(), None);
    assert_eq!(store.record_evaluation(&site("a"), &first, 5).await.unwrap(), ReportReceipt::Stored);
    assert_eq!(store.newest_entry(&site("a")).await.unwrap(), Some(charge(&first)));
    assert_eq!(store.record_evaluation(&site("a"), &first, 6).await.unwrap(), ReportReceipt::TooLate);
    assert_eq!(store.record_evaluation(&site("a"), &late, 7).await.unwrap(), ReportReceipt::TooLate);
    let mut charges = store.counts_charges(id).await.unwrap();
    charges.sort_by_key(|(_, charge)| charge.entry.charge().model_digest != fusiondp_dp::Digest::of(b"m"));
    assert_eq!(charges, [(site("a"), charge(&first)), (site("a"), charge(&late))]);
    assert_eq!(claims().await, before, "nobody has trained");
    let behind = store.charges_behind(id, &std::collections::BTreeMap::new()).await.unwrap();
    assert!(behind.iter().all(|site| site.entries.is_empty() && site.complete), "{behind:?}");
    // Two charges of training that no receipt lists are missing, however many of counts are there.
    hand_out(&store, id, KEY, &["a", "b"]).await;
    let mut gap = update("a", KEY);
    gap.header.receipt.receipt.study_charges = 2;
    store.record_update(&gap, 8).await.unwrap().unwrap();
    assert_eq!(store.study_site(id, &site("a")).await.unwrap().unwrap().mirror_gaps, 2);
}
