//! The results file: one JSON line per finished run, only ever appended to.
//!
//! A run that was stopped leaves whole lines and at most one torn one, which is cut off when the file is opened again.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use fusiondp_dp::Digest;
use serde::{Deserialize, Serialize};

use super::cell::Cell;
use super::error::ReproduceError;

/// Metrics of one cohort, all sites' rows together.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CohortMetrics {
    /// Average precision.
    pub aupr: f64,
    /// Area under the receiver operating characteristic.
    pub auroc: f64,
    /// Mean squared error of the probability.
    pub brier: f64,
}

/// Epsilon under both relations, upper bounds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct EpsilonPair {
    /// Sensitive values of one unit change from any to any.
    pub replace: f64,
    /// The private contribution of one unit is present or absent.
    pub zero_out: f64,
}

/// Figures of one finished run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CellResult {
    /// The run.
    #[serde(flatten)]
    pub cell: Cell,
    /// Digest of its settings.
    pub settings: Digest,
    /// Number of sites.
    pub sites: usize,
    /// Rounds applied.
    pub rounds: u32,
    /// From the charges in the ledgers; `None` for a run without protection.
    pub epsilon: Option<EpsilonPair>,
    /// Mass that the guarantee leaves out.
    pub delta: f64,
    /// Noise deviation over the clip norm, at each site.
    pub noise_multiplier: Option<f64>,
    /// Rate of the secret sample.
    pub sampling_probability: f64,
    /// On the validation cohort.
    pub val: CohortMetrics,
    /// On the test cohort.
    pub test: CohortMetrics,
    /// Wall time, in seconds; depends on the machine and stands in no table.
    pub seconds: f64,
}

/// The open results file and what it holds.
#[derive(Debug)]
pub struct Results {
    path: PathBuf,
    file: File,
    known: HashMap<Digest, CellResult>,
}

impl Results {
    /// Opens or creates the file and reads what is finished.
    ///
    /// # Errors
    /// The file cannot be read or written, or a whole line of it is no result.
    pub fn open(path: &Path) -> Result<Self, ReproduceError> {
        let io = ReproduceError::io(path);
        let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let mut file = options.map_err(&io)?;
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(&io)?;
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        file.set_len(whole as u64).map_err(&io)?;
        file.seek(SeekFrom::End(0)).map_err(&io)?;
        let mut known = HashMap::new();
        for (index, line) in text[..whole].lines().enumerate() {
            let result: CellResult = serde_json::from_str(line).map_err(|source| {
                ReproduceError::Results { path: path.to_owned(), line: index + 1, source }
            })?;
            known.insert(result.settings, result);
        }
        Ok(Self { path: path.to_owned(), file, known })
    }

    /// The result of a run with these settings, if it is finished.
    #[must_use]
    pub fn get(&self, settings: Digest) -> Option<&CellResult> {
        self.known.get(&settings)
    }

    /// Adds a finished run; it is on the disk when this returns.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn add(&mut self, result: CellResult) -> Result<(), ReproduceError> {
        let mut line = serde_json::to_vec(&result)?;
        line.push(b'\n');
        let written = self.file.write_all(&line).and_then(|()| self.file.sync_data());
        written.map_err(ReproduceError::io(&self.path))?;
        self.known.insert(result.settings, result);
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::reproduce::cell::Target;
    use crate::reproduce::mode::{DataName, Recipe};

    /// A result with this AUPR.
    pub(in crate::reproduce) fn result(recipe: Recipe, target: Target, seed: u64, aupr: f64) -> CellResult {
        let metrics = |aupr| CohortMetrics { aupr, auroc: 0.5 + 0.5 * aupr, brier: 0.1 };
        let cell = Cell { data: DataName::Sepsis, recipe, imputer: None, target, seed };
        let epsilon = match target {
            Target::Epsilon(epsilon) => Some(EpsilonPair { replace: epsilon, zero_out: 0.5 * epsilon }),
            Target::Noise(noise) => Some(EpsilonPair { replace: 3.0 / noise, zero_out: 1.5 / noise }),
            Target::None if recipe == Recipe::NonPrivate => None,
            Target::None => Some(EpsilonPair { replace: 0.0, zero_out: 0.0 }),
        };
        CellResult {
            cell,
            settings: Digest::of(cell.to_string().as_bytes()),
            sites: 8,
            rounds: 10,
            epsilon,
            delta: 1e-5,
            noise_multiplier: recipe.is_noised().then_some(1.25),
            sampling_probability: 0.07,
            val: metrics(aupr - 0.01),
            test: metrics(aupr),
            seconds: 1.0,
        }
    }

    #[test]
    fn a_torn_line_is_cut_off_and_whole_ones_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("results.jsonl");
        let (one, two) = (
            result(Recipe::Split, Target::Epsilon(1.0), 1, 0.8),
            result(Recipe::Split, Target::Epsilon(1.0), 2, 0.7),
        );
        let mut results = Results::open(&path).unwrap();
        results.add(one.clone()).unwrap();
        drop(results);
        let whole = std::fs::read(&path).unwrap();
        let torn = [&whole[..], b"{\"data\":\"sep"].concat();
        std::fs::write(&path, torn).unwrap();
        let mut results = Results::open(&path).unwrap();
        assert_eq!(results.get(one.settings), Some(&one));
        results.add(two.clone()).unwrap();
        let results = Results::open(&path).unwrap();
        assert_eq!((results.get(one.settings), results.get(two.settings)), (Some(&one), Some(&two)));
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 2);
    }

    #[test]
    fn a_whole_line_that_is_no_result_is_refused_with_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("results.jsonl");
        std::fs::write(&path, "{}\n").unwrap();
        let error = Results::open(&path).unwrap_err().to_string();
        assert!(error.contains("line 1") && error.contains("results.jsonl"), "{error}");
    }
}
