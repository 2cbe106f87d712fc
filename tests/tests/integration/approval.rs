//! The walk of docs/PRIVACY_OPERATIONS.md with real programs over TLS: a study waits for approval, is approved, another is
//! rejected, a third one finds the year's budget spent; and an imputer that was fitted on a site's own patients.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::time::Duration;

use fusiondp_tests::harness::federation::{COORDINATOR, SITE, text};
use fusiondp_tests::harness::{
    CommandLine, Federation, FederationOptions, Policy, both_streams, small, toml_text::TomlText,
};
use serde_json::Value;
use sha2::{Digest, Sha256};

const LIMIT: Duration = Duration::from_secs(90);
const SITE_B: &str = "hospital-b";

/// Two hospitals; the second one approves by hand and has a limit per year.
async fn federation(root: &Path) -> Federation {
    let mut sites = small::sites(&root.join("cohort"), 2, 200).unwrap();
    sites[1].policy = Policy { automatic: false, ..Policy::default() };
    let mut federation =
        Federation::provision(&root.join("run"), sites, FederationOptions::default()).await.unwrap();
    let file = federation.site_toml(SITE_B);
    let mut config = TomlText::new(&fs::read_to_string(&file).unwrap());
    config.set("policy.per_year", "max_epsilon_replace", 1.2).unwrap();
    fs::write(&file, config.text()).unwrap();
    federation.start_coordinator().await.unwrap();
    federation.start_sites().unwrap();
    federation
}

fn study(name: &str, changes: &[(&str, &str, toml::Value)]) -> TomlText {
    let mut study = small::split_study(5).unwrap();
    study.set("study", "name", name).unwrap();
    for (section, key, value) in changes {
        study.set(section, key, value.clone()).unwrap();
    }
    study
}

async fn submit(federation: &Federation, root: &Path, study: &TomlText) -> String {
    let path = root.join("study.toml");
    fs::write(&path, study.text()).unwrap();
    federation.submit(&path).await.unwrap()
}

/// A command of the second hospital.
fn site(federation: &Federation, args: &[&str]) -> CommandLine {
    CommandLine::new(SITE).args(args).arg("--config").arg(federation.site_toml(SITE_B))
}

/// What a command of the second hospital says; its exit code is 0.
async fn says(federation: &Federation, args: &[&str]) -> String {
    let said = site(federation, args).stdout().await.unwrap();
    // `--nocapture` prints the page's output.
    println!("$ fusiondp-site {}\n{said}", args.join(" "));
    said
}

async fn status(federation: &Federation) -> Value {
    serde_json::from_str(&site(federation, &["status", "--json"]).stdout().await.unwrap()).unwrap()
}

fn has_ended(status: &Value) -> bool {
    ["finished", "failed", "stopped"].contains(&text(status, "state"))
}

/// Whether the coordinator shows that the second hospital has said this.
fn told(status: &Value, part: &str) -> bool {
    let sites = status["sites"].as_array().unwrap();
    sites.iter().any(|site| text(site, "site_id") == SITE_B && text(site, "detail").contains(part))
}

async fn wait_for_approval(federation: &mut Federation, id: &str) {
    let waits = |status: &Value| told(status, "waits for approval by the site");
    federation.wait_until(id, "a site that waits for approval", LIMIT, waits).await.unwrap();
}

/// Spent of the limit in this section under replace.
fn spent(status: &Value, section: &str) -> f64 {
    let lines = status["data_sets"][0]["limits"].as_array().unwrap();
    let line = lines.iter().find(|line| line["section"] == section && line["relation"] == "replace").unwrap();
    line["spent"].as_f64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hospital_approves_rejects_and_spends_its_budget() {
    let root = tempfile::tempdir().unwrap();
    let mut federation = federation(root.path()).await;
    let first = submit(&federation, root.path(), &study("first", &[])).await;
    wait_for_approval(&mut federation, &first).await;
    approve_first(&mut federation, &first).await;
    reject_second(&mut federation, root.path(), &first).await;
    spend_the_year(&mut federation, root.path()).await;
    federation.stop().await.unwrap();
}

async fn approve_first(federation: &mut Federation, first: &str) {
    assert!(says(federation, &["studies"]).await.contains("waits for approval"));
    assert!(says(federation, &["status"]).await.contains("agent       runs, process"));
    // Nobody at the keyboard is no yes.
    let unanswered = site(federation, &["approve", first, "--by", "A. Person"]).output().await.unwrap();
    assert_eq!(unanswered.status.code(), Some(1), "{}", both_streams(&unanswered));
    assert!(both_streams(&unanswered).contains("not approved"), "{}", both_streams(&unanswered));
    let plan = says(federation, &["approve", first, "--yes", "--by", "A. Person"]).await;
    for part in [
        "asked for by          consortium test",
        "sensitive columns     Age, Gender",
        "label                 SepsisLabel (not protected)",
        "all sensitive values of each patient, named by column patient_id",
        "epsilon at most 1 under replace at delta 0.00001",
        "leaves without noise  gradients computed from public columns",
        " patients with ",
        "No other study was approved at this site before",
        "approved by A. Person",
    ] {
        assert!(plan.contains(part), "{part}: {plan}");
    }
    federation.wait_finished(first, LIMIT).await.unwrap();
    let status = status(federation).await;
    assert_eq!(status["studies"][0]["state"], "approved");
    assert_eq!(status["studies"][0]["decided_by"], "A. Person");
    let year = spent(&status, "policy.per_year");
    assert!(year > 0.9 && year <= 1.0, "{status:#}");
    assert_eq!(year, spent(&status, "policy.per_study"));
}

async fn reject_second(federation: &mut Federation, root: &Path, first: &str) {
    let wider = study("first", &[("privacy", "clip_norm", 3.5.into())]);
    let second = submit(federation, root, &wider).await;
    wait_for_approval(federation, &second).await;
    let shown = site(federation, &["approve", &second, "--by", "A. Person"]).output().await.unwrap();
    let shown = both_streams(&shown);
    println!("$ fusiondp-site approve {second}\n{shown}");
    assert!(shown.contains(&format!("Difference from {first}, approved by A. Person")), "{shown}");
    assert!(shown.contains("privacy.clip_norm  ") && shown.contains(" -> 3.5"), "{shown}");
    says(federation, &["reject", &second, "--reason", "clip norm too large for us", "--by", "A. Person"])
        .await;
    let status = federation.wait_until(&second, "the end", LIMIT, has_ended).await.unwrap();
    assert!(told(&status, "the site has rejected the study"), "{status:#}");
    assert!(!status.to_string().contains("too large for us"), "the site's own reason: {status:#}");
    let said = says(federation, &["status"]).await;
    assert!(said.contains("rejected at this site: clip norm too large for us"), "{said}");
}

async fn spend_the_year(federation: &mut Federation, root: &Path) {
    let changes = [("federation", "min_sites", 1.into())];
    let third = submit(federation, root, &study("third", &changes)).await;
    wait_for_approval(federation, &third).await;
    let plan = says(federation, &["approve", &third, "--yes", "--by", "A. Person"]).await;
    assert!(plan.contains("beyond the limit"), "{plan}");
    let status = federation.wait_until(&third, "the end", LIMIT, has_ended).await.unwrap();
    assert!(told(&status, "policy.per_year.max_epsilon_replace = 1.2"), "{status:#}");
    assert!(!told(&status, "would be"), "what others have spent: {status:#}");
    let said = says(federation, &["status"]).await;
    assert!(said.contains("replace epsilon would be") && said.contains("budget-exceeded"), "{said}");
    let year = spent(&self::status(federation).await, "policy.per_year");
    assert!(year <= 1.2 && year > 1.0, "{year}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_imputer_fitted_on_a_sites_own_patients_is_refused_there() {
    let root = tempfile::tempdir().unwrap();
    let sites = small::sites(&root.path().join("cohort"), 1, 200).unwrap();
    let training = sites[0].data.join("train.csv");
    let mut federation =
        Federation::provision(&root.path().join("run"), sites, FederationOptions::default()).await.unwrap();
    let draft = root.path().join("draft.toml");
    fs::write(&draft, small::mlp_study(3, &"00".repeat(32)).unwrap().text()).unwrap();
    let imputer = federation.imputers().join("imputer.onnx");
    let fit = CommandLine::new(COORDINATOR).args(["imputer", "fit", "--epochs", "1", "--schema"]).arg(&draft);
    let said = fit.arg("--support").arg(&training).arg("--out").arg(&imputer).stdout().await.unwrap();
    assert!(said.contains("support patients listed by digest"), "{said}");
    federation.start_coordinator().await.unwrap();
    federation.start_sites().unwrap();
    let sha256 = hex::encode(Sha256::digest(fs::read(&imputer).unwrap()));
    let mut study = small::mlp_study(3, &sha256).unwrap();
    study.set("federation", "min_sites", 1).unwrap();
    let id = submit(&federation, root.path(), &study).await;
    let status = federation.wait_until(&id, "the end", LIMIT, has_ended).await.unwrap();
    assert_eq!(text(&status, "state"), "failed");
    let detail = text(&status, "detail");
    assert!(detail.contains("imputer-mismatch") && detail.contains("fit it on other patients"), "{detail}");
    let log = federation.site_log_text("hospital-a");
    assert!(log.contains("of this site's patients, whose ids are in its list"), "{log}");
    federation.stop().await.unwrap();
}
