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

/// Certificate of the authority, as every kit has it.
fn authority(federation: &Federation) -> PathBuf {
    federation.admin().join("ca.pem")
}

/// The first line of a site's receipts, and the others.
fn parts(file: &Path) -> (Value, String) {
    let text = fs::read_to_string(file).unwrap();
    let (header, lines) = text.split_once('\n').unwrap();
    (serde_json::from_str(header).unwrap(), lines.to_owned())
}

fn statements(file: &Path) -> usize {
    parts(file).0["key_statements"].as_array().map_or(0, Vec::len)
}

#[tokio::test(flavor = "multi_thread")]
async fn whose_key_signed_is_checked_offline_under_the_consortiums_authority() {
    let root = tempfile::tempdir().unwrap();
    let (mut federation, id) = federation(root.path(), 4).await;
    federation.wait_finished(&id, LIMIT).await.unwrap();
    // A renewed certificate is stated at the next registration; the receipts are handed out with both.
    federation.kill_site("hospital-a").await.unwrap();
    let kit = federation.site_toml("hospital-a").parent().unwrap().to_owned();
    fs::remove_file(kit.join("site.pem")).unwrap();
    let again = CommandLine::new("fusiondp-coordinator").arg("provision");
    let again = again.arg(root.path().join("run/consortium.toml")).arg("--out").arg(federation.pki());
    again.stdout().await.unwrap();
    let registered = federation.site_log_text("hospital-a").matches("registered with").count();
    federation.start_site("hospital-a").unwrap();
    for _ in 0..400 {
        if federation.site_log_text("hospital-a").matches("registered with").count() > registered {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let out = root.path().join("report");
    federation.export(&id, &out).await.unwrap();
    let (a, b) = (out.join("receipts-hospital-a.jsonl"), out.join("receipts-hospital-b.jsonl"));
    let logs = [federation.coordinator_log_text(), federation.site_log_text("hospital-a")].concat();
    let ca = authority(&federation);
    federation.stop().await.unwrap();
    assert_eq!((statements(&a), statements(&b)), (2, 1));
    // The key's own text, as its file has it.
    let secret = fs::read_to_string(kit.join("site.key")).unwrap();
    assert!(!logs.contains(secret.lines().nth(1).unwrap()), "a private key is in a log");

    let said = receipts(&out).arg("--ca").arg(&ca).stdout().await.unwrap();
    assert_eq!(said.matches("hospital-a: key bound to certificate ").count(), 2, "{said}");
    assert!(said.contains(" of site hospital-b, valid ") && !said.contains("was not checked"), "{said}");
    let said = receipts(&out).stdout().await.unwrap();
    assert_eq!(said.matches("whose key this is was not checked; give --ca").count(), 2, "{said}");

    // What the coordinator can write: no statement, another site's, its own key.
    let honest = fs::read_to_string(&a).unwrap();
    let (mut header, lines) = parts(&a);
    let whole = header.clone();
    let with = |header: &Value| format!("{header}\n{lines}");
    header["key_statements"] = parts(&b).0["key_statements"].clone();
    let borrowed = with(&header);
    header.as_object_mut().unwrap().remove("key_statements");
    let older = with(&header);
    let mut altered = whole.clone();
    let digits = altered["key_statements"][0]["signature"].as_str().unwrap().to_owned();
    let flipped = if digits.starts_with('0') { "1" } else { "0" };
    altered["key_statements"][0]["signature"] = format!("{flipped}{}", &digits[1..]).into();
    for (text, named) in [
        (borrowed, "is of site hospital-b"),
        (older, "holds no key statement"),
        (with(&altered), "not signed with the ledger key"),
    ] {
        fs::write(&a, text).unwrap();
        let output = receipts(&out).arg("--ca").arg(&ca).output().await.unwrap();
        let said = both_streams(&output);
        assert!(output.status.code() == Some(1) && said.contains(named), "{named}: {said}");
        assert!(
            receipts(&out).output().await.unwrap().status.success(),
            "without --ca nobody looks: {named}"
        );
    }
    fs::write(&a, honest).unwrap();
    // Another consortium's authority.
    let others = small::sites(&root.path().join("others"), 1, 100).unwrap();
    let other = root.path().join("other");
    let other = Federation::provision(&other, others, FederationOptions::default()).await.unwrap();
    let foreign = authority(&other);
    let output = receipts(&out).arg("--ca").arg(&foreign).output().await.unwrap();
    assert!(!output.status.success() && both_streams(&output).contains("unknown authority"));
    let output = receipts(&out).arg("--ca").arg(&a).output().await.unwrap();
    assert!(!output.status.success() && both_streams(&output).contains("--ca"));
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
