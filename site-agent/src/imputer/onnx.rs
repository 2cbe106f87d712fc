//! An ONNX model as imputer: pinned by digest, inspected before anything is run.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use fusiondp_dp::Digest;
use fusiondp_learn::onnx::inspect;
use fusiondp_learn::schema::Schema;
use fusiondp_learn::table::ImputedFeatures;
use fusiondp_protocol::support::SupportUnits;
use fusiondp_runtime::clock::Clock;
use fusiondp_runtime::files::{FileError, read_limited};

use super::binding::Binding;
use super::inference::Inference;
use super::runtime::{RuntimeLookup, environment};
use super::{Imputer, ImputerError, ImputerInput};
use crate::data::Progress;

/// Largest model file, in bytes.
const MAX_MODEL_BYTES: u64 = 1 << 30;

/// A model file, read and accepted.
pub struct OnnxImputer {
    bytes: Vec<u8>,
    digest: Digest,
    mapped: BTreeMap<String, String>,
    lookup: RuntimeLookup,
    clock: Arc<dyn Clock>,
    /// One imputation at a time uses all cores; the agents of a simulation take turns.
    turn: Arc<Mutex<()>>,
    workers: NonZeroUsize,
}

/// What an imputer needs besides the model.
#[derive(Clone)]
pub struct OnnxSettings {
    /// The site's mapping of features to outputs.
    pub mapped: BTreeMap<String, String>,
    /// Where ONNX Runtime is looked for.
    pub lookup: RuntimeLookup,
    /// Paces progress lines.
    pub clock: Arc<dyn Clock>,
    /// Held while a model runs.
    pub turn: Arc<Mutex<()>>,
    /// Most threads, one session each.
    pub workers: NonZeroUsize,
}

impl OnnxImputer {
    /// Accepts a model's bytes: standard operators only, everything inside the file, and inputs and outputs that fit the
    /// schema.
    ///
    /// # Errors
    /// [`ImputerError::Refused`], [`ImputerError::Input`] or [`ImputerError::Output`].
    pub fn new(bytes: Vec<u8>, schema: &Schema, settings: OnnxSettings) -> Result<Self, ImputerError> {
        let summary = inspect(&bytes)?;
        summary.require_self_contained()?;
        Binding::new(&summary, schema, &settings.mapped)?;
        let OnnxSettings { mapped, lookup, clock, turn, workers } = settings;
        Ok(Self { digest: Digest::of(&bytes), bytes, mapped, lookup, clock, turn, workers })
    }

    /// SHA-256 of the file.
    pub fn digest(&self) -> Digest {
        self.digest
    }
}

impl Imputer for OnnxImputer {
    fn impute(&self, input: &ImputerInput<'_>) -> Result<ImputedFeatures, ImputerError> {
        let binding = Binding::new(&inspect(&self.bytes)?, input.schema, &self.mapped)?;
        let (_, environment) = environment(&self.lookup)?;
        let inference = Inference {
            environment: &environment,
            model: &self.bytes,
            binding: &binding,
            schema: input.schema,
            public: input.public,
        };
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let progress = Progress::start(Arc::clone(&self.clock), "imputing");
        Ok(ImputedFeatures::new(input.schema, inference.run(self.workers.get(), progress)?)?)
    }

    fn support(&self) -> Result<Option<SupportUnits>, ImputerError> {
        Ok(SupportUnits::from_metadata(&inspect(&self.bytes)?.metadata)?)
    }

    /// Model and mapping: another mapping reads other values out of the same file.
    fn cache_key(&self) -> Option<Digest> {
        let mut bytes = self.digest.as_bytes().to_vec();
        for (feature, place) in &self.mapped {
            for text in [feature, place] {
                bytes.extend((text.len() as u64).to_le_bytes());
                bytes.extend(text.as_bytes());
            }
        }
        Some(Digest::of(&bytes))
    }
}

/// Finds the file with this digest in a folder, whatever its name.
///
/// # Errors
/// The folder cannot be read, or no file has the digest; the error lists what is there.
pub fn find(folder: &Path, wanted: Digest) -> Result<(PathBuf, Vec<u8>), ImputerError> {
    let mut found = Vec::new();
    for path in model_files(folder)? {
        let bytes = read_limited(&path, MAX_MODEL_BYTES)?;
        let digest = Digest::of(&bytes);
        if digest == wanted {
            return Ok((path, bytes));
        }
        let name = crate::data::csv::file_name(&path);
        found.push(format!("{name} {}…", &digest.to_string()[..12]));
    }
    let found = if found.is_empty() { "nothing".to_owned() } else { found.join(", ") };
    Err(ImputerError::NotFound { wanted, found })
}

/// The `.onnx` files of a folder, by name.
///
/// # Errors
/// The folder cannot be read.
pub fn model_files(folder: &Path) -> Result<Vec<PathBuf>, ImputerError> {
    let failed = |source| FileError::Read { path: folder.to_owned(), source };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == "onnx") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
