//! A study that protects whole records too, with the real programs: both parts are charged, both tiers stated, and anybody can
//! recompute them.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::time::Duration;

use fusiondp_tests::harness::toml_text::TomlText;
use fusiondp_tests::harness::{CommandLine, Federation, FederationOptions, both_streams, small};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(100);
/// Rounds, and how many of them have no private part.
const ROUNDS: (u32, u32) = (6, 2);

fn study() -> String {
    let mut study = small::split_study(ROUNDS.0).unwrap();
    study.set("model", "members", 1).unwrap();
    study.set("fusion", "warmup_rounds", i64::from(ROUNDS.1)).unwrap();
    study.remove("training", "public_batch_size").unwrap();
    study.replace_section("evaluation", "release = \"none\"").unwrap();
    let target = "target = { epsilon = 8.0, relation = \"replace\" }";
    let records = format!("clip_norm = 0.5\nexpected_batch_size = 120\n{target}");
    study.replace_section("privacy.records", &records).unwrap();
    study.text().to_owned()
}

/// Lets no gradient out without noise, and sets limits for whole records.
fn limit(federation: &Federation, site: &str, replace: f64) {
    let path = federation.site_toml(site);
    let mut config = TomlText::new(&fs::read_to_string(&path).unwrap());
    config.set("policy", "allow_public_gradient", false).unwrap();
    config.set("policy.records", "max_epsilon_replace", replace).unwrap();
    config.set("policy.records", "max_epsilon_zero_out", replace).unwrap();
    fs::write(&path, config.text()).unwrap();
}

async fn federation(root: &Path, limits: [f64; 2]) -> (Federation, String) {
    let sites = small::sites(&root.join("cohort"), 2, 300).unwrap();
    let mut federation =
        Federation::provision(&root.join("run"), sites, FederationOptions::default()).await.unwrap();
    let path = root.join("study.toml");
    fs::write(&path, study()).unwrap();
    for (site, replace) in ["hospital-a", "hospital-b"].into_iter().zip(limits) {
        limit(&federation, site, replace);
    }
    federation.start_coordinator().await.unwrap();
    federation.start_sites().unwrap();
    let id = federation.submit(&path).await.unwrap();
    (federation, id)
}

fn pair(value: &Value) -> (f64, f64) {
    (value["replace"].as_f64().unwrap(), value["zero_out"].as_f64().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn both_tiers_are_charged_stated_and_recomputed() {
    let root = tempfile::tempdir().unwrap();
    let (mut federation, id) = federation(root.path(), [8.5, 8.5]).await;
    federation.wait_finished(&id, LIMIT).await.unwrap();
    let out = root.path().join("report");
    federation.export(&id, &out).await.unwrap();
    let status = CommandLine::new("fusiondp-site").args(["status", "--config"]);
    let status = status.arg(federation.site_toml("hospital-a")).stdout().await.unwrap();
    federation.stop().await.unwrap();

    let verify = || CommandLine::new("fusiondp-coordinator").args(["receipts", "verify"]).arg(&out);
    let json: Value = serde_json::from_str(&verify().arg("--json").stdout().await.unwrap()).unwrap();
    let report: Value = serde_json::from_slice(&fs::read(out.join("report.json")).unwrap()).unwrap();
    assert_eq!(json["epsilon"], report["epsilon"]);
    assert_eq!(json["records_epsilon"], report["records_epsilon"]);
    let (values, records) = (pair(&json["epsilon"]), pair(&json["records_epsilon"]));
    assert!(values.0 < records.0 && values.1 < records.1, "{values:?} {records:?}");
    // The target is that of both parts together, and the noise is no larger than it has to be.
    assert!(records.0 <= 8.0 && records.0 > 7.9, "{records:?}");
    // Every round has a public sum, and all but the first ones a private one.
    let (rounds, warmup) = (u64::from(ROUNDS.0), u64::from(ROUNDS.1));
    for site in json["sites"].as_array().unwrap() {
        assert_eq!(site["charges"].as_u64().unwrap(), rounds + rounds - warmup, "{site}");
        assert_eq!(site["problems"].as_array().unwrap().len(), 0, "{site}");
    }
    let html = fs::read_to_string(out.join("report.html")).unwrap();
    assert!(html.contains("Second tier: whole records") && html.contains("<h3>Whole records</h3>"));
    let card = fs::read_to_string(out.join("model-card.md")).unwrap();
    assert!(card.contains("whole records, replace"), "{card}");
    assert!(status.contains("data set, whole records"), "{status}");

    // Canaries go through both kinds of sums, and through both together, against the epsilon of whole records.
    let audit = CommandLine::new("fusiondp-simulate").args(["audit", "--rows", "48", "--report"]).arg(&out);
    let said = audit.stdout().await.unwrap();
    let evidence: Value = serde_json::from_slice(&fs::read(out.join("audit.json")).unwrap()).unwrap();
    let lines = evidence["results"].as_array().unwrap();
    let kinds: Vec<&str> = lines.iter().map(|line| line["mechanism"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["private sum", "public sum", "together"], "{said}");
    let claim = lines[2]["claim"].as_f64().unwrap();
    assert!((claim - records.0).abs() < 1e-6 && said.contains("below the claim"), "{claim} {said}");

    // Nobody but the site can turn a public sum into a private one.
    let file = out.join("receipts-hospital-a.jsonl");
    let honest = fs::read_to_string(&file).unwrap();
    fs::write(&file, honest.replacen("\"public_sum\"", "\"private_sum\"", 1)).unwrap();
    let output = verify().output().await.unwrap();
    assert!(!output.status.success(), "{}", both_streams(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_for_whole_records_refuses_the_study_by_name() {
    let root = tempfile::tempdir().unwrap();
    let (mut federation, id) = federation(root.path(), [8.5, 3.0]).await;
    let said = |status: &Value| {
        let sites = status["sites"].as_array().unwrap();
        sites
            .iter()
            .any(|site| site["detail"].as_str().unwrap().contains("policy.records.max_epsilon_replace"))
    };
    federation.wait_until(&id, "the refusal", LIMIT, said).await.unwrap();
    federation.stop().await.unwrap();
}
