//! Structured logs on standard error, so that standard output stays free for results.

use std::io::{self, IsTerminal};

use serde::Deserialize;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::TryInitError;

/// Section `[telemetry]` of a service's configuration.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TelemetryConfig {
    /// Filter directives, for example `info` or `info,fusiondp_site_agent=debug`. Default `info`.
    pub log: String,
    /// Shape of a line. Default `text`.
    pub format: LogFormat,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self { log: "info".to_owned(), format: LogFormat::Text }
    }
}

/// Shape of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// For people; colored on a terminal.
    #[default]
    Text,
    /// One JSON object per line, for collectors.
    Json,
}

/// Why logging could not start.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter is not well-formed.
    #[error(
        "telemetry.log = \"{directives}\" is not a filter: {source}; use for example \"info\" or \"info,h2=warn\""
    )]
    Filter {
        /// As configured.
        directives: String,
        /// Why.
        source: tracing_subscriber::filter::ParseError,
    },
    /// The process logs already.
    #[error("logging was started twice in one process: {0}")]
    AlreadyStarted(#[from] TryInitError),
}

impl TelemetryConfig {
    /// The filter, checked.
    ///
    /// # Errors
    /// [`TelemetryError::Filter`].
    pub fn filter(&self) -> Result<EnvFilter, TelemetryError> {
        EnvFilter::builder()
            .parse(&self.log)
            .map_err(|source| TelemetryError::Filter { directives: self.log.clone(), source })
    }
}

/// Starts logging for the whole process.
///
/// # Errors
/// [`TelemetryError`]: a malformed filter, or a second start.
pub fn init(config: &TelemetryConfig) -> Result<(), TelemetryError> {
    use tracing_subscriber::util::SubscriberInitExt;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(config.filter()?)
        .with_writer(io::stderr)
        // A line that cannot be written would be reported to the same closed pipe, with a panic.
        .log_internal_errors(false);
    match config.format {
        LogFormat::Text => builder.with_ansi(io::stderr().is_terminal()).finish().try_init()?,
        LogFormat::Json => builder.json().flatten_event(true).finish().try_init()?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_defaults_and_the_documented_examples_are_valid() {
        for log in ["info", "info,fusiondp_site_agent=debug", "info,h2=warn"] {
            let config: TelemetryConfig =
                toml::from_str(&format!("log = \"{log}\"\nformat = \"json\"")).unwrap();
            assert!(config.filter().is_ok(), "{log}");
            assert_eq!(config.format, LogFormat::Json);
        }
        assert_eq!(toml::from_str::<TelemetryConfig>("").unwrap(), TelemetryConfig::default());
    }

    #[test]
    fn a_malformed_filter_is_named() {
        let config = TelemetryConfig { log: "info,=loud=".to_owned(), ..TelemetryConfig::default() };
        assert!(config.filter().unwrap_err().to_string().contains("info,=loud="));
    }

    #[test]
    fn a_second_start_is_an_error() {
        init(&TelemetryConfig::default()).unwrap();
        assert!(matches!(init(&TelemetryConfig::default()), Err(TelemetryError::AlreadyStarted(_))));
    }
}
