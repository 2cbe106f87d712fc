#![allow(clippy::unwrap_used)]
mod ledger;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use fusiondp_dp::{CommittedCharge, Digest, LedgerKey};
use fusiondp_protocol::messages::UpdateHeader;
use fusiondp_protocol::receipt::{Receipt, ReceiptEpsilons, ReceiptFormat};

use super::ledger::SiteLedgerError;
use super::*;
use crate::policy::Verdict;
use crate::testing::{NOW_MS, charges, document, sources, task, write_records};
use crate::train::Session;

fn session(folder: &Path) -> Session {
    write_records(folder, 40, 1, false);
    Session::prepare(document(&[]), &sources(folder)).unwrap()
}

/// An update of a task, paid for by these charges.
fn update(session: &Session, round: u32, charges: &[CommittedCharge]) -> (TaskKey, UpdateHeader, Bytes) {
    let task = task(session, round);
    let key = LedgerKey::from_seed([1; LedgerKey::SEED_BYTES]);
    let charges: Vec<_> = charges.iter().map(|charge| key.sign_entry(charge.entry().clone())).collect();
    let payload = Bytes::from_static(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
    let epsilon = fusiondp_dp::Epsilon::new(0.1 + f64::from(round)).unwrap();
    let receipt = Receipt {
        format: ReceiptFormat::V1,
        site: "here".parse().unwrap(),
        study: task.plan.study_id.clone(),
        study_digest: task.plan.study_digest,
        round,
        attempt: 1,
        update_id: charges
            .first()
            .map_or(crate::RandomSource::Os.update_id().unwrap(), |signed| signed.entry.charge().update_id),
        model_version: task.model_version,
        model_digest: task.model_digest,
        imputer: session.study().imputer.clone(),
        public_values: 1,
        private_values: u64::from(!charges.is_empty()),
        payload_digest: Digest::of(&payload),
        study_charges: charges.len() as u64,
        ledger_head: charges.last().map_or(Digest::of(b"head"), |last| last.entry.hash()),
        charges,
        delta: task.plan.delta,
        epsilon: ReceiptEpsilons {
            replace: epsilon,
            zero_out: epsilon,
            data_replace: epsilon,
            data_zero_out: fusiondp_dp::Epsilon::INFINITE,
        },
        epsilon_records: None,
    };
    let header = UpdateHeader {
        update_id: receipt.update_id,
        study_id: receipt.study.clone(),
        round,
        attempt: 1,
        model_version: receipt.model_version,
        public_values: receipt.public_values,
        private_values: receipt.private_values,
        units: 40,
        records: 40,
        payload_digest: receipt.payload_digest,
        public_loss: 0.1 + 0.2,
        receipt: receipt.signed(&key),
    };
    (TaskKey::of(&task), header, payload)
}

#[tokio::test]
async fn a_second_agent_on_one_folder_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let first = Store::open(&state).await.unwrap();
    let error = Store::open(&state).await.err().unwrap().to_string();
    assert!(error.contains(&std::process::id().to_string()) && error.contains("state_dir"), "{error}");
    assert!(Store::open_read_only(&state).await.is_ok());
    drop(first);
    Store::open(&state).await.unwrap();
    let missing = Store::open_read_only(folder.path()).await.err().unwrap();
    assert!(matches!(missing, StoreError::Missing { .. }));
}

/// `approve` writes while an agent does, and both while a third program holds the database: each waits for its turn.
#[tokio::test]
async fn an_approval_and_a_charge_at_the_same_time_wait_for_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let session = session(folder.path());
    let state = folder.path().join("state");
    let agent = Arc::new(Store::open(&state).await.unwrap());
    let administrator = Store::open_for_decisions(&state).await.unwrap();
    let decision = Decision {
        digest: session.document().digest(),
        study: session.document().id().clone(),
        verdict: Verdict::Approved,
        decided_by: "A. Person".to_owned(),
        decided_ms: NOW_MS,
    };
    let mut third = SqliteConnectOptions::new().filename(state.join(DATABASE_FILE)).connect().await.unwrap();
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut third).await.unwrap();
    let held = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        sqlx::raw_sql("COMMIT").execute(&mut third).await.unwrap();
    };
    let task = task(&session, 2);
    let (decided, charged, ()) =
        tokio::join!(administrator.record_decision(&decision), charges(&session, &task, &agent), held);
    decided.unwrap();
    assert_eq!(charged.len(), 1);
    assert_eq!(agent.verdict(decision.digest).await.unwrap(), Some(Verdict::Approved));
    assert_eq!(agent.ledger_rows().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_crash_between_charge_and_outbox_leaves_the_charge_and_nothing_to_send() {
    let folder = tempfile::tempdir().unwrap();
    let session = session(folder.path());
    let state = folder.path().join("state");
    let store = Arc::new(Store::open(&state).await.unwrap());
    let charge = charges(&session, &task(&session, 2), &store).await;
    let head = charge[0].entry().hash();
    drop((charge, store));

    let store = Arc::new(Store::open(&state).await.unwrap());
    let ledger = SiteLedger::open(Arc::clone(&store)).await.unwrap();
    assert_eq!((ledger.head(), ledger.entries().len()), (head, 1));
    assert_eq!(ledger.events(session.identity().digest)[0].steps().get(), 1);
    assert!(store.update_of(&TaskKey::of(&task(&session, 2))).await.unwrap().is_none());
    assert!(!store.ledger_rows().await.unwrap()[0].released);
    assert_eq!(store.newest_round(session.document().id()).await.unwrap(), 2);
}

#[tokio::test]
async fn an_unsent_update_survives_a_crash_bit_by_bit() {
    let folder = tempfile::tempdir().unwrap();
    let session = session(folder.path());
    let state = folder.path().join("state");
    let store = Arc::new(Store::open(&state).await.unwrap());
    let charge = charges(&session, &task(&session, 2), &store).await;
    let (key, header, payload) = update(&session, 2, &charge);
    store.release_update(&key, &header, &payload, NOW_MS).await.unwrap();
    drop(store);

    let store = Store::open(&state).await.unwrap();
    let stored = store.update_of(&key).await.unwrap().unwrap();
    assert_eq!((&stored.header, &stored.payload, stored.sent), (&header, &payload, false));
    assert!(store.ledger_rows().await.unwrap()[0].released);
    store.mark_sent(header.update_id, NOW_MS).await.unwrap();
    assert!(store.update_of(&key).await.unwrap().unwrap().sent);
}

#[tokio::test]
async fn a_charge_is_released_once_and_only_if_it_exists() {
    let folder = tempfile::tempdir().unwrap();
    let session = session(folder.path());
    let store = Arc::new(Store::in_memory().await.unwrap());
    let charge = charges(&session, &task(&session, 2), &store).await;
    let (key, header, payload) = update(&session, 2, &charge);
    store.release_update(&key, &header, &payload, NOW_MS).await.unwrap();
    let other_task = TaskKey { round: 3, ..key.clone() };
    let again = store.release_update(&other_task, &header, &payload, NOW_MS).await;
    assert!(matches!(again, Err(StoreError::NotReleasable { .. })));

    let mut stranger = header;
    stranger.update_id = crate::RandomSource::Os.update_id().unwrap();
    stranger.receipt.receipt.update_id = stranger.update_id;
    let charge = stranger.receipt.receipt.charges[0].entry.canonical_json();
    let charge = charge.replace(&key_of(&charge, "update_id"), &stranger.update_id.to_string());
    stranger.receipt.receipt.charges[0].entry = serde_json::from_str(&charge).unwrap();
    let uncharged = store.release_update(&other_task, &stranger, &payload, NOW_MS).await;
    assert!(matches!(uncharged, Err(StoreError::NotReleasable { .. })));
    assert!(store.update_of(&other_task).await.unwrap().is_none());
}

/// The text of a field in JSON.
fn key_of(json: &str, field: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(json).unwrap();
    value["charge"][field].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn entries_are_neither_deleted_nor_changed() {
    let folder = tempfile::tempdir().unwrap();
    let session = session(folder.path());
    let store = Arc::new(Store::in_memory().await.unwrap());
    charges(&session, &task(&session, 2), &store).await;
    for statement in [
        "DELETE FROM ledger",
        "UPDATE ledger SET entry = replace(entry, '1.5', '9.5')",
        "UPDATE ledger SET round = 1",
        "UPDATE ledger SET signature = ''",
        "DELETE FROM ledger_key",
        "UPDATE ledger_key SET public_key = ''",
    ] {
        let outcome = sqlx::query(statement).execute(&mut *store.connection().await).await;
        assert!(outcome.is_err(), "{statement}");
    }
    assert_eq!(store.ledger_entries().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_broken_chain_stops_the_agent_and_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let session = session(folder.path());
    let store = Arc::new(Store::in_memory().await.unwrap());
    charges(&session, &task(&session, 2), &store).await;
    // Whoever owns the file can drop the triggers; the chain tells.
    sqlx::query("DROP TRIGGER ledger_keeps_content").execute(&mut *store.connection().await).await.unwrap();
    sqlx::query(
        "UPDATE ledger SET entry = replace(entry, '\"noise_multiplier\":1.5', '\"noise_multiplier\":9.5')",
    )
    .execute(&mut *store.connection().await)
    .await
    .unwrap();
    let error = SiteLedger::open(store).await.err().unwrap();
    assert!(matches!(error, SiteLedgerError::Chain { .. }), "{error}");
    assert!(error.to_string().contains("backup"), "{error}");
}

#[tokio::test]
async fn a_permission_is_void_after_another_charge() {
    let folder = tempfile::tempdir().unwrap();
    let session = session(folder.path());
    let store = Arc::new(Store::in_memory().await.unwrap());
    let task = task(&session, 2);
    let request = crate::policy::ReleaseRequest {
        document: session.document(),
        task: &task,
        data: session.identity(),
        units: 40,
    };
    let policy = crate::policy::Policy::new(crate::testing::limits(), crate::policy::Purpose::Production);
    let mut budget = crate::policy::Budget::new(Arc::default());
    let mut ledger = SiteLedger::open(Arc::clone(&store)).await.unwrap();
    let first = policy
        .permit_release(&request, ledger.entries(), &crate::policy::Past::default(), &mut budget)
        .unwrap();
    let second = policy
        .permit_release(&request, ledger.entries(), &crate::policy::Past::default(), &mut budget)
        .unwrap();
    let id = crate::RandomSource::Os.update_id().unwrap();
    let charges = ledger.charge(first, id, NOW_MS).await.unwrap();
    assert_eq!(charges.len(), 1);
    assert!(matches!(ledger.charge(second, id, NOW_MS).await, Err(SiteLedgerError::PermitVoid)));
}

#[tokio::test]
async fn a_clock_set_back_a_little_is_tolerated_and_far_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let session = session(folder.path());
    let store = Arc::new(Store::in_memory().await.unwrap());
    charges(&session, &task(&session, 2), &store).await;
    let task = task(&session, 3);
    let mut ledger = SiteLedger::open(store).await.unwrap();
    let policy = crate::policy::Policy::new(crate::testing::limits(), crate::policy::Purpose::Production);
    let mut budget = crate::policy::Budget::new(Arc::default());
    for (now_ms, charged) in [(NOW_MS - 30_000, true), (NOW_MS - 90_000, false)] {
        let request = crate::policy::ReleaseRequest {
            document: session.document(),
            task: &task,
            data: session.identity(),
            units: 40,
        };
        let permit = policy
            .permit_release(&request, ledger.entries(), &crate::policy::Past::default(), &mut budget)
            .unwrap();
        let id = crate::RandomSource::Os.update_id().unwrap();
        assert_eq!(ledger.charge(permit, id, now_ms).await.is_ok(), charged);
    }
    assert_eq!(ledger.entries().len(), 2);
}

#[tokio::test]
async fn sent_updates_go_with_the_next_round_and_unsent_ones_when_stale() {
    let folder = tempfile::tempdir().unwrap();
    let session = session(folder.path());
    let store = Arc::new(Store::in_memory().await.unwrap());
    let (first, header, payload) = update(&session, 1, &[]);
    store.release_update(&first, &header, &payload, NOW_MS).await.unwrap();
    store.mark_sent(header.update_id, NOW_MS).await.unwrap();
    assert!(store.update_of(&first).await.unwrap().is_some());

    let charge = charges(&session, &task(&session, 2), &store).await;
    let (second, header, payload) = update(&session, 2, &charge);
    store.release_update(&second, &header, &payload, NOW_MS).await.unwrap();
    assert!(store.update_of(&first).await.unwrap().is_none());
    assert_eq!(store.discard_stale(&second).await.unwrap(), 0);
    let next_attempt = TaskKey { attempt: 2, ..second.clone() };
    assert_eq!(store.discard_stale(&next_attempt).await.unwrap(), 0);
    assert_eq!(store.update_of(&next_attempt).await.unwrap().unwrap().header, header);
    let next_round = TaskKey { round: 3, model_version: 2, ..second.clone() };
    assert_eq!(store.discard_stale(&next_round).await.unwrap(), 1);
    assert!(store.update_of(&second).await.unwrap().is_none());
    assert_eq!(store.ledger_entries().await.unwrap().len(), 1);
}

#[tokio::test]
async fn the_identity_key_is_made_once_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let store = Store::open(&state).await.unwrap();
    let key = store.identity_key().await.unwrap();
    drop(store);
    let store = Store::open(&state).await.unwrap();
    assert_eq!(store.identity_key().await.unwrap().as_bytes(), key.as_bytes());
    let other = Store::in_memory().await.unwrap();
    assert_ne!(other.identity_key().await.unwrap().as_bytes(), key.as_bytes());
    for statement in ["DELETE FROM identity_key", "UPDATE identity_key SET key = zeroblob(32)"] {
        assert!(sqlx::query(statement).execute(&mut *store.connection().await).await.is_err(), "{statement}");
    }
}

#[tokio::test]
async fn documents_come_back_with_their_digest() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let document = document(&[]);
    let kept = EnrolledStudy {
        study: document.id().clone(),
        digest: document.digest(),
        document: document.text().as_bytes().to_vec(),
    };
    let store = Store::open(&state).await.unwrap();
    store.keep_study(&kept, NOW_MS).await.unwrap();
    store.keep_study(&kept, NOW_MS + 1).await.unwrap();
    drop(store);
    let store = Store::open(&state).await.unwrap();
    assert_eq!(store.study(document.id()).await.unwrap().unwrap(), kept);
    assert!(store.study(&"other".parse().unwrap()).await.unwrap().is_none());
    let other = EnrolledStudy { digest: Digest::of(b"x"), ..kept };
    assert!(matches!(store.keep_study(&other, NOW_MS).await, Err(StoreError::Damaged { .. })));
}

#[test]
fn state_files_belong_to_the_agent_alone() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let store = runtime.block_on(Store::open(&state)).unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&state), 0o700);
    for entry in std::fs::read_dir(&state).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
    assert!(state.join(DATABASE_FILE).is_file());
    assert_eq!(store.cache_folder().unwrap(), state.join("cache"));
}
