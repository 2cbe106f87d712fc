#![allow(clippy::unwrap_used)]

use fusiondp_dp::NeighboringRelation;

use super::*;
use crate::cohort::{CohortSpec, write};
use crate::harness::toml_text::{SAMPLE_STUDY, TomlText};

fn cohort() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    write(CohortSpec::new(1, 200, 1).unwrap(), folder.path()).unwrap();
    folder
}

/// The sample study with a short warm-up.
fn study() -> String {
    let mut text = TomlText::new(SAMPLE_STUDY);
    text.set_rounds(20).unwrap();
    text.set("training", "public_batch_size", 64).unwrap();
    text.text().to_owned()
}

#[test]
fn a_whole_run_stays_below_its_claim_and_faults_do_not() {
    let (data, study) = (cohort(), study());
    let setting = AttributeSetting {
        study: &study,
        relation: NeighboringRelation::Replace,
        epsilon: Some(4.0),
        data: data.path(),
        units: 60,
        canaries: 6,
        runs: 40,
        seed: 5,
    };
    let results = audit_run(&setting, true).unwrap();
    let honest = &results[0];
    assert_eq!(honest.canaries, 240);
    assert!(!honest.alarms() && honest.releases.gaussian_bound > 1.0, "{honest:?}");
    assert!(honest.final_model.right <= honest.releases.right + 20, "{honest:?}");
    assert!(results[1].alarms(), "{:?}", results[1]);
    assert_eq!(results[2].fault, Some(RunFault::HalfSensitivity));
    assert!(results[2].claim < honest.claim);
}

#[test]
fn what_cannot_be_attacked_is_refused() {
    let (data, study) = (cohort(), study());
    let setting = |study, canaries| AttributeSetting {
        study,
        relation: NeighboringRelation::Replace,
        epsilon: None,
        data: data.path(),
        units: 50,
        canaries,
        runs: 1,
        seed: 1,
    };
    let refused = |setting: AttributeSetting<'_>| audit_run(&setting, false).unwrap_err().to_string();
    assert!(refused(setting(&study, 51)).contains("51 canaries in each run of 50 units"));
    let mut local = TomlText::new(&study);
    local.set("training", "local_steps", 2).unwrap();
    let refusal = refused(setting(local.text(), 2));
    assert!(refusal.contains("local_steps") || refusal.contains("local"), "{refusal}");
}

/// A network of all columns under the difference loss, and an imputer fitted on the cohort's support data.
#[test]
fn imputed_values_against_true_ones_stay_below_zero_out() {
    let data = cohort();
    let mut study = TomlText::new(SAMPLE_STUDY);
    study.replace_section("model", "kind = \"mlp\"\nwidths = [8]\nlayer_norm = true\ndropout = 0.0").unwrap();
    study.replace_section("fusion", "mode = \"fusiondp\"\ncalibration_weight = 1.0").unwrap();
    let training = "rounds = 12\nexpected_batch_size = \"all\"\npublic_batch_size = 64\n\
                    optimizer = { kind = \"sgd\", learning_rate = 0.05 }\ninitialization_seed = 1";
    study.replace_section("training", training).unwrap();
    study.replace_section("imputer", "kind = \"onnx\"").unwrap();
    let setting = AttributeSetting {
        study: study.text(),
        relation: NeighboringRelation::ZeroOut,
        epsilon: Some(4.0),
        data: data.path(),
        units: 60,
        canaries: 20,
        runs: 12,
        seed: 5,
    };
    let results = audit_run(&setting, true).unwrap();
    assert_eq!(results.len(), 2);
    assert!(!results[0].alarms() && results[0].releases.gaussian_bound > 0.5, "{:?}", results[0]);
    let direct = self::study();
    let refused = audit_run(&AttributeSetting { study: &direct, ..setting }, false).unwrap_err();
    assert!(refused.to_string().contains("attack this study under replace"), "{refused}");
}
