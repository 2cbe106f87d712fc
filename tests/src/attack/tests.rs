#![allow(clippy::unwrap_used)]

use super::*;
use crate::cohort::{CohortSpec, write};
use crate::harness::toml_text::{SAMPLE_STUDY, TomlText};

#[test]
fn a_small_study_is_trained_and_attacked() {
    let data = tempfile::tempdir().unwrap();
    write(CohortSpec::new(2, 600, 1).unwrap(), data.path()).unwrap();
    let mut study = TomlText::new(SAMPLE_STUDY);
    study.set_rounds(30).unwrap();
    let with = |epsilon| AttackOptions {
        study: study.text(),
        epsilon: Some(epsilon),
        data: data.path(),
        cohort: "test",
        patients: 40,
        seed: 3,
    };
    let found = attack(&with(1.0)).unwrap();
    assert!(found.epsilon <= 1.0 && found.auroc > 0.5, "{found:?}");
    assert_eq!(found.reconstruction.len(), 6);
    // A column that the model does not read gains nothing from it.
    let unread = found.reconstruction.iter().find(|column| column.column == "Gender").unwrap();
    assert_eq!(unread.baseline, unread.with_model);
    let moved: Vec<f64> = found.perturbed.iter().map(|moved| moved.auroc).collect();
    assert!(moved[0] < found.auroc && moved[2] < moved[0], "{moved:?}");
    let inversion = found.inversion.clone().unwrap();
    assert_eq!(inversion.column, "ICULOS");
    // Each bin is a coordinate of its own: only the noise hides which one moved.
    assert!(inversion.without_noise > 0.99 && inversion.noised < 0.6, "{inversion:?}");
    let loose = attack(&with(300.0)).unwrap().inversion.unwrap();
    assert!(loose.noised > inversion.noised + 0.1, "{loose:?}");
    let text = report::markdown(&found);
    assert!(text.contains("Membership is not protected") && text.contains("| ICULOS"), "{text}");
    assert!(report::svg(&found).unwrap().contains("with model"));
}
