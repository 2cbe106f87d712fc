//! `serve`.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use fusiondp_runtime::tls::{Authority, TlsServer};
use fusiondp_runtime::{Shutdown, SystemClock, telemetry};

use crate::app::Coordinator;
use crate::config::CoordinatorConfig;
use crate::store::Store;

/// Serve a consortium until SIGINT or SIGTERM.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fusiondp-coordinator serve --config kits/coordinator/coordinator.toml
  FUSIONDP_COORDINATOR__LISTEN=0.0.0.0:8443 fusiondp-coordinator serve --config coordinator.toml")]
pub(super) struct Serve {
    /// Configuration file; its relative paths count from its folder.
    #[arg(long, value_name = "FILE", default_value = "coordinator.toml")]
    config: PathBuf,
}

impl Serve {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let config = CoordinatorConfig::load(&self.config)?;
        telemetry::init(&config.telemetry)?;
        tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(serve(config))
    }
}

async fn serve(config: CoordinatorConfig) -> anyhow::Result<()> {
    let mut settings = config.settings()?;
    settings.authority = Some(Authority::read(&config.tls.ca)?);
    let server = TlsServer::new(&config.tls)?;
    let shutdown = Shutdown::on_signals()?;
    let store = Store::open(&config.store_options()).await?;
    let listener = server.bind(&config.listen).await?;
    let address = listener.local_addr()?;
    let incoming = listener.into_incoming();
    let (consortium, sites) = (settings.consortium.name.clone(), settings.consortium.sites.len());
    let running = Coordinator::start(settings, store, incoming, shutdown, Arc::new(SystemClock));
    tracing::info!(%address, consortium, sites, "coordinator is ready");
    running.finished().await?;
    tracing::info!("coordinator has ended");
    Ok(())
}
