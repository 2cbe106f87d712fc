//! One site and the server's step in this thread: no transport, no disk, everything else as deployed.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use fusiondp_dp::{
    ChargeRequest, CommittedCharge, Digest, Ledger, LedgerEntry, LedgerStore, Protection, Released,
};
use fusiondp_learn::server::{PrivateScale, ServerState, SiteContribution};
use fusiondp_protocol::chunks::{decode_f32, decode_i64};
use fusiondp_protocol::ids::SiteId;
use fusiondp_protocol::messages::TrainingTask;
use fusiondp_protocol::plan::{Plan, SiteSize};
use fusiondp_protocol::study::StudyDocument;
use fusiondp_runtime::SystemClock;
use fusiondp_site_agent::data::FileSource;
use fusiondp_site_agent::data::identity::IdentityKey;
use fusiondp_site_agent::imputer::{ImputerProvider, ProviderSettings};
use fusiondp_site_agent::policy::{Policy, PublicPermit, Purpose};
use fusiondp_site_agent::random::RandomSource;
use fusiondp_site_agent::train::session::SessionSources;
use fusiondp_site_agent::train::{RoundOutput, RoundWork, Session};

use super::measure::{Lap, Stopwatch};
use crate::simulation::federation::everything_allowed;

/// A site with its records in memory, and the server's state.
pub(super) struct BenchSite {
    session: Session,
    plan: Plan,
    policy: Policy,
    ledger: Ledger,
    state: ServerState,
    runtime: tokio::runtime::Runtime,
    threads: NonZeroUsize,
}

/// A store that keeps nothing: a step is measured without the disk.
struct Nowhere;

impl LedgerStore for Nowhere {
    type Error = Infallible;

    async fn append(&mut self, _: &[LedgerEntry]) -> Result<(), Infallible> {
        Ok(())
    }
}

impl BenchSite {
    /// Reads the records of `train` and prepares the study as a site does, to compute on `threads`.
    pub(super) fn prepare(
        document: StudyDocument,
        train: &Path,
        threads: NonZeroUsize,
    ) -> anyhow::Result<Self> {
        let clock = Arc::new(SystemClock);
        let provider = ImputerProvider::new(ProviderSettings::default(), Purpose::Simulation, clock.clone());
        let sources = SessionSources {
            source: Arc::new(FileSource::csv(train.to_owned(), BTreeMap::new(), clock)),
            imputers: Arc::new(provider),
            cache: None,
            identity: None,
            identity_key: IdentityKey::random()?,
        };
        let session = Session::prepare(document, &sources)?;
        let (plan, policy) = (plan(&session)?, policy(&session)?);
        let state = initial_state(&session)?;
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        let ledger = Ledger::open(Vec::new())?;
        Ok(Self { session, plan, policy, ledger, state, runtime, threads })
    }

    /// Number of parameters.
    pub(super) fn parameters(&self) -> usize {
        self.session.model().parameters()
    }

    /// One step: secret sample, gathered rows, both gradients, clipping, exact sum, noise, the bytes that would travel,
    /// and the server's step with projection. Permits and the charge are made before the clock starts.
    pub(super) fn step(&mut self) -> anyhow::Result<Lap> {
        if self.state.rounds_applied() == self.plan.rounds {
            self.state = initial_state(&self.session)?;
        }
        let round = self.state.rounds_applied() + 1;
        let (task, public) = (self.task(round), self.public_permit()?);
        let charges = self.charges(&task)?;
        let watch = Stopwatch::start();
        let params = self.state.parameters().to_vec();
        let work = RoundWork { params, public, charges, random: RandomSource::Os, threads: self.threads };
        let output = work.compute(&self.session, &task)?;
        self.apply(round, &output)?;
        Ok(watch.lap())
    }

    fn task(&self, round: u32) -> TrainingTask {
        TrainingTask {
            private_part: self.plan.is_private_round(round),
            plan: self.plan.clone(),
            round,
            model_version: u64::from(round - 1),
            model_digest: Digest::of(b"bench"),
            attempt: 1,
            deadline_ms: u64::MAX,
        }
    }

    fn public_permit(&self) -> anyhow::Result<Option<PublicPermit>> {
        let study = self.session.study();
        if !study.fusion.mode.has_public_part() {
            return Ok(None);
        }
        Ok(Some(self.policy.permit_public(study, self.session.units().count() as u64)?))
    }

    fn charges(&mut self, task: &TrainingTask) -> anyhow::Result<Vec<CommittedCharge>> {
        let Some(event) = task.plan.step_event().filter(|_| task.private_part) else {
            return Ok(Vec::new());
        };
        let request = ChargeRequest {
            time_ms: 0,
            data_set: self.session.identity().digest,
            study: "bench".to_owned(),
            study_digest: task.plan.study_digest,
            round: task.round,
            local_step: 1,
            event,
            clip_norm: task.plan.clip_norm,
            unit: "id".to_owned(),
            units: self.session.units().count() as u64,
            model_digest: task.model_digest,
            update_id: RandomSource::Os.update_id()?,
            released: Released::PrivateSum,
            protects: Protection::SensitiveValues,
        };
        Ok(self.runtime.block_on(self.ledger.charge(vec![request], &mut Nowhere))?)
    }

    /// The coordinator's part: bytes to values, values to new parameters.
    fn apply(&mut self, round: u32, output: &RoundOutput) -> anyhow::Result<()> {
        let (public, private) = output.payload.split_at(output.public_values as usize * 4);
        let grid_step = fusiondp_dp::Grid::for_clip_norm(self.plan.clip_norm).step();
        let contribution = SiteContribution {
            units: self.session.units().count() as u64,
            records: self.session.records() as u64,
            public_gradient: gradient(&self.session, decode_f32(public)?),
            private_sum: (!private.is_empty()).then(|| decode_i64(private)).transpose()?,
        };
        let noise = self.plan.noise_multiplier.map_or(0.0, |noise| noise.get());
        let scale = PrivateScale {
            grid_step,
            sampling_probability: self.plan.sampling_probability.get(),
            noise_deviation: noise * self.plan.clip_norm.get(),
        };
        Ok(self.state.apply_gradients(round, &[contribution], &scale)?)
    }
}

/// A study without a public part has a public gradient of zero.
fn gradient(session: &Session, values: Vec<f32>) -> Vec<f32> {
    if values.is_empty() { vec![0.0; session.model().public_range().len()] } else { values }
}

fn initial_state(session: &Session) -> anyhow::Result<ServerState> {
    let (model, study) = (session.model(), session.study());
    let params = model.initialise(study.training.initialization_seed);
    Ok(ServerState::new(model, study.server_settings(), params)?)
}

fn plan(session: &Session) -> anyhow::Result<Plan> {
    let size = SiteSize {
        site: SiteId::new("bench")?,
        units: session.units().count() as u64,
        records: session.records() as u64,
    };
    Plan::derive(session.document(), &[size]).context("the plan of the benchmark")
}

fn policy(session: &Session) -> anyhow::Result<Policy> {
    let limits = everything_allowed(session.study())?;
    Ok(Policy::new(limits, Purpose::Simulation))
}
