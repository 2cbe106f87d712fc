//! The sepsis study on the two real hospitals, where their files stand: accuracy at replace epsilon 1, over three seeds.
#![allow(clippy::unwrap_used)]

use fusiondp_tests::harness::toml_text::SAMPLE_STUDY;
use fusiondp_tests::shared_data::{checkout, leave_out, sepsis_folder};
use fusiondp_tests::simulation::{SimulationOptions, simulate};

/// AUPR and AUROC on both hospitals' test rows together that each seed must reach.
const WANTED: (f64, f64) = (0.80, 0.93);

#[tokio::test(flavor = "multi_thread")]
async fn two_real_hospitals_reach_the_promised_accuracy() {
    let Some(data) = sepsis_folder(&checkout()) else {
        return leave_out("the sepsis data of two hospitals");
    };
    for seed in 1..=3 {
        let state = tempfile::tempdir().unwrap();
        let options = SimulationOptions {
            study: SAMPLE_STUDY.to_owned(),
            data: data.clone(),
            sites: 2,
            seed,
            imputer: None,
            rounds: None,
            state: state.path().to_owned(),
        };
        let outcome = simulate(&options, &mut |_| {}).await.unwrap();
        println!("{}", outcome.table());
        let (aupr, auroc) = (outcome.aupr.unwrap(), outcome.auroc.unwrap());
        assert!(aupr >= WANTED.0 && auroc >= WANTED.1, "seed {seed}: AUPR {aupr}, AUROC {auroc}");
        assert!(outcome.epsilon.replace <= 1.0, "seed {seed}: epsilon {}", outcome.epsilon.replace);
        assert_eq!(outcome.delta, 1e-5);
        // Each site's own figure is the coordinator's.
        for (site, own) in &outcome.site_epsilon {
            assert!((own.replace - outcome.epsilon.replace).abs() <= 1e-6, "{site}: {own:?}");
        }
    }
}
