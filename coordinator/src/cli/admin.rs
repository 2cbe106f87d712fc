//! Talking to a coordinator as its administrator.

use std::path::Path;

use anyhow::{Context as _, anyhow};
use fusiondp_proto::v1::administration_client::AdministrationClient;
use fusiondp_protocol::Problem;
use fusiondp_runtime::TlsFiles;
use fusiondp_runtime::config::{self, ConfigError};
use fusiondp_runtime::tls::{ClientOptions, connect, explain};
use serde::Deserialize;
use tonic::Status;
use tonic::transport::Channel;

use super::AdminKit;

/// Largest message of an answer: a status may list every metric of a long study.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// Prefix of the variables that override fields of `admin.toml`.
const ENV_PREFIX: &str = "FUSIONDP_ADMIN";

/// `admin.toml` of the admin kit. Relative paths count from its folder.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AdminConfig {
    /// `https://host:port`.
    pub(super) coordinator: String,
    /// Id in the coordinator's certificate.
    pub(super) coordinator_id: String,
    /// Own certificate and key.
    pub(super) tls: TlsFiles,
}

/// A client of the coordinator's administration.
pub(super) type Admin = AdministrationClient<Channel>;

impl AdminConfig {
    /// Reads the kit's `admin.toml`.
    pub(super) fn load(folder: &Path) -> Result<Self, ConfigError> {
        let mut config: Self = config::load(&folder.join("admin.toml"), ENV_PREFIX)?;
        config.tls = config.tls.resolved(folder);
        Ok(config)
    }
}

impl AdminKit {
    /// Connects with the kit's certificate.
    pub(super) async fn connect(&self) -> anyhow::Result<Admin> {
        let help = || format!("the admin kit {} does not serve", self.folder.display());
        let config = AdminConfig::load(&self.folder).with_context(help)?;
        let options = ClientOptions::default();
        let channel = connect(&config.coordinator, &config.coordinator_id, &config.tls, &options).await?;
        Ok(AdministrationClient::new(channel).max_decoding_message_size(MAX_ANSWER_BYTES))
    }
}

/// A refused call in one line: the problem with its remedy, or why the connection failed.
pub(super) fn refusal(status: Status) -> anyhow::Error {
    match (Problem::from_status(&status), explain(&status)) {
        (Some(problem), _) => anyhow!("{problem}"),
        (None, Some(reason)) => anyhow!("{reason}"),
        (None, None) => anyhow!("the coordinator did not answer: {}; does it still run?", status.message()),
    }
}

/// Reads a file that a command names.
pub(super) fn read(path: &Path, limit_bytes: u64) -> anyhow::Result<Vec<u8>> {
    Ok(fusiondp_runtime::files::read_limited(path, limit_bytes)?)
}
