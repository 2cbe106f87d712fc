//! The imputers of a sweep.

use std::fs;
use std::path::{Path, PathBuf};

use fusiondp_dp::Digest;
use fusiondp_learn::schema::Schema;

use super::data::{ImputedFile, Prepared};
use super::error::ReproduceError;
use super::mode::{DataName, ImputerName, Recipe};
use super::settings::ImputerPin;
use crate::simulation::support::fit_onnx;

/// Seed of the fitted network, the same in every run: an imputer is fitted once and pinned by its digest.
const FIT_SEED: u64 = 1;

/// Where ONNX files come from and go.
pub struct ImputerFolder<'a> {
    /// Folder that sites read.
    pub folder: PathBuf,
    /// Folder with `DATA-boosting.onnx` files; `None`: no boosted trees.
    pub boosting: Option<&'a Path>,
}

impl ImputerFolder<'_> {
    /// What a run's study says of its imputer, and which file its sites read.
    ///
    /// # Errors
    /// The imputer cannot be had.
    pub fn pin(
        &self,
        data: DataName,
        prepared: &Prepared,
        schema: &Schema,
        recipe: Recipe,
        imputer: Option<ImputerName>,
    ) -> Result<(ImputerPin, ImputedFile), ReproduceError> {
        if recipe == Recipe::FeatureDp {
            return Ok((ImputerPin::DeclaredNoise, ImputedFile::Unread));
        }
        Ok(match imputer {
            None => (ImputerPin::Unused, ImputedFile::Unread),
            Some(ImputerName::Constant) => (ImputerPin::File, ImputedFile::Constant),
            Some(ImputerName::File) => (ImputerPin::File, ImputedFile::BesideTraining),
            Some(ImputerName::DeclaredNoise) => (ImputerPin::DeclaredNoise, ImputedFile::Unread),
            Some(ImputerName::Network) => {
                (ImputerPin::Onnx(self.network(data, prepared, schema)?), ImputedFile::Unread)
            }
            Some(ImputerName::Boosting) => (ImputerPin::Onnx(self.boosting(data)?), ImputedFile::Unread),
        })
    }

    /// Fits the network, or takes the one fitted before on the same columns and records.
    fn network(
        &self,
        data: DataName,
        prepared: &Prepared,
        schema: &Schema,
    ) -> Result<Digest, ReproduceError> {
        let support = &prepared.support;
        let records = fs::read(support).map_err(|_| ReproduceError::NoImputer {
            data: data.to_string(),
            imputer: ImputerName::Network.as_str(),
            path: support.clone(),
            remedy: "the network is fitted on it",
        })?;
        let schema_text = serde_json::to_vec(schema)?;
        let key = Digest::of(&[schema_text, records].concat()).to_string();
        let file = self.folder.join(format!("{data}-network-{}.onnx", &key[..16]));
        match fs::read(&file) {
            Ok(bytes) => Ok(Digest::of(&bytes)),
            Err(_) => {
                let bytes = fit_onnx(schema, support, FIT_SEED)?;
                self.keep(&file, &bytes)?;
                Ok(Digest::of(&bytes))
            }
        }
    }

    /// Copies the boosted trees to where the sites look.
    fn boosting(&self, data: DataName) -> Result<Digest, ReproduceError> {
        let name = format!("{data}-boosting.onnx");
        let path = self.boosting.unwrap_or(Path::new("")).join(&name);
        let bytes = fs::read(&path).map_err(|_| ReproduceError::NoImputer {
            data: data.to_string(),
            imputer: ImputerName::Boosting.as_str(),
            path: path.clone(),
            remedy: "make it with deploy/imputers/fit_boosting.py and name its folder with --boosting",
        })?;
        self.keep(&self.folder.join(&name), &bytes)?;
        Ok(Digest::of(&bytes))
    }

    fn keep(&self, file: &Path, bytes: &[u8]) -> Result<(), ReproduceError> {
        fs::create_dir_all(&self.folder).map_err(ReproduceError::io(&self.folder))?;
        // Whole or not at all: a torn file of an interrupted run would be taken for the imputer.
        let part = file.with_extension("part");
        fs::write(&part, bytes).map_err(ReproduceError::io(&part))?;
        fs::rename(&part, file).map_err(ReproduceError::io(file))
    }
}
