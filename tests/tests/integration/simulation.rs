//! Federations in one process: the same study twice, every mode, more sites than hospitals.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use fusiondp_tests::cohort::{CohortSpec, write};
use fusiondp_tests::harness::small;
use fusiondp_tests::harness::toml_text::TomlText;
use fusiondp_tests::simulation::{Outcome, SimulationOptions, simulate};

async fn run(study: &TomlText, data: &Path, sites: usize, seed: u64) -> Outcome {
    let state = tempfile::tempdir().unwrap();
    let options = SimulationOptions {
        study: study.text().to_owned(),
        data: data.to_owned(),
        sites,
        seed,
        imputer: None,
        rounds: None,
        state: state.path().to_owned(),
    };
    simulate(&options, &mut |_| {}).await.unwrap()
}

fn cohort() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    write(CohortSpec::new(2, 400, 1).unwrap(), folder.path()).unwrap();
    folder
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seed_repeats_a_run_and_another_seed_does_not() {
    let data = cohort();
    let study = small::split_study(8).unwrap();
    let first = run(&study, data.path(), 2, 5).await;
    let again = run(&study, data.path(), 2, 5).await;
    let other = run(&study, data.path(), 2, 6).await;
    assert_eq!(first.model_sha256, again.model_sha256);
    assert_eq!(first.aupr, again.aupr);
    assert_ne!(first.model_sha256, other.model_sha256);
    assert!(first.simulation && first.simulation_seed == 5);
    assert_eq!((first.sites, first.rounds), (2, 8));
}

#[tokio::test(flavor = "multi_thread")]
async fn hospitals_are_split_into_more_sites() {
    let data = cohort();
    let study = small::split_study(4).unwrap();
    let outcome = run(&study, data.path(), 5, 1).await;
    assert_eq!(outcome.sites, 5);
    assert_eq!(outcome.site_epsilon.len(), 5);
    // All rows of both hospitals, whoever holds them.
    assert_eq!(outcome.evaluation.unwrap().records, 160);
}

#[tokio::test(flavor = "multi_thread")]
async fn exact_metrics_and_pooled_histograms_agree() {
    let data = cohort();
    let outcome = run(&small::split_study(8).unwrap(), data.path(), 2, 1).await;
    let (exact, pooled) = (outcome.auroc.unwrap(), outcome.federated.auroc.unwrap());
    assert!((exact - pooled).abs() < 0.01, "exact {exact}, pooled {pooled}");
    let (exact, pooled) = (outcome.brier.unwrap(), outcome.federated.brier.unwrap());
    assert!((exact - pooled).abs() < 1e-4, "exact {exact}, pooled {pooled}");
}

/// The study of one mode: model `mlp`, imputer fitted where one is used.
fn study_of(mode: &str) -> TomlText {
    let mut study = small::mlp_study(4, &"00".repeat(32)).unwrap();
    study.replace_section("imputer", "kind = \"onnx\"").unwrap();
    study.replace_section("fusion", &format!("mode = \"{mode}\"")).unwrap();
    match mode {
        "feature-dp" => study.replace_section("imputer", "kind = \"declared-noise\"").unwrap(),
        "dp-sgd" => {
            study.replace_section("imputer", "kind = \"none\"").unwrap();
            study.remove("training", "public_batch_size").unwrap();
        }
        "non-private" => study.replace_section("imputer", "kind = \"none\"").unwrap(),
        _ => {}
    }
    study
}

#[tokio::test(flavor = "multi_thread")]
async fn every_mode_runs_and_pays_for_what_it_releases() {
    let data = cohort();
    for mode in ["fusiondp", "calibrated", "feature-dp", "dp-sgd", "hybrid-only", "non-private"] {
        let outcome = run(&study_of(mode), data.path(), 2, 1).await;
        assert_eq!(outcome.rounds, 4, "{mode}");
        assert!(outcome.auroc.is_some_and(f64::is_finite), "{mode}");
        let epsilon = outcome.epsilon;
        match mode {
            // Nothing is charged: there is no private part (and in non-private no protection either).
            "hybrid-only" | "non-private" => {
                assert_eq!((epsilon.replace, epsilon.zero_out), (0.0, 0.0), "{mode}")
            }
            _ => assert!(epsilon.replace > 0.9 && epsilon.replace <= 1.0, "{mode}: {epsilon:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn local_steps_average_models_and_charge_each_step() {
    let data = cohort();
    let mut study = study_of("fusiondp");
    study.set("training", "local_steps", 3).unwrap();
    study.set("training", "local_learning_rate", 0.05).unwrap();
    study.remove("training", "optimizer").unwrap();
    study
        .set(
            "training",
            "optimizer",
            toml::Value::Table("kind = \"sgd\"\nlearning_rate = 1.0".parse().unwrap()),
        )
        .unwrap();
    study.set("training", "schedule", "constant").unwrap();
    let outcome = run(&study, data.path(), 2, 1).await;
    assert_eq!(outcome.rounds, 4);
    assert!(outcome.epsilon.replace > 0.9 && outcome.epsilon.replace <= 1.0, "{:?}", outcome.epsilon);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_warm_up_costs_nothing() {
    let data = cohort();
    let mut with = study_of("fusiondp");
    with.set("fusion", "warmup_rounds", 3).unwrap();
    let with = run(&with, data.path(), 2, 1).await;
    let without = run(&study_of("fusiondp"), data.path(), 2, 1).await;
    // Both are calibrated to the same epsilon; with one private round instead of four less noise does.
    assert!(with.noise_multiplier.unwrap() < without.noise_multiplier.unwrap());
}
