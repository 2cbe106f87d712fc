//! Metrics with noise through a whole federation: estimates near the exact figures, charges in the ledgers, costs in the report.
#![allow(clippy::unwrap_used)]

use fusiondp_coordinator::receipts::{Folder, Trust};
use fusiondp_dp::Released;
use fusiondp_protocol::receipt::ReceiptsFile;
use fusiondp_site_agent::store::Store;
use fusiondp_tests::cohort::{CohortSpec, write};
use fusiondp_tests::harness::small;
use fusiondp_tests::simulation::{SimulationOptions, simulate};

/// Noise that leaves little doubt about the figures of 1,200 patients of both sites together.
const NOISE: f64 = 1.0;
const EVALUATION: &str = "release = \"noisy\"\nnoise_multiplier = 1.0\nedges = [-4, -3, -2.5, -2, -1.5, -1, -0.5, 0, 1]\n\
                          every_rounds = 2\nduring = \"val\"\nfinal_cohort = \"test\"";

#[tokio::test(flavor = "multi_thread")]
async fn a_study_with_noisy_metrics_estimates_charges_and_reports() {
    let (data, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write(CohortSpec::new(2, 3_000, 1).unwrap(), data.path()).unwrap();
    let mut study = small::split_study(6).unwrap();
    study.replace_section("evaluation", EVALUATION).unwrap();
    let options = SimulationOptions {
        study: study.text().to_owned(),
        data: data.path().to_owned(),
        sites: 2,
        seed: 3,
        imputer: None,
        rounds: None,
        state: state.path().to_owned(),
    };
    let outcome = simulate(&options, &mut |_| {}).await.unwrap();
    let report: serde_json::Value = serde_json::from_slice(&outcome.report["report.json"]).unwrap();
    let (exact, estimate) = (outcome.auroc.unwrap(), outcome.federated.auroc.unwrap());
    let error = report["auroc_error"].as_f64().unwrap();
    println!(
        "AUROC exact {exact:.4}, with noise {estimate:.4} ± {error:.4} on {} records",
        outcome.evaluation.unwrap().records
    );
    assert_eq!(report["counts"]["noise_multiplier"].as_f64(), Some(NOISE));
    assert!(error > 0.0 && error < 0.03, "{error}");
    // Noise, and pairs within one interval.
    assert!((exact - estimate).abs() < 4.0 * error + 0.01, "exact {exact}, estimate {estimate} ± {error}");
    assert_eq!((outcome.federated.aupr, outcome.federated.brier), (None, None));

    // After rounds 2 and 4, and both cohorts of the final model, at each site.
    let tables = |cohort: &str| {
        let cohorts = report["counts"]["cohorts"].as_array().unwrap();
        cohorts.iter().find(|one| one["cohort"] == cohort).unwrap()["tables"].as_u64().unwrap()
    };
    assert_eq!((tables("val"), tables("test")), (3, 1));
    for site in outcome.site_epsilon.keys() {
        let store = Store::open_read_only(&state.path().join("sites").join(site)).await.unwrap();
        let rows = store.ledger_rows().await.unwrap();
        assert!(rows.iter().all(|row| row.released));
        let counts =
            rows.iter().filter(|row| matches!(row.signed.entry.charge().released, Released::Counts { .. }));
        // The coordinator hands out what the ledger holds.
        let counts: Vec<_> = counts.map(|row| row.signed.clone()).collect();
        let file = String::from_utf8(outcome.report[&format!("receipts-{site}.jsonl")].clone()).unwrap();
        assert_eq!((counts.len(), ReceiptsFile::parse(&file).unwrap().counts), (4, counts), "{site}");
    }
    let with_training = report["counts"]["epsilon_with_training"]["replace"].as_f64().unwrap();
    assert!(with_training > report["epsilon"]["replace"].as_f64().unwrap());
    // Whoever has the report's files recomputes the same from the charges in them.
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in &outcome.report {
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    let verified = Folder::read(folder.path()).unwrap().verify(&Trust::default(), || ()).unwrap();
    assert!(verified.holds(), "{verified:?}");
    assert!(verified.sites.iter().all(|site| site.tables == 4), "{verified:?}");
    let recomputed = serde_json::to_value(verified.counts.unwrap()).unwrap();
    for figure in ["cohorts", "epsilon_with_training"] {
        assert_eq!(recomputed[figure], report["counts"][figure], "{figure}");
    }
    let html = String::from_utf8(outcome.report["report.html"].clone()).unwrap();
    assert!(html.contains("Metrics with noise") && !html.contains("<li>Metrics"));
}
