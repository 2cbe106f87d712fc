//! Finds what a study asks for among what the site has.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use fusiondp_protocol::study::{ImputerSpec, StudyDocument};
use fusiondp_runtime::clock::Clock;

use super::declared_noise::DeclaredNoise;
use super::onnx::{OnnxImputer, OnnxSettings, find, model_files};
use super::precomputed::Precomputed;
use super::runtime::RuntimeLookup;
use super::{Imputer, ImputerError};
use crate::config::ImputerConfig;
use crate::policy::Purpose;

/// Key of a precomputed file that serves any study.
const ANY_STUDY: &str = "*";

/// What a site has.
#[derive(Debug, Clone, Default)]
pub struct ProviderSettings {
    /// Folder of ONNX files.
    pub folder: Option<PathBuf>,
    /// Where ONNX Runtime is looked for.
    pub lookup: RuntimeLookup,
    /// Files of imputed values, by the digest that a study pins or `*`.
    pub precomputed: BTreeMap<String, PathBuf>,
    /// Output of the ONNX model per feature.
    pub outputs: BTreeMap<String, String>,
}

/// Finds imputers. Agents of one process share one.
pub struct ImputerProvider {
    settings: ProviderSettings,
    purpose: Purpose,
    clock: Arc<dyn Clock>,
    turn: Arc<Mutex<()>>,
}

impl From<ImputerConfig> for ProviderSettings {
    fn from(config: ImputerConfig) -> Self {
        Self {
            folder: config.dir,
            lookup: RuntimeLookup::of_process(config.onnx_runtime),
            precomputed: config.precomputed,
            outputs: config.outputs,
        }
    }
}

impl ImputerProvider {
    /// A provider of what the site has.
    pub fn new(settings: ProviderSettings, purpose: Purpose, clock: Arc<dyn Clock>) -> Self {
        Self { settings, purpose, clock, turn: Arc::default() }
    }

    /// What the site has.
    pub fn settings(&self) -> &ProviderSettings {
        &self.settings
    }

    /// The imputer of a study; `None` where the study computes on no imputed value.
    ///
    /// # Errors
    /// [`ImputerError`]: nothing fits, or what fits is refused.
    pub fn find(&self, document: &StudyDocument) -> Result<Option<Box<dyn Imputer>>, ImputerError> {
        if !document.study().uses_imputer() {
            return Ok(None);
        }
        let imputer: Box<dyn Imputer> = match &document.study().imputer {
            ImputerSpec::None {} | ImputerSpec::Redacted {} => return Err(ImputerError::NotDeclared),
            ImputerSpec::DeclaredNoise {} => Box::new(DeclaredNoise::new(document.digest())),
            ImputerSpec::Onnx { sha256 } => Box::new(self.onnx(document, *sha256)?),
            ImputerSpec::Precomputed { sha256 } => Box::new(self.precomputed(*sha256)?),
        };
        Ok(Some(imputer))
    }

    fn onnx(
        &self,
        document: &StudyDocument,
        wanted: Option<fusiondp_dp::Digest>,
    ) -> Result<OnnxImputer, ImputerError> {
        let folder = self.settings.folder.as_ref().ok_or(ImputerError::NoFolder)?;
        let wanted = match (wanted, self.purpose) {
            (Some(wanted), _) => wanted,
            (None, Purpose::Production) => return Err(ImputerError::NotPinned),
            (None, Purpose::Simulation) => only_model(folder)?,
        };
        let (path, bytes) = find(folder, wanted)?;
        tracing::info!(file = crate::data::csv::file_name(&path), sha256 = %wanted, "found the study's imputer");
        let settings = OnnxSettings {
            mapped: self.settings.outputs.clone(),
            lookup: self.settings.lookup.clone(),
            clock: Arc::clone(&self.clock),
            turn: Arc::clone(&self.turn),
            workers: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
        };
        OnnxImputer::new(bytes, &document.study().schema, settings)
    }

    fn precomputed(&self, wanted: Option<fusiondp_dp::Digest>) -> Result<Precomputed, ImputerError> {
        let key = wanted.map_or(ANY_STUDY.to_owned(), |digest| digest.to_string());
        let files = &self.settings.precomputed;
        let path = files.get(&key).or_else(|| files.get(ANY_STUDY));
        let path = path.ok_or(ImputerError::NotMapped { key })?;
        Ok(Precomputed::new(path.clone(), wanted, Arc::clone(&self.clock)))
    }
}

/// Digest of the folder's only model, for simulations of studies that pin none yet.
fn only_model(folder: &std::path::Path) -> Result<fusiondp_dp::Digest, ImputerError> {
    match model_files(folder)?.as_slice() {
        [path] => Ok(fusiondp_dp::Digest::of(&fusiondp_runtime::files::read_limited(path, 1 << 30)?)),
        _ => Err(ImputerError::NotPinned),
    }
}
