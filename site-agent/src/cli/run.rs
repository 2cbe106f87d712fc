//! `fusiondp-site run`.

use fusiondp_runtime::shutdown::Shutdown;
use fusiondp_runtime::telemetry;

use crate::app;
use crate::config::SiteConfig;

pub(super) async fn run(config: SiteConfig) -> anyhow::Result<()> {
    telemetry::init(&config.telemetry)?;
    let shutdown = Shutdown::on_signals()?;
    Ok(app::run(config, shutdown).await?)
}
