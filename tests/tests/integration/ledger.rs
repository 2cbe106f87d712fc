//! What a hospital and an ethics board rely on, with the real programs: receipts that anybody can verify, and a ledger that notices
//! when it is older than it should be.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fusiondp_tests::harness::federation::text;
use fusiondp_tests::harness::{CommandLine, Federation, FederationOptions, both_streams, small};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(100);

async fn federation(root: &Path, rounds: u32) -> (Federation, String) {
    let sites = small::sites(&root.join("cohort"), 2, 300).unwrap();
    let mut federation =
        Federation::provision(&root.join("run"), sites, FederationOptions::default()).await.unwrap();
    let study = root.join("study.toml");
    fs::write(&study, small::split_study(rounds).unwrap().text()).unwrap();
    federation.start_coordinator().await.unwrap();
    federation.start_sites().unwrap();
    let id = federation.submit(&study).await.unwrap();
    (federation, id)
}

fn receipts(folder: &Path) -> CommandLine {
    CommandLine::new("fusiondp-coordinator").args(["receipts", "verify"]).arg(folder)
}

/// The key that a hospital tells.
async fn key(federation: &Federation, site: &str) -> String {
    let said = federation.verify_ledger(site).await.unwrap();
    said.lines().find_map(|line| line.strip_prefix("ledger key ")).unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn receipts_are_verified_offline_and_what_was_changed_is_named() {
    let root = tempfile::tempdir().unwrap();
    let (mut federation, id) = federation(root.path(), 6).await;
    federation.wait_finished(&id, LIMIT).await.unwrap();
    let out = root.path().join("report");
    federation.export(&id, &out).await.unwrap();
    let told = format!("hospital-a={}", key(&federation, "hospital-a").await);
    let own = root.path().join("own.jsonl");
    let export = CommandLine::new("fusiondp-site").args(["ledger", "export", "--config"]);
    let export =
        export.arg(federation.site_toml("hospital-a")).arg("--study").arg(&id).arg("--out").arg(&own);
    export.run().await.unwrap();
    federation.stop().await.unwrap();

    // What the hospital has kept is what the coordinator hands out.
    let file = out.join("receipts-hospital-a.jsonl");
    assert_eq!(fs::read_to_string(&own).unwrap(), fs::read_to_string(&file).unwrap());
    let said = receipts(&out).args(["--key", &told]).stdout().await.unwrap();
    assert!(said.contains("holds") && said.contains("consortium, recomputed from the receipts"), "{said}");
    let json: Value = serde_json::from_str(&receipts(&out).arg("--json").stdout().await.unwrap()).unwrap();
    let report: Value = serde_json::from_slice(&fs::read(out.join("report.json")).unwrap()).unwrap();
    assert_eq!(json["epsilon"], report["epsilon"]);
    assert_eq!(json["sites"].as_array().unwrap().len(), 2);

    let honest = fs::read_to_string(&file).unwrap();
    let without_the_last: String = honest
        .lines()
        .enumerate()
        .filter(|(line, _)| *line != 3)
        .map(|(_, line)| format!("{line}\n"))
        .collect();
    let cases = [
        (honest.replacen("\"round\":3", "\"round\":2", 1), "the receipt was altered"),
        (without_the_last, "the site counts are in no receipt"),
        (honest.replacen("\"private_values\":", "\"private_values\": ", 1), "canonical form"),
    ];
    for (changed, named) in cases {
        fs::write(&file, changed).unwrap();
        let output = receipts(&out).output().await.unwrap();
        let said = both_streams(&output);
        assert!(!output.status.success() && said.contains(named), "{named}: {said}");
    }
    fs::write(&file, honest).unwrap();
    let stranger = format!("hospital-a={}", "00".repeat(32));
    let output = receipts(&out).args(["--key", &stranger]).output().await.unwrap();
    assert!(!output.status.success() && both_streams(&output).contains("the hospital's is"));
}

/// State folder and journal of a site.
fn state(federation: &Federation, site: &str) -> (PathBuf, PathBuf) {
    let kit = federation.site_toml(site).parent().unwrap().to_owned();
    (kit.join("state"), kit.join("state.ledger.jsonl"))
}

fn copy(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        if entry.path().is_file() {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

/// Starts a site's agent, which must end by itself, and returns what it logged.
async fn refused(federation: &mut Federation, site: &str) -> String {
    let before = federation.site_log_text(site).len();
    federation.start_site(site).unwrap();
    for _ in 0..400 {
        if federation.check_alive().is_err() {
            return federation.site_log_text(site)[before..].to_owned();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the agent of {site} went on: {}", &federation.site_log_text(site)[before..]);
}

async fn reach(federation: &mut Federation, id: &str, wanted: u64) {
    let round = |status: &Value| status["round"].as_u64().unwrap_or(0);
    let status = federation.wait_until(id, "rounds", LIMIT, |status| round(status) >= wanted).await.unwrap();
    assert_eq!(text(&status, "state"), "running", "the study ended before it could be disturbed");
}

async fn round_of(federation: &Federation, id: &str) -> u64 {
    federation.status(id).await.unwrap()["round"].as_u64().unwrap()
}

fn restore(federation: &Federation, site: &str, from: Option<&Path>) -> CommandLine {
    let line =
        CommandLine::new("fusiondp-site").args(["ledger", "restore", "--by", "it", "--reason", "restored"]);
    let line = line.arg("--config").arg(federation.site_toml(site));
    match from {
        Some(file) => line.arg("--from").arg(file),
        None => line,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_backup_stops_its_agent_until_the_charges_are_back() {
    let root = tempfile::tempdir().unwrap();
    let (mut federation, id) = federation(root.path(), 5_000).await;
    let site = "hospital-b";
    reach(&mut federation, &id, 5).await;
    federation.kill_site(site).await.unwrap();
    let (folder, journal) = state(&federation, site);
    let (backup, old_journal) = (root.path().join("backup"), root.path().join("old.jsonl"));
    copy(&folder, &backup);
    fs::copy(&journal, &old_journal).unwrap();
    federation.start_site(site).unwrap();
    let reached = round_of(&federation, &id).await + 10;
    reach(&mut federation, &id, reached).await;
    federation.kill_site(site).await.unwrap();
    let entries = fs::read_to_string(&journal).unwrap().lines().count() - 1;

    // The folder alone is restored: the journal knows more, and has it.
    copy(&backup, &folder);
    let said = refused(&mut federation, site).await;
    assert!(said.contains("restored from an older backup") && said.contains("ledger restore"), "{said}");
    federation.kill_site(site).await.unwrap_or_default();
    let said = restore(&federation, site, None).stdout().await.unwrap();
    assert!(said.contains("added as they were"), "{said}");
    let verified = federation.verify_ledger(site).await.unwrap();
    assert!(verified.contains(&format!("the chain of {entries} entries holds")), "{verified}");
    federation.start_site(site).unwrap();
    let reached = round_of(&federation, &id).await + 5;
    reach(&mut federation, &id, reached).await;

    // Folder and journal are restored together: only the coordinator knows more. Its receipts bring the charges back.
    federation.kill_site(site).await.unwrap();
    copy(&backup, &folder);
    fs::copy(&old_journal, &journal).unwrap();
    let said = refused(&mut federation, site).await;
    assert!(said.contains("the coordinator holds entry") && said.contains("receipts-SITE.jsonl"), "{said}");
    federation.kill_site(site).await.unwrap_or_default();
    let out = root.path().join("report");
    federation.export(&id, &out).await.unwrap();
    let said =
        restore(&federation, site, Some(&out.join("receipts-hospital-b.jsonl"))).stdout().await.unwrap();
    assert!(said.contains("the agent can be started"), "{said}");
    federation.start_site(site).unwrap();
    let reached = round_of(&federation, &id).await + 5;
    reach(&mut federation, &id, reached).await;
    federation.stop().await.unwrap();
}
