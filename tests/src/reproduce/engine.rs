//! A federation without services: the sites' own training step and the server's own, called one after the other.
//!
//! What a deployed round does over connections and databases happens here in one loop: policy, ledger, committed charge,
//! [`RoundWork::compute`], [`ServerState::apply_gradients`]. The ledgers live in memory, since a sweep protects nobody, but
//! no private sum is computed without a charge, and the reported epsilon follows from the charges.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use fusiondp_dp::{CommittedCharge, Delta, Digest, Grid, StepCounts};
use fusiondp_learn::server::{PrivateScale, ServerState, SiteContribution, SiteDifference};
use fusiondp_protocol::chunks::{decode_f32, decode_i64};
use fusiondp_protocol::messages::TrainingTask;
use fusiondp_protocol::plan::{Plan, SiteSize};
use fusiondp_protocol::study::StudyDocument;
use fusiondp_runtime::SystemClock;
use fusiondp_site_agent::data::FileSource;
use fusiondp_site_agent::data::identity::IdentityKey;
use fusiondp_site_agent::imputer::runtime::RuntimeLookup;
use fusiondp_site_agent::imputer::{ImputerProvider, ProviderSettings};
use fusiondp_site_agent::policy::{Budget, EpsilonMeter, Past, Policy, Purpose, ReleaseRequest, Spent};
use fusiondp_site_agent::random::RandomSource;
use fusiondp_site_agent::store::Store;
use fusiondp_site_agent::store::ledger::SiteLedger;
use fusiondp_site_agent::train::session::SessionSources;
use fusiondp_site_agent::train::{RoundOutput, RoundWork, Session};
use tokio::runtime::Runtime;

use super::error::CellError;
use crate::simulation::federation::{everything_allowed, site_seed};

/// A site's training data and where its imputed values are.
#[derive(Debug, Clone)]
pub struct SiteData {
    /// Name of the site.
    pub site: String,
    /// Its training file.
    pub train: PathBuf,
    /// Its file of imputed values, for studies with precomputed ones.
    pub imputed: Option<PathBuf>,
}

/// What a run is made of.
pub struct RunOptions<'a> {
    /// The sites.
    pub sites: &'a [SiteData],
    /// Folder of ONNX imputers.
    pub imputers: &'a std::path::Path,
    /// Seed of samples and noise.
    pub seed: u64,
    /// Threads that compute sites' parts, at least 1; figures do not depend on it.
    pub threads: usize,
    /// Remembers epsilons over the runs of a sweep.
    pub meter: &'a Arc<EpsilonMeter>,
}

/// What a run has come to.
pub struct Trained {
    /// Final parameters, averaged if the study says so.
    pub parameters: Vec<f32>,
    /// The plan that the sites worked under.
    pub plan: Plan,
    /// Largest epsilon of a site, from the charges in its ledger.
    pub spent: Spent,
    /// Charges in all ledgers.
    pub charges: usize,
}

/// Trains a study from its first to its last round. `progress` is told each round that is applied.
///
/// # Errors
/// Data, imputer, policy, ledger or training refuse.
pub fn train(
    document: &StudyDocument,
    options: &RunOptions<'_>,
    progress: &mut dyn FnMut(u32),
) -> Result<Trained, CellError> {
    let mut federation = Federation::start(document, options)?;
    let first = federation.sites[0].session.model().initialise(document.study().training.initialization_seed);
    let model = federation.sites[0].session.model().clone();
    let mut state = ServerState::new(&model, document.study().server_settings(), first)?;
    for round in 1..=federation.plan.rounds {
        federation.round(round, &mut state, options.threads)?;
        progress(round);
    }
    let spent = federation.spent(options.meter, document.study().privacy.delta)?;
    let charges = federation.sites.iter().map(|site| site.ledger.entries().len()).sum();
    Ok(Trained { parameters: state.final_parameters(), plan: federation.plan, spent, charges })
}

/// Sites that have read their data, and the plan that they agreed on.
pub(crate) struct Federation {
    pub(crate) sites: Vec<SiteRun>,
    pub(crate) plan: Plan,
    policy: Policy,
    runtime: Runtime,
}

/// One site.
pub(crate) struct SiteRun {
    pub(crate) session: Session,
    ledger: SiteLedger,
    budget: Budget,
    random: RandomSource,
}

impl Federation {
    pub(crate) fn start(document: &StudyDocument, options: &RunOptions<'_>) -> Result<Self, CellError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(CellError::Runtime)?;
        let mut sites = Vec::with_capacity(options.sites.len());
        for site in options.sites {
            sites.push(SiteRun::start(document, site, options, &runtime)?);
        }
        let sizes: Result<Vec<SiteSize>, CellError> =
            options.sites.iter().zip(&sites).map(|(named, site)| site.size(&named.site)).collect();
        let plan = Plan::derive(document, &sizes?)?;
        let policy = Policy::new(everything_allowed(document.study())?, Purpose::Simulation);
        Ok(Self { sites, plan, policy, runtime })
    }

    /// A whole round, of gradients or of model differences.
    pub(crate) fn round(
        &mut self,
        round: u32,
        state: &mut ServerState,
        threads: usize,
    ) -> Result<(), CellError> {
        if self.plan.local_steps > 1 {
            let outputs = self.outputs(round, state, threads)?;
            let differences = self.sites.iter().zip(outputs).map(|(site, output)| site.difference(&output));
            let differences = differences.collect::<Result<Vec<_>, _>>()?;
            return Ok(state.apply_differences(round, &differences)?);
        }
        let contributions = self.released(round, state, threads)?;
        Ok(state.apply_gradients(round, &contributions, &self.scale())?)
    }

    /// What every site releases in a round of gradients.
    pub(crate) fn released(
        &mut self,
        round: u32,
        state: &ServerState,
        threads: usize,
    ) -> Result<Vec<SiteContribution>, CellError> {
        let outputs = self.outputs(round, state, threads)?;
        self.sites.iter().zip(outputs).map(|(site, output)| site.contribution(&output)).collect()
    }

    /// Units of the private sums.
    pub(crate) fn scale(&self) -> PrivateScale {
        let clip_norm = self.plan.clip_norm;
        PrivateScale {
            grid_step: Grid::for_clip_norm(clip_norm).step(),
            sampling_probability: self.plan.sampling_probability.get(),
            noise_deviation: self.plan.noise_multiplier.map_or(0.0, |noise| noise.get() * clip_norm.get()),
        }
    }

    fn outputs(
        &mut self,
        round: u32,
        state: &ServerState,
        threads: usize,
    ) -> Result<Vec<RoundOutput>, CellError> {
        let mut values = state.parameters().to_vec();
        if self.plan.is_private_round(round) {
            values.extend(state.directions());
        }
        let task = self.task(round, &values);
        let mut work = Vec::with_capacity(self.sites.len());
        for site in &mut self.sites {
            work.push(site.work(&task, &self.policy, &self.runtime, &values)?);
        }
        compute(&self.sites, work, &task, threads)
    }

    fn task(&self, round: u32, parameters: &[f32]) -> TrainingTask {
        let bytes: Vec<u8> = parameters.iter().flat_map(|value| value.to_le_bytes()).collect();
        TrainingTask {
            private_part: self.plan.is_private_round(round),
            plan: self.plan.clone(),
            round,
            model_version: u64::from(round - 1),
            model_digest: Digest::of(&bytes),
            attempt: 1,
            deadline_ms: u64::MAX,
        }
    }

    /// The largest epsilon over the sites, which hold different patients.
    fn spent(&self, meter: &EpsilonMeter, delta: Delta) -> Result<Spent, CellError> {
        let mut most = meter.spent(&StepCounts::of(&[]), delta)?;
        for site in &self.sites {
            let events = site.ledger.events(site.session.identity().digest);
            let spent = meter.spent(&StepCounts::of(&events), delta)?;
            most.replace = most.replace.max(spent.replace);
            most.zero_out = most.zero_out.max(spent.zero_out);
        }
        Ok(most)
    }
}

impl SiteRun {
    fn start(
        document: &StudyDocument,
        site: &SiteData,
        options: &RunOptions<'_>,
        runtime: &Runtime,
    ) -> Result<Self, CellError> {
        let clock = Arc::new(SystemClock);
        let settings = ProviderSettings {
            folder: Some(options.imputers.to_owned()),
            lookup: RuntimeLookup::of_process(None),
            precomputed: site.imputed.iter().map(|path| ("*".to_owned(), path.clone())).collect(),
            ..ProviderSettings::default()
        };
        let sources = SessionSources {
            source: Arc::new(FileSource::csv(site.train.clone(), BTreeMap::new(), clock.clone())),
            imputers: Arc::new(ImputerProvider::new(settings, Purpose::Simulation, clock)),
            cache: None,
            identity: None,
            identity_key: IdentityKey::from_bytes([0; IdentityKey::BYTES]),
        };
        let session = Session::prepare(document.clone(), &sources)?;
        let store = Arc::new(runtime.block_on(Store::in_memory())?);
        let ledger = runtime.block_on(SiteLedger::open(store))?;
        let random = RandomSource::Simulation { seed: site_seed(options.seed, &site.site) };
        Ok(Self { session, ledger, budget: Budget::new(Arc::clone(options.meter)), random })
    }

    fn size(&self, name: &str) -> Result<SiteSize, CellError> {
        let (units, records) = (self.session.units().count() as u64, self.session.records() as u64);
        Ok(SiteSize { site: name.parse()?, units, records })
    }

    /// The site's part of a round, with its permit and its charges.
    fn work(
        &mut self,
        task: &TrainingTask,
        policy: &Policy,
        runtime: &Runtime,
        parameters: &[f32],
    ) -> Result<RoundWork, CellError> {
        let (study, units) = (self.session.study(), self.session.units().count() as u64);
        let in_the_clear = study.fusion.has_public_part(task.private_part) && !study.noises_public_part();
        let public = in_the_clear.then(|| policy.permit_public(study, units)).transpose()?;
        let charges = match task.plan.releases(task.round).is_empty() {
            true => Vec::new(),
            false => self.charge(task, policy, runtime)?,
        };
        Ok(RoundWork {
            params: parameters.to_vec(),
            public,
            charges,
            random: self.random,
            threads: NonZeroUsize::MIN,
        })
    }

    fn charge(
        &mut self,
        task: &TrainingTask,
        policy: &Policy,
        runtime: &Runtime,
    ) -> Result<Vec<CommittedCharge>, CellError> {
        let request = ReleaseRequest {
            document: self.session.document(),
            task,
            data: self.session.identity(),
            units: self.session.units().count() as u64,
        };
        let (entries, now_ms) = (self.ledger.entries(), u64::from(task.round));
        let past = Past::of(entries, request.data.digest, request.document.id().as_str(), now_ms);
        let permit = policy.permit_release(&request, entries, &past, &mut self.budget)?;
        let update_id = self.random.update_id()?;
        Ok(runtime.block_on(self.ledger.charge(permit, update_id, now_ms))?)
    }

    fn contribution(&self, output: &RoundOutput) -> Result<SiteContribution, CellError> {
        let (public, private) = output.payload.split_at(output.public_values as usize * 4);
        let length = self.session.model().public_range().len();
        // Without a public part the public gradient is zero.
        let public = if public.is_empty() { vec![0.0; length] } else { decode_f32(public)? };
        let private = decode_i64(private)?;
        Ok(SiteContribution {
            units: self.session.units().count() as u64,
            records: self.session.records() as u64,
            public_gradient: public,
            private_sum: (!private.is_empty()).then_some(private),
        })
    }

    fn difference(&self, output: &RoundOutput) -> Result<SiteDifference, CellError> {
        let units = self.session.units().count() as u64;
        Ok(SiteDifference { units, difference: decode_f32(&output.payload)? })
    }
}

/// Every site's output, in the order of the sites, on up to `threads` threads.
fn compute(
    sites: &[SiteRun],
    work: Vec<RoundWork>,
    task: &TrainingTask,
    threads: usize,
) -> Result<Vec<RoundOutput>, CellError> {
    let mut pairs: Vec<(&SiteRun, RoundWork)> = sites.iter().zip(work).collect();
    let run = |(site, work): (&SiteRun, RoundWork)| work.compute(&site.session, task);
    if threads <= 1 || pairs.len() == 1 {
        return Ok(pairs.into_iter().map(run).collect::<Result<_, _>>()?);
    }
    let share = pairs.len().div_ceil(threads);
    std::thread::scope(|scope| {
        let mut handles = Vec::new();
        while !pairs.is_empty() {
            let rest = pairs.split_off(share.min(pairs.len()));
            let part = std::mem::replace(&mut pairs, rest);
            handles.push(scope.spawn(move || part.into_iter().map(run).collect::<Result<Vec<_>, _>>()));
        }
        let mut outputs = Vec::new();
        for handle in handles {
            outputs.extend(handle.join().map_err(|_| CellError::Panicked)??);
        }
        Ok(outputs)
    })
}
