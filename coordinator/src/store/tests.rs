#![allow(clippy::unwrap_used)]
use std::collections::BTreeSet;

use fusiondp_protocol::{Enrolment, Plan, RoundPhase, SiteId, SiteSize, StudyDocument, StudyState};
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
    let digest = fusiondp_dp::Digest::of(&parameters);
    NewModel { version, kind: ModelKind::Trained, round, digest, parameters, state: Some(vec![1, 2, 3]) }
}

fn options(folder: &Path) -> StoreOptions {
    // PostgreSQL where an empty database is named, in a build that has the driver: for one test at a time.
    StoreOptions {
        state_dir: folder.to_owned(),
        database_url: std::env::var("FUSIONDP_TEST_DATABASE_URL").ok(),
    }
}

async fn running(folder: &Path) -> (Store, StudyDocument) {
    let store = Store::open(&options(folder)).await.unwrap();
    let document = document();
    assert!(store.submit_study(&document, &[site("a"), site("b")], 1).await.unwrap());
    assert!(!store.submit_study(&document, &[site("z")], 2).await.unwrap(), "the same document again");
    let size = |id| SiteSize { site: site(id), units: 100, records: 200 };
    let plan = Plan::derive(&document, &[size("a"), size("b")]).unwrap();
    store.start_study(document.id(), &plan, &model(1, 0), 3).await.unwrap();
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
        store.record_training_decline(id, (1, 1), &site(name), outcome, "why").await.unwrap()
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
    assert_eq!(seen, [(Standing::Declined, "why", 1), (Standing::Invited, "", 1)]);
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
    assert!(store.request_stop(id, 70).await.unwrap());
    assert!(!store.request_stop(&"no-such".parse().unwrap(), 70).await.unwrap());
    store.open_enrolment(id, 80).await.unwrap();
    let row = store.study(id).await.unwrap().unwrap();
    assert_eq!((row.state, row.detail.as_str(), row.ended_ms), (StudyState::Stopped, "first", Some(50)));
    assert!(!row.stop_requested && row.enrolment_deadline_ms.is_none());
    assert!(store.next_study().await.unwrap().is_none());
}

#[tokio::test]
async fn a_study_that_waits_for_its_turn_is_stopped_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let (store, first) = running(folder.path()).await;
    let text = first.text().replace("name = \"small\"", "name = \"next\"");
    let next = StudyDocument::from_bytes(text.as_bytes()).unwrap();
    assert!(store.submit_study(&next, &[site("a")], 5).await.unwrap());
    assert!(store.request_stop(next.id(), 6).await.unwrap());
    let row = store.study(next.id()).await.unwrap().unwrap();
    assert_eq!((row.state, row.ended_ms), (StudyState::Stopped, Some(6)));
    // The one whose turn it is ends after its round, and its driver says so.
    assert!(store.request_stop(first.id(), 7).await.unwrap());
    let row = store.study(first.id()).await.unwrap().unwrap();
    assert_eq!((row.state, row.ended_ms, row.stop_requested), (StudyState::Running, None, true));
    assert_eq!(store.next_study().await.unwrap().unwrap().id, *first.id());
}

#[tokio::test]
async fn nobody_joins_after_enrollment_has_closed_and_nobody_leaves_over_a_task_it_did_not_have() {
    let folder = tempfile::tempdir().unwrap();
    let (store, document) = running(folder.path()).await;
    let id = document.id();
    let late = Enrolment {
        study_id: id.clone(),
        study_digest: document.digest(),
        units: 100,
        records: 200,
        ledger_head: fusiondp_dp::Digest::of(b"head"),
    };
    assert!(!store.record_enrolment(&site("a"), &late).await.unwrap());
    let refused = SiteOutcome::Refused;
    assert!(!store.record_training_decline(id, (1, 1), &site("a"), refused, "late").await.unwrap());
    let standings: Vec<_> =
        store.study_sites(id).await.unwrap().into_iter().map(|row| row.standing).collect();
    assert_eq!(standings, [Standing::Invited, Standing::Invited]);
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
    assert_eq!(without_credentials("postgres://user:secret@host/db"), "postgres://…@host/db");
    assert_eq!(without_credentials("postgres://host/db?password=secret"), "postgres://host/db");
    assert_eq!(without_credentials("postgres://u:a@host/db?x=b@c"), "postgres://…@host/db");
    let missing = Store::open(&StoreOptions { state_dir: "/dev/null/x".into(), database_url: None }).await;
    assert!(missing.err().unwrap().to_string().contains("/dev/null/x"));
}
