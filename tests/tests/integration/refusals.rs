//! What a consortium must see when a study does not go as planned.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::time::Duration;

use fusiondp_tests::harness::federation::text;
use fusiondp_tests::harness::{Federation, FederationOptions, Policy, SiteSetup, small, toml_text::TomlText};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(60);

async fn federation(root: &Path, policies: &[Policy]) -> Federation {
    let mut sites = small::sites(&root.join("cohort"), policies.len() as u32, 200).unwrap();
    for (site, policy) in sites.iter_mut().zip(policies) {
        site.policy = *policy;
    }
    start(root, sites).await
}

async fn start(root: &Path, sites: Vec<SiteSetup>) -> Federation {
    let mut federation =
        Federation::provision(&root.join("run"), sites, FederationOptions::default()).await.unwrap();
    federation.start_coordinator().await.unwrap();
    federation
}

async fn submit(federation: &Federation, root: &Path, study: &TomlText) -> String {
    let path = root.join("study.toml");
    fs::write(&path, study.text()).unwrap();
    federation.submit(&path).await.unwrap()
}

fn site<'a>(status: &'a Value, id: &str) -> &'a Value {
    status["sites"].as_array().unwrap().iter().find(|site| text(site, "site_id") == id).unwrap()
}

fn has_ended(status: &Value) -> bool {
    ["finished", "failed", "stopped"].contains(&text(status, "state"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_over_its_budget_declines_and_the_study_says_so() {
    let root = tempfile::tempdir().unwrap();
    let tight = Policy { max_epsilon_replace: 0.2, ..Policy::default() };
    let mut federation = federation(root.path(), &[Policy::default(), tight]).await;
    federation.start_sites().unwrap();
    let id = submit(&federation, root.path(), &small::split_study(5).unwrap()).await;
    let status = federation.wait_until(&id, "the end", LIMIT, has_ended).await.unwrap();
    assert_eq!(text(&status, "state"), "failed", "{status:#}");
    assert!(text(&status, "detail").contains("hospital-b"), "{status:#}");
    let refused = site(&status, "hospital-b");
    assert_eq!(text(refused, "state"), "declined", "{status:#}");
    assert!(text(refused, "detail").contains("0.2"), "{status:#}");
    let spent = federation.ledger("hospital-b", 1e-5).await.unwrap();
    assert_eq!(spent["entries"].as_array().unwrap().len(), 0, "a refused study charged something");
    federation.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_others_go_on_without_a_site_that_declines() {
    let root = tempfile::tempdir().unwrap();
    let tight = Policy { max_epsilon_replace: 0.2, ..Policy::default() };
    let mut federation = federation(root.path(), &[Policy::default(), Policy::default(), tight]).await;
    federation.start_sites().unwrap();
    let id = submit(&federation, root.path(), &small::split_study(5).unwrap()).await;
    let status = federation.wait_finished(&id, LIMIT).await.unwrap();
    assert_eq!(text(site(&status, "hospital-c"), "state"), "declined");
    assert_eq!(site(&status, "hospital-a")["rounds_contributed"], 5);
    assert_eq!(site(&status, "hospital-c")["rounds_contributed"], 0);
    federation.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn too_few_sites_end_a_study_with_the_missing_ones_named() {
    let root = tempfile::tempdir().unwrap();
    let mut federation = federation(root.path(), &[Policy::default(), Policy::default()]).await;
    federation.start_site("hospital-a").unwrap();
    let mut study = small::split_study(5).unwrap();
    study.set("federation", "enrolment_timeout_s", 3).unwrap();
    let id = submit(&federation, root.path(), &study).await;
    let status = federation.wait_until(&id, "the end", LIMIT, has_ended).await.unwrap();
    assert_eq!(text(&status, "state"), "failed");
    assert!(text(&status, "detail").contains("hospital-b"), "{status:#}");
    federation.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_that_a_site_forbids_stay_there() {
    let root = tempfile::tempdir().unwrap();
    let silent = Policy { allow_metrics: false, ..Policy::default() };
    let mut federation = federation(root.path(), &[Policy::default(), silent]).await;
    federation.start_sites().unwrap();
    let id = submit(&federation, root.path(), &small::split_study(5).unwrap()).await;
    let status = federation.wait_finished(&id, LIMIT).await.unwrap();
    let metrics = status["metrics"].as_array().unwrap();
    assert!(metrics.iter().any(|metric| text(metric, "site_id") == "hospital-a"), "{status:#}");
    assert!(!metrics.iter().any(|metric| text(metric, "site_id") == "hospital-b"), "{status:#}");
    federation.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_is_still_good() {
    let root = tempfile::tempdir().unwrap();
    let mut federation = federation(root.path(), &[Policy::default(), Policy::default()]).await;
    federation.start_sites().unwrap();
    // Longer than a long poll and two keep-alive intervals.
    tokio::time::sleep(Duration::from_secs(45)).await;
    let id = submit(&federation, root.path(), &small::split_study(3).unwrap()).await;
    federation.wait_finished(&id, LIMIT).await.unwrap();
    let log = federation.site_log_text("hospital-a");
    assert_eq!(log.matches("registered with the coordinator").count(), 1, "the connection was lost:\n{log}");
    federation.stop().await.unwrap();
}
