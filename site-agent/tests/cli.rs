//! The program itself, as a site's IT meets it.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::{Command, Output};

const CONFIG: &str = r#"
coordinator = "https://127.0.0.1:1"
coordinator_id = "coordinator"
state_dir = "state"
[tls]
ca = "ca.pem"
certificate = "site.pem"
key = "site.key"
[data]
train = "train.csv"
[policy]
max_epsilon_replace = 3.0
max_epsilon_zero_out = 3.0
allow_public_gradient = true
allow_metrics = false
public_columns = ["age"]
unit_column = false
"#;

fn site(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_fusiondp-site")).args(args).current_dir(folder).output().unwrap()
}

fn folder(config: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("site.toml"), config).unwrap();
    folder
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn check_has_one_line_per_item_and_exit_code_1_when_one_fails() {
    let folder = folder(CONFIG);
    std::fs::write(folder.path().join("train.csv"), "id,a\n1,2\n").unwrap();
    let output = site(folder.path(), &["check"]);
    let lines = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{lines}");
    for start in [
        "ok    configuration:",
        "ok    ledger:",
        "FAIL  certificate:",
        "ok    data, train:",
        "FAIL  coordinator:",
    ] {
        assert!(lines.lines().any(|line| line.starts_with(start)), "{start}: {lines}");
    }
    assert!(lines.contains("site.pem"), "{lines}");
}

#[test]
fn check_reads_the_data_under_a_study_and_says_which_line_is_wrong() {
    let folder = folder(CONFIG);
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/samples/bank-study.toml");
    std::fs::write(folder.path().join("train.csv"), "age,y\n40,no\n").unwrap();
    let output = site(folder.path(), &["check", "--study", sample, "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let items: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let train = items.as_array().unwrap().iter().find(|item| item["item"] == "data, train").unwrap();
    assert_eq!(train["ok"], false);
    let detail = train["detail"].as_str().unwrap();
    assert!(detail.contains("train.csv") && detail.contains("is missing"), "{detail}");
}

#[test]
fn a_wrong_configuration_is_named_by_field_for_every_command() {
    let folder = folder(&CONFIG.replace("allow_metrics = false", "allow_metrics = 0"));
    for args in [&["run"][..], &["check"], &["ledger", "show"], &["ledger", "verify"]] {
        let output = site(folder.path(), args);
        let said = text(&output.stdout) + &text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        assert!(said.contains("policy.allow_metrics"), "{args:?}: {said}");
    }
}

#[test]
fn run_does_not_start_without_a_certificate() {
    let folder = folder(CONFIG);
    let output = site(folder.path(), &["run"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("site.pem"), "{}", text(&output.stderr));
    assert!(!folder.path().join("state").exists());
}

#[test]
fn a_ledger_is_shown_and_verified_or_said_to_be_missing() {
    let folder = folder(CONFIG);
    let missing = site(folder.path(), &["ledger", "verify"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(text(&missing.stderr).contains("has not run"), "{}", text(&missing.stderr));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let state = folder.path().join("state");
    // Held open: the ledger can be read while an agent runs.
    let _store = runtime.block_on(fusiondp_site_agent::store::Store::open(&state)).unwrap();
    let verified = site(folder.path(), &["ledger", "verify"]);
    assert_eq!(verified.status.code(), Some(0), "{}", text(&verified.stderr));
    assert!(text(&verified.stdout).contains("0 entries"));
    let shown = site(folder.path(), &["ledger", "show", "--json", "--delta", "1e-6"]);
    let document: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!((document["delta"].as_f64(), document["entries"].as_array().unwrap().len()), (Some(1e-6), 0));
    let wrong = site(folder.path(), &["ledger", "show", "--delta", "1.5"]);
    assert!(text(&wrong.stderr).contains("delta"), "{}", text(&wrong.stderr));
}

#[test]
fn a_wrong_command_line_is_exit_code_2_and_help_has_examples() {
    let folder = folder(CONFIG);
    assert_eq!(site(folder.path(), &["chekc"]).status.code(), Some(2));
    for command in [&["run", "--help"][..], &["check", "--help"], &["ledger", "show", "--help"]] {
        let help = site(folder.path(), command);
        assert!(text(&help.stdout).contains("Example: fusiondp-site"), "{command:?}");
    }
}

/// A state folder that was offered a study.
fn offered(folder: &Path, study: &str) -> fusiondp_protocol::StudyDocument {
    use fusiondp_protocol::messages::EnrolmentOffer;
    use fusiondp_site_agent::store::{Look, Store};
    let document = fusiondp_protocol::StudyDocument::from_bytes(study.as_bytes()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = Store::open(&folder.join("state")).await.unwrap();
        let offer = EnrolmentOffer::new(&document, 1_790_000_600_000);
        store.record_offer(&offer, "consortium x", 1_790_000_000_000).await.unwrap();
        let look = Look::Ready { units: 5_000, records: 5_000, data_set: fusiondp_dp::Digest::of(b"data") };
        store.record_look(document.digest(), &look, 1_790_000_000_001).await.unwrap();
    });
    document
}

const SMALL: &str = include_str!("../../coordinator/tests/data/study.toml");

/// A site on whose policy nothing of [`SMALL`] depends.
fn open_site() -> tempfile::TempDir {
    folder(&CONFIG.replace("public_columns = [\"age\"]", "public_columns = [\"a\", \"y\"]"))
}

#[test]
fn a_person_approves_and_rejects_and_status_says_who() {
    let folder = open_site();
    let id = offered(folder.path(), SMALL).id().to_string();
    let said = |args: &[&str]| {
        let output = site(folder.path(), args);
        (output.status.code(), text(&output.stdout) + &text(&output.stderr))
    };
    assert!(said(&["studies"]).1.contains("waits for approval"));
    // The beginning of the id is enough; an empty standard input is no yes.
    let (code, plan) = said(&["approve", "small", "--by", "A. Person"]);
    assert_eq!(code, Some(1), "{plan}");
    for part in
        [&id[..], "consortium x", "5000 patients", "[y/N]", "not approved", "this study", "delta 0.00001"]
    {
        assert!(plan.contains(part), "{part}: {plan}");
    }
    let (code, plan) = said(&["approve", &id, "--yes", "--by", "A. Person"]);
    assert_eq!(code, Some(0), "{plan}");
    assert!(said(&["studies"]).1.contains("approved by A. Person"));
    // Another document under the same name: the difference is told.
    let other = offered(folder.path(), &SMALL.replace("clip_norm = 1.0", "clip_norm = 1.5")).id().to_string();
    let plan = said(&["approve", &other, "--by", "B"]).1;
    assert!(plan.contains(&format!("Difference from {id}, approved by A. Person")), "{plan}");
    assert!(plan.contains("  privacy.clip_norm  1.0 -> 1.5\n"), "{plan}");
    let (code, told) = said(&["reject", &id, "--reason", "no vote", "--by", "B. Person"]);
    assert_eq!(code, Some(0), "{told}");
    let status: serde_json::Value =
        serde_json::from_slice(&site(folder.path(), &["status", "--json"]).stdout).unwrap();
    assert_eq!(status["agent"]["running"], false);
    let study = status["studies"].as_array().unwrap().iter().find(|study| study["study"] == id[..]).unwrap();
    assert_eq!(
        (&study["state"], &study["decided_by"], &study["reason"]),
        (&"rejected".into(), &"B. Person".into(), &"no vote".into())
    );
    assert_eq!(status["data_sets"][0]["limits"][0]["limit"], 3.0);
    assert!(said(&["status"]).1.contains("rejected by B. Person"));
}

#[test]
fn what_cannot_be_approved_is_said_and_not_recorded() {
    let refusing = folder(CONFIG);
    let id = offered(refusing.path(), SMALL).id().to_string();
    let output = site(refusing.path(), &["approve", &id, "--yes", "--by", "A"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("policy.public_columns"), "{}", text(&output.stdout));
    assert!(text(&site(refusing.path(), &["studies"]).stdout).contains("waits for approval"));
    for (args, part) in [
        (&["approve", "other", "--by", "A"][..], "no study \"other\""),
        (&["reject", "small", "--reason", " ", "--by", "A"], "--reason"),
        (&["approve", "small", "--by", " "], "--by NAME"),
    ] {
        let output = site(refusing.path(), args);
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        assert!(text(&output.stderr).contains(part), "{args:?}: {}", text(&output.stderr));
    }
    let new = folder(CONFIG);
    let output = site(new.path(), &["approve", "small", "--by", "A"]);
    assert!(text(&output.stderr).contains("has not run"), "{}", text(&output.stderr));
}

#[test]
fn status_sees_a_running_agent_and_does_not_keep_one_from_starting() {
    let folder = open_site();
    offered(folder.path(), SMALL);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let running = |folder: &Path| {
        let output = site(folder, &["status", "--json"]);
        let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        status["agent"]["running"].as_bool().unwrap()
    };
    let open = || runtime.block_on(fusiondp_site_agent::store::Store::open(&folder.path().join("state")));
    assert!(!running(folder.path()));
    let held = open().unwrap();
    assert!(running(folder.path()));
    drop(held);
    assert!(!running(folder.path()) && open().is_ok());
}
