//! Finding and loading the ONNX Runtime library.
//!
//! Looked for in this order: `[imputer] onnx_runtime` of site.toml, `ORT_DYLIB_PATH`, beside the executable, the cache
//! folder that `deploy/onnxruntime/fetch.sh` fills. A place that is named explicitly must hold the library; the others
//! are passed over when empty.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ort::environment::Environment;

use super::ImputerError;

/// Version that the agent is built and tested with.
pub const ONNX_RUNTIME_VERSION: &str = "1.24.4";

/// Names of the library, the exact version first.
const LIBRARY_NAMES: [&str; 3] = ["libonnxruntime.so.1.24.4", "libonnxruntime.so", "libonnxruntime.dylib"];

/// ONNX Runtime allows one environment per process and keeps only a weak reference to it, so the process holds it here.
static LOADED: Mutex<Option<Loaded>> = Mutex::new(None);

#[derive(Clone)]
struct Loaded {
    path: PathBuf,
    environment: Environment,
}

/// Where to look.
#[derive(Debug, Clone, Default)]
pub struct RuntimeLookup {
    /// From site.toml.
    pub configured: Option<PathBuf>,
    /// From `ORT_DYLIB_PATH`.
    pub from_environment: Option<PathBuf>,
    /// Folder of the running program.
    pub executable_folder: Option<PathBuf>,
    /// The user's cache folder, `$XDG_CACHE_HOME` or `~/.cache`.
    pub cache_folder: Option<PathBuf>,
}

impl RuntimeLookup {
    /// The places of this process, with the configured one first.
    pub fn of_process(configured: Option<PathBuf>) -> Self {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let executable = std::env::current_exe().ok();
        Self {
            configured,
            from_environment: variable("ORT_DYLIB_PATH"),
            executable_folder: executable.and_then(|path| path.parent().map(Path::to_owned)),
            cache_folder: variable("XDG_CACHE_HOME")
                .or_else(|| variable("HOME").map(|home| home.join(".cache"))),
        }
    }

    /// The library's path.
    ///
    /// # Errors
    /// [`ImputerError::RuntimeMissing`] with the places looked at.
    pub fn locate(&self) -> Result<PathBuf, ImputerError> {
        let mut looked_at = Vec::new();
        for (named, candidate) in self.candidates() {
            if candidate.is_file() {
                return Ok(candidate);
            }
            looked_at.push(candidate.display().to_string());
            if named {
                break;
            }
        }
        Err(ImputerError::RuntimeMissing { looked_at: looked_at.join(", ") })
    }

    /// Places in order, and whether somebody named exactly this one.
    fn candidates(&self) -> impl Iterator<Item = (bool, PathBuf)> {
        let named = self.configured.iter().chain(&self.from_environment).cloned().map(|path| (true, path));
        let cached = self
            .cache_folder
            .iter()
            .map(|folder| folder.join("fusiondp/onnxruntime").join(ONNX_RUNTIME_VERSION));
        let folders: Vec<PathBuf> = self.executable_folder.iter().cloned().chain(cached).collect();
        let found = folders
            .into_iter()
            .flat_map(|folder| LIBRARY_NAMES.map(|name| (false, folder.join(name))).into_iter());
        named.chain(found)
    }
}

/// The process's ONNX Runtime, loaded with the first call; later calls get the same one, wherever they would look.
///
/// # Errors
/// The library is not found, does not load, or is older than 1.24.
pub fn environment(lookup: &RuntimeLookup) -> Result<(PathBuf, Environment), ImputerError> {
    // The slot is written last and whole, so a panic elsewhere cannot leave it half filled.
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(Loaded { path, environment }) = loaded.clone() {
        return Ok((path, environment));
    }
    let path = lookup.locate()?;
    let unusable =
        |reason: String| ImputerError::RuntimeUnusable { path: path.display().to_string(), reason };
    let environment = ort::init_from(&path)
        .map_err(|error| unusable(error.to_string()))?
        .with_name("fusiondp")
        .with_telemetry(false)
        .build()
        .map_err(|error| unusable(error.to_string()))?;
    environment.set_log_level(ort::logging::LogLevel::Warning);
    *loaded = Some(Loaded { path: path.clone(), environment: environment.clone() });
    Ok((path, environment))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_named_place_wins_and_must_hold_the_library() {
        let folder = tempfile::tempdir().unwrap();
        let beside = folder.path().join("libonnxruntime.so");
        std::fs::write(&beside, b"").unwrap();
        let lookup =
            RuntimeLookup { executable_folder: Some(folder.path().to_owned()), ..RuntimeLookup::default() };
        assert_eq!(lookup.locate().unwrap(), beside);
        let missing = folder.path().join("elsewhere.so");
        let named = RuntimeLookup { configured: Some(missing.clone()), ..lookup.clone() };
        let error = named.locate().unwrap_err().to_string();
        assert!(error.contains("elsewhere.so") && !error.contains("libonnxruntime.so"), "{error}");
        let from_environment = RuntimeLookup { from_environment: Some(missing), ..lookup };
        assert!(from_environment.locate().is_err());
    }

    #[test]
    fn the_exact_version_of_the_cache_is_preferred() {
        let folder = tempfile::tempdir().unwrap();
        let cached = folder.path().join("fusiondp/onnxruntime/1.24.4");
        std::fs::create_dir_all(&cached).unwrap();
        for name in &LIBRARY_NAMES[..2] {
            std::fs::write(cached.join(name), b"").unwrap();
        }
        let lookup =
            RuntimeLookup { cache_folder: Some(folder.path().to_owned()), ..RuntimeLookup::default() };
        assert_eq!(lookup.locate().unwrap(), cached.join("libonnxruntime.so.1.24.4"));
        let nowhere = RuntimeLookup::default().locate().unwrap_err().to_string();
        assert!(nowhere.contains("fetch.sh"), "{nowhere}");
    }
}
