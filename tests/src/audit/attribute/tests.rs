#![allow(clippy::unwrap_used)]

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
