//! One training run of all hospitals, whose first site's updates are watched.

use std::path::PathBuf;
use std::sync::Arc;

use fusiondp_coordinator::report::evidence::Inversion;
use fusiondp_dp::NeighboringRelation;
use fusiondp_learn::encode::Encoder;
use fusiondp_learn::model::{Model, ModelSpec, PairedBatch, Workspace};
use fusiondp_learn::schema::Schema;
use fusiondp_learn::server::{ServerState, SiteContribution};
use fusiondp_learn::table::SensitiveFeatures;
use fusiondp_protocol::study::{Study, StudyDocument};
use fusiondp_runtime::SystemClock;
use fusiondp_site_agent::data::source::Records;
use fusiondp_site_agent::data::{DataSource, FileSource};
use fusiondp_site_agent::policy::EpsilonMeter;
use fusiondp_site_agent::train::Session;

use super::inversion::Likelihood;
use super::slots::Slots;
use super::{AttackError, AttackOptions};
use crate::audit::attribute::attacker::{batch, contributions};
use crate::audit::attribute::{AttributeError, AttributeSetting, edited};
use crate::reproduce::engine::{Federation, RunOptions, SiteData};
use crate::simulation::SimulationError;
use crate::split::hospitals;

/// Noise that is as good as none, as a share of what is released.
const WITHOUT_NOISE: f64 = 1e-3;

/// A finished run.
pub(super) struct Run {
    document: StudyDocument,
    federation: Federation,
    /// Final parameters.
    pub(super) parameters: Vec<f32>,
    /// What was read off the updates.
    pub(super) inversion: Option<Inversion>,
}

impl Run {
    /// Trains the study with one site per hospital; a larger expected sample than `units` becomes everybody.
    pub(super) fn train(options: &AttackOptions<'_>, units: usize) -> Result<Self, AttackError> {
        let folder = tempfile::tempdir_in(options.work).map_err(AttributeError::from)?;
        let setting = AttributeSetting {
            study: options.study,
            relation: NeighboringRelation::Replace,
            epsilon: options.epsilon,
            data: options.data,
            imputer: options.imputer,
            work: options.work,
            units: usize::MAX,
            canaries: 0,
            runs: 1,
            seed: options.seed,
        };
        let study = Study::parse(options.study).map_err(AttributeError::from)?;
        let text = edited(&setting, &study, units, &folder)?;
        let document = StudyDocument::from_bytes(text.text().as_bytes()).map_err(AttributeError::from)?;
        let found = hospitals(options.data).map_err(SimulationError::from)?;
        let site = |name: String, folder: PathBuf| SiteData {
            site: name,
            train: folder.join("train.csv"),
            imputed: None,
        };
        let sites: Vec<SiteData> = found.into_iter().map(|h| site(h.name, h.folder)).collect();
        let run_options = RunOptions {
            sites: &sites,
            imputers: &folder.path().join("imputers"),
            seed: options.seed,
            threads: 1,
            meter: &Arc::new(EpsilonMeter::default()),
        };
        let federation = Federation::start(&document, &run_options).map_err(AttributeError::from)?;
        Self { document, federation, parameters: Vec::new(), inversion: None }.rounds(&sites[0], options)
    }

    fn rounds(mut self, first: &SiteData, options: &AttackOptions<'_>) -> Result<Self, AttackError> {
        let model = self.model().clone();
        let start = model.initialise(self.document.study().training.initialization_seed);
        let mut state = ServerState::new(&model, self.document.study().server_settings(), start)
            .map_err(AttributeError::from)?;
        let plan = self.federation.plan.clone();
        // Sums over several steps, or of projections, are not read off here.
        let readable = options.patients > 0
            && plan.local_steps == 1
            && plan.private_rounds() > 0
            && self.study().fusion.private_directions.is_none();
        let mut watch =
            readable.then(|| Watch::new(&self.federation.sites[0].session, first, options)).transpose()?;
        for round in 1..=plan.rounds {
            let Some(watch) = watch.as_mut().filter(|_| plan.is_private_round(round)) else {
                self.federation.round(round, &mut state, 1).map_err(AttributeError::from)?;
                continue;
            };
            let released = self.federation.released(round, &state, 1).map_err(AttributeError::from)?;
            watch.see(&self.federation, state.parameters(), &released[0])?;
            let applied = state.apply_gradients(round, &released, &self.federation.scale());
            applied.map_err(AttributeError::from)?;
        }
        self.parameters = state.final_parameters();
        self.inversion = watch.map(Watch::finish);
        Ok(self)
    }

    pub(super) fn model(&self) -> &Model {
        self.federation.sites[0].session.model()
    }

    pub(super) fn study(&self) -> &Study {
        self.document.study()
    }

    pub(super) fn schema(&self) -> &Schema {
        &self.document.study().schema
    }

    pub(super) fn encoder(&self) -> Result<Encoder, AttackError> {
        Ok(Encoder::new(self.schema(), &self.document.study().model)?)
    }

    /// Privacy units and records of all sites.
    pub(super) fn sizes(&self) -> (u64, u64) {
        let of = |count: fn(&Session) -> usize| {
            self.federation.sites.iter().map(|site| count(&site.session) as u64).sum()
        };
        (of(|session| session.units().count()), of(Session::records))
    }

    pub(super) fn epsilon(&self) -> f64 {
        self.federation.plan.epsilon_replace.get()
    }
}

/// The first site's updates, seen by who knows all but one value of each watched patient.
struct Watch {
    column: String,
    /// Watched units, and the slot that the last row of each has.
    units: Vec<usize>,
    truth: Vec<usize>,
    /// How often each slot occurs at the site, above 0.
    frequency: Vec<f64>,
    /// The watched units with every slot.
    under: Vec<PairedBatch<f32>>,
    noised: Vec<Likelihood>,
    exact: Vec<Likelihood>,
}

impl Watch {
    fn new(session: &Session, site: &SiteData, options: &AttackOptions<'_>) -> Result<Self, AttackError> {
        let study = session.study();
        let source = FileSource::csv(site.train.clone(), Default::default(), Arc::new(SystemClock));
        let dataset = source.read(&Records::Train, study)?;
        let (index, column) = watched(study).ok_or(AttributeError::NoPrivatePart)?;
        let slots = Slots::new(column, dataset.sensitive().column(index));
        let units: Vec<usize> = (0..session.units().count().min(options.patients)).collect();
        let rows: Vec<usize> = units.iter().flat_map(|&unit| session.units().rows(unit)).collect();
        let (public, truth) = (dataset.public().select(&rows), dataset.sensitive().select(&rows));
        let encoder = Encoder::new(&study.schema, &study.model)?;
        let mut under = Vec::with_capacity(slots.count());
        for slot in 0..slots.count() {
            let mut cells: Vec<Vec<f32>> = (0..truth.columns()).map(|c| truth.column(c).to_vec()).collect();
            cells[index].fill(slots.cell(slot));
            let sensitive = SensitiveFeatures::new(&study.schema, cells)?;
            let mut with_slot = batch(session, &units)?;
            with_slot.real = encoder.real(&public, &sensitive)?;
            under.push(with_slot);
        }
        let mut frequency = vec![0.5; slots.count()];
        dataset.sensitive().column(index).iter().for_each(|&cell| frequency[slots.of(cell)] += 1.0);
        let last = |&unit: &usize| {
            let row = session.units().rows(unit).end - 1;
            slots.of(dataset.sensitive().column(index)[row])
        };
        Ok(Self {
            column: column.name.clone(),
            truth: units.iter().map(last).collect(),
            noised: vec![Likelihood::none(slots.count()); units.len()],
            exact: vec![Likelihood::none(slots.count()); units.len()],
            units,
            frequency,
            under,
        })
    }

    fn see(
        &mut self,
        federation: &Federation,
        params: &[f32],
        released: &SiteContribution,
    ) -> Result<(), AttackError> {
        let Some(sum) = &released.private_sum else { return Ok(()) };
        let session = &federation.sites[0].session;
        let (scale, clip_norm) = (federation.scale(), federation.plan.clip_norm.get());
        let q = scale.sampling_probability;
        let wide = |gradient: &[f32]| gradient.iter().map(|&g| q * f64::from(g)).collect::<Vec<f64>>();
        let mut rest: Vec<f64> = sum.iter().map(|&value| value as f64 * scale.grid_step).collect();
        let all: Vec<usize> = (0..session.units().count()).collect();
        let mut own = vec![Vec::new(); self.units.len()];
        contributions(session, params, &all, clip_norm, |unit, gradient| {
            rest.iter_mut().zip(gradient).for_each(|(rest, &g)| *rest -= q * f64::from(g));
            if let Some(own) = own.get_mut(unit) {
                *own = wide(gradient);
            }
        })?;
        let mut by_slot = Vec::with_capacity(self.under.len());
        for with_slot in &self.under {
            let mut of_slot = Vec::with_capacity(self.units.len());
            let (objective, mut workspace) = (session.objective(), Workspace::default());
            let push = |_: usize, gradient: &[f32]| of_slot.push(wide(gradient));
            let model = session.model();
            model.private_gradients(params, with_slot, objective, clip_norm, &mut workspace, push)?;
            by_slot.push(of_slot);
        }
        for (target, own) in own.iter().enumerate() {
            let under: Vec<Vec<f64>> = by_slot.iter().map(|of_slot| of_slot[target].clone()).collect();
            let seen: Vec<f64> = rest.iter().zip(own).map(|(rest, own)| rest + own).collect();
            self.noised[target].add(&seen, &under, scale.noise_deviation);
            self.exact[target].add(own, &under, WITHOUT_NOISE * scale.noise_deviation);
        }
        Ok(())
    }

    fn finish(self) -> Inversion {
        let count = self.units.len().max(1) as f64;
        let share = |of: &[Likelihood]| {
            let guessed = of.iter().map(|one| one.guess(&self.frequency));
            guessed.zip(&self.truth).filter(|(guess, truth)| guess == *truth).count() as f64 / count
        };
        let of_slot = |slot: usize| self.truth.iter().filter(|&&truth| truth == slot).count();
        let most = (0..self.under.len()).map(of_slot).max().unwrap_or(0);
        Inversion {
            column: self.column.clone(),
            patients: self.units.len(),
            slots: self.under.len(),
            noised: share(&self.noised),
            without_noise: share(&self.exact),
            mode: most as f64 / count,
        }
    }
}

/// The sensitive column that the model weighs most: the head's largest weight, else the first.
fn watched(study: &Study) -> Option<(usize, &fusiondp_learn::schema::Column)> {
    let weight = |name: &str| match &study.model {
        ModelSpec::Split { head, .. } => head.get(name).map_or(1.0, |column| column.weight),
        _ => 1.0,
    };
    let heavier = |best: (usize, _), next: (usize, _)| {
        let (one, other): (&fusiondp_learn::schema::Column, &fusiondp_learn::schema::Column) =
            (best.1, next.1);
        if weight(&other.name) > weight(&one.name) { next } else { best }
    };
    study.schema.sensitive().enumerate().reduce(heavier)
}
