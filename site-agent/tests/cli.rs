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
