//! A cohort and studies that take seconds.

use std::path::Path;

use super::toml_text::{SAMPLE_STUDY, TomlText};
use super::{HarnessError, SiteSetup};
use crate::cohort::{CohortSpec, hospital_name, write};

/// Writes a synthetic cohort of small hospitals below `folder` and returns one site for each.
///
/// # Errors
/// When the folder cannot be written.
pub fn sites(folder: &Path, hospitals: u32, patients: u32) -> Result<Vec<SiteSetup>, HarnessError> {
    let spec = CohortSpec::new(hospitals, patients, 1);
    let spec = spec.map_err(|e| HarnessError::form("cohort", e))?;
    write(spec, folder).map_err(|e| HarnessError::form(folder.display(), e))?;
    let name = |index| hospital_name(index);
    Ok((0..hospitals).map(|index| SiteSetup::new(&name(index), &folder.join(name(index)))).collect())
}

/// The sample study with a small tower: model `split`, no imputed value needed.
///
/// # Errors
/// When the sample no longer has the fields that are set here.
pub fn split_study(rounds: u32) -> Result<TomlText, HarnessError> {
    let mut study = small(rounds)?;
    study.set("model", "widths", vec![16])?;
    study.replace_section("imputer", "kind = \"none\"")?;
    Ok(study)
}

/// The sample study with model `mlp`, whose public part reads imputed values of the model with this digest.
///
/// # Errors
/// When the sample no longer has the fields that are set here.
pub fn mlp_study(rounds: u32, imputer_sha256: &str) -> Result<TomlText, HarnessError> {
    let mut study = small(rounds)?;
    study.replace_section("model", "kind = \"mlp\"\nwidths = [16]\nlayer_norm = true\ndropout = 0.1")?;
    study.replace_section("imputer", &format!("kind = \"onnx\"\nsha256 = \"{imputer_sha256}\""))?;
    study.replace_section("fusion", "mode = \"fusiondp\"\nconsistency_weight = 0.1")?;
    study.remove("training", "posterior")?;
    Ok(study)
}

fn small(rounds: u32) -> Result<TomlText, HarnessError> {
    let mut study = TomlText::new(SAMPLE_STUDY);
    study.set("training", "rounds", i64::from(rounds))?;
    study.set("fusion", "warmup_rounds", 0)?;
    study.set("training", "expected_batch_size", 60)?;
    study.set("training", "public_batch_size", 120)?;
    study.set("evaluation", "every_rounds", 5)?;
    study.set("federation", "enrolment_timeout_s", 60)?;
    study.set("federation", "round_timeout_s", 60)?;
    Ok(study)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use fusiondp_protocol::study::Study;

    use super::*;

    #[test]
    fn small_studies_are_valid() {
        let split = Study::parse(split_study(12).unwrap().text()).unwrap();
        split.validate_for_submission().unwrap();
        let mlp = Study::parse(mlp_study(12, &"ab".repeat(32)).unwrap().text()).unwrap();
        mlp.validate_for_submission().unwrap();
        assert!(mlp.uses_imputer() && !split.uses_imputer());
        assert_eq!(mlp.training.rounds, 12);
    }
}
