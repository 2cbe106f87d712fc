//! One study from provisioning to report: real processes, real TLS, a fitted ONNX imputer, two sites.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::time::Duration;

use fusiondp_tests::harness::federation::{COORDINATOR, SIMULATE, text};
use fusiondp_tests::harness::{CommandLine, Federation, FederationOptions, both_streams, small};
use serde_json::Value;
use sha2::{Digest, Sha256};

const ROUNDS: u32 = 12;
const DELTA: f64 = 1e-5;

#[tokio::test(flavor = "multi_thread")]
async fn two_sites_train_a_model_over_tls() {
    let root = tempfile::tempdir().unwrap();
    let cohort = root.path().join("cohort");
    let sites = small::sites(&cohort, 2, 400).unwrap();
    let mut federation =
        Federation::provision(&root.path().join("run"), sites, FederationOptions::default()).await.unwrap();

    // Fit, pin, submit: the imputer's digest stands in the study.
    let draft = root.path().join("draft.toml");
    fs::write(&draft, small::mlp_study(ROUNDS, &"00".repeat(32)).unwrap().text()).unwrap();
    let imputer = federation.imputers().join("imputer.onnx");
    let fit = CommandLine::new(COORDINATOR).args(["imputer", "fit", "--epochs", "5", "--schema"]).arg(&draft);
    let fit = fit.arg("--support").arg(cohort.join("support.csv")).arg("--out").arg(&imputer);
    let said = fit.stdout().await.unwrap();
    let sha256 = hex::encode(Sha256::digest(fs::read(&imputer).unwrap()));
    assert!(said.contains(&sha256), "{said}");
    let study = root.path().join("study.toml");
    fs::write(&study, small::mlp_study(ROUNDS, &sha256).unwrap().text()).unwrap();

    federation.start_coordinator().await.unwrap();
    for site in ["hospital-a", "hospital-b"] {
        let said = federation.check_site(site, Some(&study)).stdout().await.unwrap();
        assert!(!said.contains("FAIL"), "{said}");
    }
    federation.start_sites().unwrap();
    let id = federation.submit(&study).await.unwrap();
    let status = federation.wait_finished(&id, Duration::from_secs(90)).await.unwrap();
    assert_eq!(status["round"], ROUNDS);

    let report = root.path().join("report");
    federation.export(&id, &report).await.unwrap();
    let figures: Value = serde_json::from_slice(&fs::read(report.join("report.json")).unwrap()).unwrap();
    assert_eq!(figures["sites"], 2);
    assert_eq!(figures["rounds"], ROUNDS);
    assert_eq!(figures["delta"], DELTA);
    for key in ["auroc", "aupr", "brier", "seconds"] {
        assert!(figures[key].as_f64().unwrap() > 0.0, "{key}: {}", figures[key]);
    }
    let epsilon = |relation: &str| figures["epsilon"][relation].as_f64().unwrap();
    assert!(epsilon("replace") <= 1.0 && epsilon("replace") > 0.95, "{}", epsilon("replace"));
    assert!(epsilon("zero_out") < epsilon("replace"));
    let html = fs::read_to_string(report.join("report.html")).unwrap();
    assert!(html.contains("hospital-a") && !html.contains("<script src"));
    assert!(fs::metadata(report.join("model.onnx")).unwrap().len() > 1000);

    // The sites say the same, from their own ledgers, and their chains hold.
    for site in ["hospital-a", "hospital-b"] {
        federation.verify_ledger(site).await.unwrap();
        let ledger = federation.ledger(site, DELTA).await.unwrap();
        let entries = ledger["entries"].as_array().unwrap();
        assert_eq!(entries.len(), ROUNDS as usize);
        assert!(entries.iter().all(|entry| entry["released"] == true));
        let spent = ledger["spent"].as_array().unwrap();
        let line = spent.iter().find(|line| text(line, "study") == id).unwrap();
        for relation in ["replace", "zero_out"] {
            let own = line["epsilon"][relation].as_f64().unwrap();
            let reported = epsilon(relation);
            assert!((own - reported).abs() <= 1e-6 * own, "{site} {relation}: {own}, reported {reported}");
        }
    }

    attack(&report, &cohort, &imputer).await;
    federation.export(&id, &report).await.unwrap();
    let html = fs::read_to_string(report.join("report.html")).unwrap();
    assert!(
        html.contains("stay below the claims") && html.contains("by 4 reference models"),
        "kept by an export"
    );

    // Nothing of a patient stands in a log.
    let logs = [federation.coordinator_log_text(), federation.site_log_text("hospital-a")].concat();
    assert!(!logs.contains("sa0000"), "a patient id is in a log");
    federation.stop().await.unwrap();
}

/// Releases and model are attacked, and the report shows what came of it.
async fn attack(report: &Path, cohort: &Path, imputer: &Path) {
    let bare = fs::read_to_string(report.join("report.html")).unwrap();
    assert!(
        bare.contains("Nobody has attacked the releases") && bare.contains("Nobody has attacked this model")
    );
    let audit =
        CommandLine::new(SIMULATE).args(["audit", "--faults", "--rows", "64", "--report"]).arg(report);
    let said = audit.stdout().await.unwrap();
    let verdict = |code: &str| said.lines().find(|line| line.contains(code)).unwrap_or_default();
    assert!(verdict("code as it is").ends_with("below the claim"), "{said}");
    assert!(verdict("half-noise").ends_with("REFUTED") || verdict("half-noise").ends_with("alarm"), "{said}");
    let model =
        CommandLine::new(SIMULATE).args(["attack", "--references", "4", "--patients", "20", "--report"]);
    let model = model.arg(report).arg("--data").arg(cohort).arg("--imputer").arg(imputer);
    model.stdout().await.unwrap();
    // Data of other hospitals would say nothing about this model.
    let other = cohort.with_file_name("other");
    small::sites(&other, 2, 300).unwrap();
    let foreign = CommandLine::new(SIMULATE).args(["attack", "--references", "0", "--report"]).arg(report);
    let foreign = foreign.arg("--data").arg(&other).arg("--imputer").arg(imputer).output().await.unwrap();
    assert!(!foreign.status.success() && both_streams(&foreign).contains("the report's sites have"));
    let html = fs::read_to_string(report.join("report.html")).unwrap();
    for shown in [
        "stay below the claims",
        "planted half-noise",
        "by 4 reference models",
        "moved by up to 0.1",
        "ICULOS",
    ] {
        assert!(html.contains(shown), "{shown}");
    }
    assert!(!html.contains("Nobody has attacked"));
    let attacks: Value = serde_json::from_slice(&fs::read(report.join("attacks.json")).unwrap()).unwrap();
    let figures: Value = serde_json::from_slice(&fs::read(report.join("report.json")).unwrap()).unwrap();
    assert_eq!(attacks["model_digest"], figures["study"]["model_digest"]);
    // The cohort is scored here as at the sites: the pooled figure of the report.
    let (here, there) = (attacks["auroc"].as_f64().unwrap(), figures["auroc"].as_f64().unwrap());
    assert!((here - there).abs() < 0.01, "{here} and {there}");
}
