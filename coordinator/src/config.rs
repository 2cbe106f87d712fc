//! `coordinator.toml`: read strictly, validated before a port opens.
//!
//! Variables `FUSIONDP_COORDINATOR__…` override single fields, for example
//! `FUSIONDP_COORDINATOR__LIMITS__MAX_CHUNK_KIB=256`.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use fusiondp_protocol::{IdError, Limits, SiteId};
use fusiondp_runtime::TlsFiles;
use fusiondp_runtime::config::{self, resolve};
use fusiondp_runtime::telemetry::TelemetryConfig;
use serde::{Deserialize, Deserializer};

use crate::app::{Consortium, CoordinatorSettings, Submissions};
use crate::provision::{ConsortiumError, ConsortiumFile};
use crate::store::StoreOptions;

/// Prefix of the variables that override fields.
pub const ENV_PREFIX: &str = "FUSIONDP_COORDINATOR";

/// The coordinator's configuration file. Relative paths count from its folder.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CoordinatorConfig {
    /// IP address and port to listen on, for example `0.0.0.0:7443`.
    pub listen: String,
    /// Folder of the state; `state` if absent.
    #[serde(default = "default_state_dir")]
    pub state_dir: PathBuf,
    /// PostgreSQL in place of SQLite, in a build with the feature `postgres`. May hold a password.
    #[serde(default)]
    pub database_url: Option<DatabaseUrl>,
    /// Who is admitted; `consortium.toml` if absent.
    #[serde(default = "default_consortium_file")]
    pub consortium_file: PathBuf,
    /// Own certificate and key, and the consortium's authority.
    pub tls: TlsFiles,
    /// Largest messages and models.
    #[serde(default)]
    pub limits: LimitsConfig,
    /// Logging.
    #[serde(default)]
    pub telemetry: TelemetryConfig,
}

/// Section `[limits]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// Largest piece of a model or update in one message, KiB, 4 to 1,024; default 512.
    #[serde(deserialize_with = "chunk_kib")]
    pub max_chunk_kib: u32,
    /// Largest model or update in total, MiB, 1 to 953: the database takes values of 10^9 bytes; default 256.
    #[serde(deserialize_with = "model_mib")]
    pub max_model_mib: u32,
}

/// Address of a database. Its `Debug` hides it, because it may hold a password.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct DatabaseUrl(String);

/// Why a configuration does not serve.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file does not read.
    #[error(transparent)]
    Config(#[from] config::ConfigError),
    /// The consortium file does not read.
    #[error(transparent)]
    Consortium(#[from] ConsortiumError),
    /// A site id of the consortium file.
    #[error("{}: {source}", path.display())]
    Site {
        /// The consortium file.
        path: PathBuf,
        /// What is wrong with the id.
        source: IdError,
    },
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self { max_chunk_kib: 512, max_model_mib: 256 }
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("DatabaseUrl(…)")
    }
}

impl CoordinatorConfig {
    /// Reads a file with the environment's overrides, paths resolved.
    ///
    /// # Errors
    /// [`SettingsError`], naming file or variable, field, value and remedy.
    pub fn load(path: &Path) -> Result<Self, SettingsError> {
        let mut config: Self = config::load(path, ENV_PREFIX)?;
        let base = path.parent().unwrap_or(Path::new("."));
        config.state_dir = resolve(base, &config.state_dir);
        config.consortium_file = resolve(base, &config.consortium_file);
        config.tls = config.tls.resolved(base);
        Ok(config)
    }

    /// What the coordinator runs with; reads the consortium file, and no certificate.
    ///
    /// # Errors
    /// [`SettingsError`].
    pub fn settings(&self) -> Result<CoordinatorSettings, SettingsError> {
        let file = ConsortiumFile::load(&self.consortium_file)?;
        let bad_id = |source| SettingsError::Site { path: self.consortium_file.clone(), source };
        let sites = file
            .sites()
            .iter()
            .map(|site| SiteId::new(site.id()).map_err(bad_id))
            .collect::<Result<_, _>>()?;
        let consortium = Consortium { name: file.name().to_owned(), sites };
        let limits = self.limits.as_limits();
        let submissions = Submissions::Deployed;
        Ok(CoordinatorSettings { consortium, limits, submissions, authority: None })
    }

    /// Where the state is kept.
    pub fn store_options(&self) -> StoreOptions {
        let database_url = self.database_url.as_ref().map(|url| url.0.clone());
        StoreOptions { state_dir: self.state_dir.clone(), database_url }
    }
}

impl LimitsConfig {
    fn as_limits(self) -> Limits {
        let Self { max_chunk_kib, max_model_mib } = self;
        Limits { max_chunk_bytes: max_chunk_kib << 10, max_model_bytes: u64::from(max_model_mib) << 20 }
    }
}

impl TryFrom<String> for DatabaseUrl {
    type Error = &'static str;

    // Refused while reading, like every other value, so that the error names file or variable; never the address.
    fn try_from(url: String) -> Result<Self, Self::Error> {
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            return Err("does not begin with postgres://; leave it out for SQLite in state_dir");
        }
        if !cfg!(feature = "postgres") {
            return Err(
                "needs a build with the cargo feature `postgres`; leave it out for SQLite in state_dir",
            );
        }
        Ok(Self(url))
    }
}

fn chunk_kib<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    within(4..=1_024, u32::deserialize(deserializer)?)
}

fn model_mib<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    within(1..=953, u32::deserialize(deserializer)?)
}

fn within<E: serde::de::Error>(range: RangeInclusive<u32>, value: u32) -> Result<u32, E> {
    let (least, most) = (range.start(), range.end());
    let refused = || E::custom(format!("{value} is out of range; use {least} to {most}"));
    range.contains(&value).then_some(value).ok_or_else(refused)
}

fn default_state_dir() -> PathBuf {
    PathBuf::from("state")
}

fn default_consortium_file() -> PathBuf {
    PathBuf::from("consortium.toml")
}

#[cfg(test)]
mod tests;
