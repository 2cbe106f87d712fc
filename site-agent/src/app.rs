//! Wiring of a deployed agent: configuration in, running agent out. Randomness is the operating system's, always.

use std::sync::Arc;

use fusiondp_runtime::clock::{Clock, SystemClock};
use fusiondp_runtime::identity::Role;
use fusiondp_runtime::shutdown::Shutdown;
use fusiondp_runtime::tls::TlsFilesError;

use crate::agent::{AgentError, SiteAgent, SiteParts, SiteSettings};
use crate::config::SiteConfig;
use crate::data::FileSource;
use crate::imputer::ImputerProvider;
use crate::policy::{EpsilonMeter, Purpose};
use crate::random::RandomSource;
use crate::store::{Store, StoreError};
use crate::transport::TlsConnector;
use crate::workers::Workers;

/// Why an agent did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The certificates do not serve.
    #[error(transparent)]
    Tls(#[from] TlsFilesError),
    /// The state folder cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The agent.
    #[error(transparent)]
    Agent(#[from] AgentError),
}

/// Runs an agent until shutdown.
///
/// # Errors
/// The certificates or the state folder do not serve, another agent holds the folder, or the ledger is broken.
pub async fn run(config: SiteConfig, shutdown: Shutdown) -> Result<(), AppError> {
    // Checked before anything is opened, so that a mistake shows at the start and not at the first reconnect.
    let credentials = config.tls.load_as(Role::Site)?;
    let store = Arc::new(Store::open_with_journal(&config.state_dir, &config.journal()).await?);
    tracing::info!(site = credentials.identity().id(), coordinator = config.coordinator, "agent starts");
    drop(credentials);
    let agent = SiteAgent::new(parts(config, store, shutdown)).await?;
    Ok(agent.run().await?)
}

fn parts(config: SiteConfig, store: Arc<Store>, shutdown: Shutdown) -> SiteParts {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let connector =
        TlsConnector { url: config.coordinator, coordinator_id: config.coordinator_id, files: config.tls };
    SiteParts {
        settings: SiteSettings {
            cohort_identities: config.data.cohort_identity,
            ..SiteSettings::new(config.policy, config.data.identity)
        },
        source: Arc::new(FileSource::new(config.data.train, config.data.cohorts, Arc::clone(&clock))),
        imputers: Arc::new(ImputerProvider::new(
            config.imputer.into(),
            Purpose::Production,
            Arc::clone(&clock),
        )),
        store,
        connector: Arc::new(connector),
        random: RandomSource::Os,
        meter: Arc::new(EpsilonMeter::default()),
        workers: config
            .training
            .threads
            .map_or_else(Workers::per_core, |threads| Workers::new(threads.get())),
        shutdown,
        clock,
    }
}
