//! kill -9 in the middle of a study, restart, and what must still hold.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

use fusiondp_coordinator::store::{Store, StoreOptions};
use fusiondp_dp::{Delta, DpEvent, LedgerEntry, NeighboringRelation, epsilon};
use fusiondp_protocol::ids::StudyId;
use fusiondp_tests::harness::federation::text;
use fusiondp_tests::harness::{Federation, FederationOptions, small};
use serde_json::Value;

const ROUNDS: u32 = 250;
/// Rounds without a charge of [`projected_study`].
const WARMUP: u32 = 5;
const DELTA: f64 = 1e-5;
const LIMIT: Duration = Duration::from_secs(100);

async fn running_study(root: &Path) -> (Federation, String) {
    running(root, small::split_study(ROUNDS).unwrap().text()).await
}

/// A study that projects private gradients: its model versions carry directions, which must survive a restart.
fn projected_study() -> String {
    let mut study = small::mlp_study(ROUNDS, &"00".repeat(32)).unwrap();
    study.replace_section("imputer", "kind = \"redacted\"").unwrap();
    let fusion = format!("mode = \"calibrated\"\nwarmup_rounds = {WARMUP}\nprivate_directions = 5");
    study.replace_section("fusion", &fusion).unwrap();
    study.text().to_owned()
}

async fn running(root: &Path, document: &str) -> (Federation, String) {
    let sites = small::sites(&root.join("cohort"), 2, 300).unwrap();
    let mut federation =
        Federation::provision(&root.join("run"), sites, FederationOptions::default()).await.unwrap();
    let study = root.join("study.toml");
    fs::write(&study, document).unwrap();
    federation.start_coordinator().await.unwrap();
    federation.start_sites().unwrap();
    let id = federation.submit(&study).await.unwrap();
    reach(&mut federation, &id, 10).await;
    (federation, id)
}

/// Waits for a round of the study, which must still be running then.
async fn reach(federation: &mut Federation, id: &str, wanted: u64) {
    let reached = federation.wait_until(id, "further rounds", LIMIT, |status| round(status) >= wanted);
    let status = reached.await.unwrap();
    assert_eq!(text(&status, "state"), "running", "the study ended before it could be disturbed");
}

fn round(status: &Value) -> u64 {
    status["round"].as_u64().unwrap_or(0)
}

/// Every round applied once, every charge accounted for, no epsilon below what the ledgers' events give.
///
/// `warmup` rounds at the start charge nothing.
async fn assert_sound(federation: Federation, id: &str, status: &Value, warmup: u32) {
    assert_eq!(round(status), u64::from(ROUNDS));
    let ids: Vec<String> = federation.site_ids().map(str::to_owned).collect();
    let mut ledgers = BTreeMap::new();
    for site in &ids {
        federation.verify_ledger(site).await.unwrap();
        ledgers.insert(site.clone(), federation.ledger(site, DELTA).await.unwrap());
    }
    for site in status["sites"].as_array().unwrap() {
        let name = text(site, "site_id");
        let events = events(&ledgers[name]);
        let contributed = site["rounds_contributed"].as_u64().unwrap() - u64::from(warmup);
        assert!(events.len() as u64 >= contributed, "{name}: {} events, {contributed} rounds", events.len());
        for (relation, key) in [
            (NeighboringRelation::Replace, "epsilon_replace"),
            (NeighboringRelation::ZeroOut, "epsilon_zero_out"),
        ] {
            let spent = epsilon(&events, Delta::new(DELTA).unwrap(), relation).unwrap().get();
            let reported = site[key].as_f64().unwrap();
            assert!(reported >= spent * (1.0 - 1e-9), "{name} {key}: reported {reported}, ledger {spent}");
        }
    }
    let database = federation.coordinator_database();
    federation.stop().await.unwrap();
    assert_rounds_applied_once(database.parent().unwrap(), id).await;
}

fn events(ledger: &Value) -> Vec<DpEvent> {
    let entries = ledger["entries"].as_array().unwrap();
    let entry = |value: &Value| serde_json::from_value::<LedgerEntry>(value["entry"].clone()).unwrap();
    entries.iter().map(|value| entry(value).charge().event).collect()
}

/// Reads the coordinator's own database after it has ended.
async fn assert_rounds_applied_once(state_dir: &Path, id: &str) {
    let options = StoreOptions { state_dir: state_dir.to_owned(), database_url: None };
    let store = Store::open(&options).await.unwrap();
    let id: StudyId = id.parse().unwrap();
    let study = store.study(&id).await.unwrap().unwrap();
    assert_eq!(study.rounds_applied, ROUNDS);
    // Version 1 is the initial model and each applied round adds one.
    assert_eq!(study.model_version, u64::from(ROUNDS) + 1);
    let finished = store.finished_rounds(&id, ROUNDS + 10).await.unwrap();
    assert_eq!(finished.len(), ROUNDS as usize);
    // With two sites and two needed, every round has exactly one accepted update of each.
    let mut accepted = BTreeSet::new();
    for update in store.updates(&id).await.unwrap().into_iter().filter(|update| !update.late) {
        assert!(accepted.insert((update.round, update.site.to_string())), "round {} twice", update.round);
    }
    assert_eq!(accepted.len(), 2 * ROUNDS as usize);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_coordinator_resumes_its_round() {
    let root = tempfile::tempdir().unwrap();
    let (mut federation, id) = running_study(root.path()).await;
    for wanted in [30, 60] {
        federation.kill_coordinator().await.unwrap();
        federation.start_coordinator().await.unwrap();
        reach(&mut federation, &id, wanted).await;
    }
    let status = federation.wait_finished(&id, LIMIT).await.unwrap();
    assert_sound(federation, &id, &status, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_site_goes_on_where_it_was() {
    let root = tempfile::tempdir().unwrap();
    let (mut federation, id) = running_study(root.path()).await;
    for wanted in [30, 60] {
        federation.kill_site("hospital-b").await.unwrap();
        federation.start_site("hospital-b").unwrap();
        reach(&mut federation, &id, wanted).await;
    }
    let status = federation.wait_finished(&id, LIMIT).await.unwrap();
    assert_sound(federation, &id, &status, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_projected_study_goes_on_after_kills_of_both_sides() {
    let root = tempfile::tempdir().unwrap();
    let (mut federation, id) = running(root.path(), &projected_study()).await;
    federation.kill_coordinator().await.unwrap();
    federation.start_coordinator().await.unwrap();
    reach(&mut federation, &id, 30).await;
    federation.kill_site("hospital-b").await.unwrap();
    federation.start_site("hospital-b").unwrap();
    let status = federation.wait_finished(&id, LIMIT).await.unwrap();
    assert_sound(federation, &id, &status, WARMUP).await;
}
