//! The imputer of a run: given, pinned, or fitted on the support data.

use std::fs;
use std::path::{Path, PathBuf};

use fusiondp_protocol::study::{ImputerSpec, Study};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::SimulationError;
use super::support::fit_onnx;

/// Where an imputer may come from.
#[derive(Debug, Clone, Copy)]
pub struct ImputerSource<'a> {
    /// ONNX file named by the user.
    pub given: Option<&'a Path>,
    /// Data folder, with support.csv to fit on.
    pub data: &'a Path,
    /// Folder that sites read ONNX files from; the chosen one is put there.
    pub folder: &'a Path,
    /// Seed of a fit.
    pub seed: u64,
}

/// The imputer that the sites use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "source", rename_all = "kebab-case")]
pub enum ChosenImputer {
    /// The study computes on no imputed value.
    NotUsed,
    /// Values of the study's own kind: precomputed by each site, or declared noise.
    OfStudy {
        /// The kind.
        kind: &'static str,
    },
    /// An ONNX file named by the user.
    Given {
        /// SHA-256 of the file.
        sha256: String,
    },
    /// Fitted on the support data of the data folder.
    Fitted {
        /// SHA-256 of the file.
        sha256: String,
        /// The file, in the folder of the run.
        #[serde(skip)]
        file: PathBuf,
    },
}

/// Finds or fits the imputer of a study and puts it where the sites look. Says what it does through `step`.
///
/// # Errors
/// A pinned digest that the given file does not have, no support data, or a fit that fails.
pub fn choose(
    study: &Study,
    source: &ImputerSource<'_>,
    step: &mut dyn FnMut(&str),
) -> Result<ChosenImputer, SimulationError> {
    fs::create_dir_all(source.folder).map_err(SimulationError::io(source.folder))?;
    if !study.uses_imputer() {
        step("imputer: not needed, the study computes on no imputed value");
        return Ok(ChosenImputer::NotUsed);
    }
    let ImputerSpec::Onnx { sha256: wanted } = &study.imputer else {
        return Ok(ChosenImputer::OfStudy { kind: study.imputer.kind() });
    };
    let wanted = wanted.map(|digest| digest.to_string());
    match (source.given, wanted) {
        (Some(file), wanted) => take(file, wanted, source.folder),
        (None, Some(wanted)) => Err(SimulationError::Imputer { wanted, given: None }),
        (None, None) => fit(study, source, step),
    }
}

fn take(file: &Path, wanted: Option<String>, folder: &Path) -> Result<ChosenImputer, SimulationError> {
    let bytes = fs::read(file).map_err(SimulationError::io(file))?;
    let sha256 = hex::encode(Sha256::digest(&bytes));
    if let Some(wanted) = wanted.filter(|wanted| *wanted != sha256) {
        return Err(SimulationError::Imputer { wanted, given: Some(sha256) });
    }
    let copy = folder.join("given.onnx");
    fs::write(&copy, bytes).map_err(SimulationError::io(&copy))?;
    Ok(ChosenImputer::Given { sha256 })
}

fn fit(
    study: &Study,
    source: &ImputerSource<'_>,
    step: &mut dyn FnMut(&str),
) -> Result<ChosenImputer, SimulationError> {
    let support = source.data.join("support.csv");
    if !support.is_file() {
        return Err(SimulationError::NoSupport { path: support });
    }
    step(&format!("imputer: the study pins none; fitting one on {}", support.display()));
    let bytes = fit_onnx(&study.schema, &support, source.seed)?;
    let sha256 = hex::encode(Sha256::digest(&bytes));
    let file = source.folder.join("fitted.onnx");
    fs::write(&file, bytes).map_err(SimulationError::io(&file))?;
    step(&format!("imputer: {} sha256 {sha256}", file.display()));
    Ok(ChosenImputer::Fitted { sha256, file })
}
