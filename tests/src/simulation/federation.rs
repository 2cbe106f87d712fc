//! Coordinator and agents in this process.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fusiondp_coordinator::app::{
    Consortium, Coordinator, CoordinatorSettings, RunningCoordinator, Submissions,
};
use fusiondp_coordinator::store::{Store as CoordinatorStore, StoreOptions};
use fusiondp_proto::v1;
use fusiondp_proto::v1::administration_client::AdministrationClient;
use fusiondp_protocol::chunks::decode_f32;
use fusiondp_protocol::ids::{SiteId, StudyId};
use fusiondp_protocol::messages::{ExportPart, Limits, StudyState, StudyStatus, SubmittedStudy};
use fusiondp_protocol::study::{ImputerSpec, Study, StudyDocument};
use fusiondp_runtime::tls::{MemoryConnector, memory_transport};
use fusiondp_runtime::{Clock, PeerIdentity, Role, Shutdown, SystemClock};
use fusiondp_site_agent::agent::{SiteAgent, SiteParts, SiteSettings};
use fusiondp_site_agent::imputer::runtime::RuntimeLookup;
use fusiondp_site_agent::imputer::{ImputerProvider, ProviderSettings};
use fusiondp_site_agent::policy::limits::{EpsilonLimit, EpsilonLimits};
use fusiondp_site_agent::policy::{Approval, EpsilonMeter, PolicyLimits, Purpose, UnitColumn};
use fusiondp_site_agent::random::RandomSource;
use fusiondp_site_agent::store::Store as SiteStore;
use fusiondp_site_agent::transport::InProcess;
use fusiondp_site_agent::workers::Workers;
use sha2::{Digest, Sha256};
use tokio::task::JoinSet;
use tonic::transport::Channel;

use super::{SimulationError, records};
use crate::split::SiteFolder;

/// Epsilon that no study of a simulation reaches: the sites' budget is not what is tried out here.
const NO_LIMIT: f64 = 1e6;

/// What an in-memory federation is made of.
pub struct InMemoryOptions<'a> {
    /// The sites and their data.
    pub sites: &'a [SiteFolder],
    /// The study, for its cohorts and its imputer.
    pub study: &'a Study,
    /// Folder of databases and ledgers.
    pub state: &'a Path,
    /// Folder of ONNX imputers.
    pub imputers: PathBuf,
    /// Seed of samples and noise.
    pub seed: u64,
}

/// A running federation. Dropping it ends coordinator and agents at once.
pub struct InMemory {
    coordinator: RunningCoordinator,
    store: CoordinatorStore,
    agents: JoinSet<(String, Result<(), String>)>,
    admin: AdministrationClient<Channel>,
    shutdown: Shutdown,
}

/// A study that has come to its end.
pub struct Finished {
    /// Last status.
    pub status: StudyStatus,
    /// The report's files by name.
    pub report: BTreeMap<String, Vec<u8>>,
    /// Final parameters, averaged if the study says so.
    pub parameters: Vec<f32>,
}

impl InMemory {
    /// Starts the coordinator and one agent per site.
    ///
    /// # Errors
    /// A state folder in use, a broken ledger, an id or cohort name that does not stand.
    pub async fn start(options: InMemoryOptions<'_>) -> Result<Self, SimulationError> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let shutdown = Shutdown::new();
        let (listener, connector) = memory_transport();
        let store_options = StoreOptions { state_dir: options.state.join("coordinator"), database_url: None };
        let store = CoordinatorStore::open(&store_options).await;
        let store = store.map_err(|e| start("coordinator", e))?;
        let settings = CoordinatorSettings {
            consortium: consortium(options.sites)?,
            limits: Limits::default(),
            submissions: Submissions::Simulation,
            authority: None,
        };
        let coordinator =
            Coordinator::start(settings, store.clone(), listener, shutdown.clone(), clock.clone());
        let admin = PeerIdentity::declared("admin", Role::Admin).map_err(|e| start("admin", e))?;
        let admin = AdministrationClient::new(connector.channel(admin));
        let admin = admin.max_decoding_message_size(usize::MAX);
        let agents = Agents::new(&options, connector, shutdown.clone(), clock).start().await?;
        Ok(Self { coordinator, store, agents, admin, shutdown })
    }

    /// Submits a study and follows it to its end.
    ///
    /// # Errors
    /// The study fails or is refused, or an agent ends.
    pub async fn run(
        &mut self,
        document: &StudyDocument,
        progress: &mut (dyn FnMut(&StudyStatus) + '_),
    ) -> Result<Finished, SimulationError> {
        let request = v1::SubmitStudyRequest { study_toml: document.text().as_bytes().to_vec().into() };
        let submitted = SubmittedStudy::try_from(self.admin.submit_study(request).await?.into_inner())?;
        let status = self.follow(&submitted.study_id, progress).await?;
        if status.state != StudyState::Finished {
            return Err(SimulationError::Ended {
                state: status.state.as_str().to_owned(),
                detail: status.detail,
            });
        }
        let report = self.export(&submitted.study_id).await?;
        let parameters = self.final_parameters(&submitted.study_id).await?;
        Ok(Finished { status, report, parameters })
    }

    async fn follow(
        &mut self,
        id: &StudyId,
        progress: &mut (dyn FnMut(&StudyStatus) + '_),
    ) -> Result<StudyStatus, SimulationError> {
        let request = v1::WatchStudyRequest { study_id: id.to_string() };
        let mut stream = self.admin.watch_study(request).await?.into_inner();
        let mut last = None;
        loop {
            tokio::select! {
                message = stream.message() => match message? {
                    Some(message) => {
                        let status = StudyStatus::try_from(message)?;
                        progress(&status);
                        last = Some(status);
                    }
                    None => break,
                },
                Some(ended) = self.agents.join_next() => return Err(agent_ended(ended)),
            }
        }
        last.ok_or_else(|| SimulationError::Call("no status of the study".to_owned()))
    }

    async fn export(&mut self, id: &StudyId) -> Result<BTreeMap<String, Vec<u8>>, SimulationError> {
        let request = v1::ExportStudyRequest { study_id: id.to_string() };
        let mut stream = self.admin.export_study(request).await?.into_inner();
        let mut files = BTreeMap::<String, Vec<u8>>::new();
        while let Some(chunk) = stream.message().await? {
            let part = ExportPart::try_from(chunk)?;
            files.entry(part.file).or_default().extend(part.data);
        }
        Ok(files)
    }

    async fn final_parameters(&self, id: &StudyId) -> Result<Vec<f32>, SimulationError> {
        let stored = |e: fusiondp_coordinator::store::StoreError| SimulationError::Call(e.to_string());
        let missing = || SimulationError::Report("the final model is not stored".to_owned());
        let row = self.store.study(id).await.map_err(stored)?.ok_or_else(missing)?;
        let model = self.store.model(id, row.final_version).await.map_err(stored)?.ok_or_else(missing)?;
        decode_f32(&model.parameters).map_err(|e| SimulationError::Report(e.to_string()))
    }

    /// Ends agents and coordinator and waits for them.
    ///
    /// # Errors
    /// When one of them had failed.
    pub async fn stop(mut self) -> Result<(), SimulationError> {
        self.shutdown.trigger();
        while let Some(ended) = self.agents.join_next().await {
            let (site, outcome) = ended.map_err(|e| start("an agent", e))?;
            outcome.map_err(|problem| SimulationError::Agent { site, problem })?;
        }
        self.coordinator.finished().await.map_err(|e| start("coordinator", e))
    }
}

/// Everything that agents of one process share.
struct Agents<'a> {
    options: &'a InMemoryOptions<'a>,
    connector: MemoryConnector,
    meter: Arc<EpsilonMeter>,
    workers: Workers,
    shutdown: Shutdown,
    clock: Arc<dyn Clock>,
}

impl<'a> Agents<'a> {
    fn new(
        options: &'a InMemoryOptions<'a>,
        connector: MemoryConnector,
        shutdown: Shutdown,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let (meter, workers) = (Arc::default(), Workers::per_core());
        Self { options, connector, meter, workers, shutdown, clock }
    }

    async fn start(self) -> Result<JoinSet<(String, Result<(), String>)>, SimulationError> {
        let mut running = JoinSet::new();
        for site in self.options.sites {
            let parts = self.parts(site).await?;
            let agent = SiteAgent::new(parts).await.map_err(|e| start(&site.site, e))?;
            let name = site.site.clone();
            running.spawn(async move { (name, agent.run().await.map_err(|e| e.to_string())) });
        }
        Ok(running)
    }

    async fn parts(&self, site: &SiteFolder) -> Result<SiteParts, SimulationError> {
        let folder = self.options.state.join("sites").join(&site.site);
        let store = SiteStore::open(&folder).await.map_err(|e| start(&site.site, e))?;
        let identity = PeerIdentity::declared(&site.site, Role::Site).map_err(|e| start(&site.site, e))?;
        let source = records::source(self.options.study, site, self.clock.clone())?;
        let imputers = ImputerProvider::new(self.imputers(site)?, Purpose::Simulation, self.clock.clone());
        Ok(SiteParts {
            settings: SiteSettings::new(everything_allowed(self.options.study)?, None),
            source: Arc::new(source),
            imputers: Arc::new(imputers),
            store: Arc::new(store),
            connector: Arc::new(InProcess { connector: self.connector.clone(), identity }),
            random: RandomSource::Simulation { seed: site_seed(self.options.seed, &site.site) },
            meter: self.meter.clone(),
            workers: self.workers.clone(),
            shutdown: self.shutdown.clone(),
            clock: self.clock.clone(),
        })
    }

    fn imputers(&self, site: &SiteFolder) -> Result<ProviderSettings, SimulationError> {
        let mut settings = ProviderSettings {
            folder: Some(self.options.imputers.clone()),
            lookup: RuntimeLookup::of_process(None),
            ..ProviderSettings::default()
        };
        if matches!(self.options.study.imputer, ImputerSpec::Precomputed { .. }) {
            settings.precomputed.insert("*".to_owned(), precomputed_file(site)?);
        }
        Ok(settings)
    }
}

/// The one file of precomputed imputations that lies beside a site's train.csv.
pub(crate) fn precomputed_file(site: &SiteFolder) -> Result<PathBuf, SimulationError> {
    let entries = std::fs::read_dir(&site.folder).map_err(SimulationError::io(&site.folder))?;
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("train_imputed") && name.ends_with(".csv")
        })
        .collect();
    match (files.pop(), files.len()) {
        (Some(file), 0) => Ok(file),
        (file, more) => Err(SimulationError::Precomputed {
            site: site.site.clone(),
            count: more + usize::from(file.is_some()),
            folder: site.folder.clone(),
        }),
    }
}

fn consortium(sites: &[SiteFolder]) -> Result<Consortium, SimulationError> {
    let ids = sites.iter().map(|site| site.site.parse::<SiteId>()).collect::<Result<BTreeSet<_>, _>>()?;
    Ok(Consortium { name: "simulation".to_owned(), sites: ids })
}

pub(crate) fn everything_allowed(study: &Study) -> Result<PolicyLimits, SimulationError> {
    let limit = EpsilonLimit::try_from(NO_LIMIT).map_err(|e| start("policy", e))?;
    Ok(PolicyLimits {
        max_epsilon_replace: limit,
        max_epsilon_zero_out: limit,
        delta: study.privacy.delta,
        min_noise_multiplier: None,
        max_clip_norm: None,
        max_sampling_probability: None,
        min_units: 1,
        allow_public_gradient: true,
        allow_metrics: true,
        min_metrics_noise: None,
        per_study: EpsilonLimits::default(),
        per_year: EpsilonLimits::default(),
        records: None,
        public_columns: study.schema.public().chain(study.schema.label()).map(|c| c.name.clone()).collect(),
        unit_column: UnitColumn::EveryRecord,
        allowed_imputers: None,
        require_support_ids: false,
        approval: Approval::Automatic,
    })
}

/// Sites of one simulation draw unrelated noise.
pub(crate) fn site_seed(seed: u64, site: &str) -> u64 {
    let mut hash = Sha256::new();
    hash.update(b"fusiondp simulation 1");
    hash.update(seed.to_le_bytes());
    hash.update(site.as_bytes());
    let digest = hash.finalize();
    let mut word = [0; 8];
    word.copy_from_slice(&digest[..8]);
    u64::from_le_bytes(word)
}

fn start(service: &str, problem: impl ToString) -> SimulationError {
    SimulationError::Start { service: service.to_owned(), problem: problem.to_string() }
}

fn agent_ended(ended: Result<(String, Result<(), String>), tokio::task::JoinError>) -> SimulationError {
    match ended {
        Ok((site, outcome)) => {
            let problem = outcome.err().unwrap_or_else(|| "without being asked to".to_owned());
            SimulationError::Agent { site, problem }
        }
        Err(error) => start("an agent", error),
    }
}
