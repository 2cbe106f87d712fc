//! Warm-up, choice of the canaries, and the private rounds as often as asked for.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use fusiondp_dp::{Delta, Epsilon, NeighboringRelation, SecureRng};
use fusiondp_learn::model::{PrivateLoss, Workspace, cross_entropy};
use fusiondp_learn::server::ServerState;
use fusiondp_learn::table::ImputedFeatures;
use fusiondp_protocol::study::{BatchSize, ImputerSpec, Study, StudyDocument};
use fusiondp_runtime::SystemClock;
use fusiondp_site_agent::data::source::Records as TrainRecords;
use fusiondp_site_agent::data::{DataSource, FileSource};
use fusiondp_site_agent::imputer::runtime::RuntimeLookup;
use fusiondp_site_agent::imputer::{ImputerInput, ImputerProvider, ProviderSettings};
use fusiondp_site_agent::policy::{EpsilonMeter, Purpose};
use fusiondp_site_agent::train::{Session, TrainError};
use rand::RngExt as _;
use toml::{Table, Value};

use super::attacker::{Distance, Evidence, Knowledge, batch};
use super::records::{Pair, Records};
use super::{AttributeError, AttributeResult, AttributeSetting, Canary, Proved, RunFault};
use crate::harness::toml_text::TomlText;
use crate::reproduce::CellError;
use crate::reproduce::engine::{Federation, RunOptions, SiteData};
use crate::simulation::SimulationError;
use crate::simulation::imputation::{ChosenImputer, ImputerSource, choose};
use crate::split::hospitals;

const SITE: &str = "hospital";

/// Attacks the code as it is, and with `faults` also each fault over the whole run.
///
/// # Errors
/// [`AttributeError`]: study, data or numbers that do not serve.
pub fn audit_run(
    setting: &AttributeSetting<'_>,
    faults: bool,
) -> Result<Vec<AttributeResult>, AttributeError> {
    let warm = Warm::up(setting)?;
    let honest = warm.attack(&warm.document)?;
    let claim = warm.claim_of(setting.relation);
    let mut results = vec![warm.result(None, claim, &honest)];
    if faults {
        let halved = warm.attack(&warm.with_half_noise()?)?;
        results.push(warm.result(Some(RunFault::HalfNoise), claim, &halved));
        if setting.relation == NeighboringRelation::Replace {
            let claim = warm.claim_of(NeighboringRelation::ZeroOut);
            results.push(warm.result(Some(RunFault::HalfSensitivity), claim, &honest));
        }
    }
    Ok(results)
}

/// A study trained up to its first private round, and the canaries.
pub struct Warm<'a> {
    setting: &'a AttributeSetting<'a>,
    folder: tempfile::TempDir,
    meter: Arc<EpsilonMeter>,
    text: TomlText,
    document: StudyDocument,
    records: Records,
    state: ServerState,
    canaries: Vec<usize>,
    pairs: Vec<Pair>,
    noise_multiplier: f64,
    /// Under `replace` and under `zero_out`.
    claim: (Epsilon, Epsilon),
    delta: Delta,
}

/// What one run showed: the canaries by all releases, and by the last model.
struct Shown {
    releases: Vec<Canary>,
    last: Vec<Canary>,
    distance: Distance,
}

impl<'a> Warm<'a> {
    /// Chooses the canaries and trains the rounds without a private part.
    ///
    /// # Errors
    /// [`AttributeError`].
    pub fn up(setting: &'a AttributeSetting<'a>) -> Result<Self, AttributeError> {
        let folder = tempfile::tempdir_in(setting.work)?;
        let study = Study::parse(setting.study)?;
        let found = hospitals(setting.data).map_err(SimulationError::from)?;
        let files: Vec<PathBuf> = found.iter().map(|hospital| hospital.folder.join("train.csv")).collect();
        let mut records = Records::read(&study, &files, setting.units)?;
        if setting.canaries == 0 || setting.canaries > records.units() {
            let (canaries, units) = (setting.canaries, records.units());
            return Err(AttributeError::Canaries { canaries, units });
        }
        // Chosen before anything is trained and any bit is drawn, over all hospitals.
        let canaries: Vec<usize> =
            (0..setting.canaries).map(|canary| canary * records.units() / setting.canaries).collect();
        records.add_opposites(&canaries);
        let text = edited(setting, &study, records.units(), &folder)?;
        let document = StudyDocument::from_bytes(text.text().as_bytes())?;
        let meter = Arc::new(EpsilonMeter::default());
        let file = folder.path().join("warm.csv");
        records.write(&file, &HashMap::new())?;
        let mut federation = start(&document, file, (&folder, &meter), setting.seed)?;
        check(&document, &federation)?;
        let model = federation.sites[0].session.model().clone();
        let first = model.initialise(document.study().training.initialization_seed);
        let mut state = ServerState::new(&model, document.study().server_settings(), first)?;
        for round in 1..=federation.plan.warmup_rounds {
            let released = federation.released(round, &state, 1)?;
            state.apply_gradients(round, &released, &federation.scale())?;
        }
        let plan = &federation.plan;
        let session = &federation.sites[0].session;
        let mut pairs: Vec<Pair> = (0..canaries.len()).map(|canary| records.pair(canary)).collect();
        if setting.relation == NeighboringRelation::ZeroOut {
            let imputed = imputed(&document, session, &folder)?;
            let cells = |&unit: &usize| -> Vec<Vec<f32>> {
                let rows = session.units().rows(unit);
                (0..imputed.columns()).map(|column| imputed.column(column)[rows.clone()].to_vec()).collect()
            };
            let schema = &document.study().schema;
            let against = |(pair, unit): (Pair, &usize)| pair.against_imputed(schema, &cells(unit));
            pairs = pairs.into_iter().zip(&canaries).map(against).collect();
        }
        Ok(Self {
            noise_multiplier: plan.noise_multiplier.map_or(0.0, |noise| noise.get()),
            claim: (plan.epsilon_replace, plan.epsilon_zero_out),
            delta: plan.delta,
            pairs,
            setting,
            folder,
            meter,
            text,
            document,
            records,
            state,
            canaries,
        })
    }

    fn claim_of(&self, relation: NeighboringRelation) -> Epsilon {
        match relation {
            NeighboringRelation::Replace => self.claim.0,
            NeighboringRelation::ZeroOut => self.claim.1,
        }
    }

    /// The same study with half of the noise.
    fn with_half_noise(&self) -> Result<StudyDocument, AttributeError> {
        let mut text = self.text.clone();
        let half = Value::from(0.5 * self.noise_multiplier);
        text.set("privacy", "target", Table::from_iter([("noise_multiplier".to_owned(), half)]))?;
        Ok(StudyDocument::from_bytes(text.text().as_bytes())?)
    }

    /// Trains the private rounds, run by run.
    fn attack(&self, document: &StudyDocument) -> Result<Shown, AttributeError> {
        let clear = self.session(document, "clear.csv", &vec![false; self.canaries.len()], 0)?;
        let set = self.session(document, "set.csv", &vec![true; self.canaries.len()], 0)?;
        let known = Knowledge {
            clear: &clear.sites[0].session,
            set: &set.sites[0].session,
            canaries: &self.canaries,
        };
        let mut random = SecureRng::seeded_for_simulation(self.setting.seed, u64::MAX);
        let mut shown = Shown { releases: Vec::new(), last: Vec::new(), distance: Distance::default() };
        let before = self.losses(&known, self.state.parameters())?;
        for run in 0..self.setting.runs {
            let bits: Vec<bool> = self.canaries.iter().map(|_| random.random()).collect();
            let mut federation = self.session(document, "run.csv", &bits, run as u64 + 1)?;
            let (evidence, last) = self.private_rounds(&mut federation, &known)?;
            let scored = |scores: Vec<f64>| {
                bits.iter().zip(scores).map(|(&bit, score)| Canary { bit, score }).collect::<Vec<_>>()
            };
            shown.releases.extend(scored(evidence.scores()));
            shown.distance += evidence.distance();
            let after = self.losses(&known, &last)?;
            shown.last.extend(scored(after.iter().zip(&before).map(|(a, b)| a - b).collect()));
        }
        Ok(shown)
    }

    fn private_rounds(
        &self,
        federation: &mut Federation,
        known: &Knowledge<'_>,
    ) -> Result<(Evidence, Vec<f32>), AttributeError> {
        let mut state = self.state.clone();
        let mut evidence = Evidence::none(self.canaries.len());
        let scale = federation.scale();
        let clip_norm = federation.plan.clip_norm.get();
        for round in federation.plan.warmup_rounds + 1..=federation.plan.rounds {
            let released = federation.released(round, &state, 1)?;
            for sum in released.iter().filter_map(|site| site.private_sum.as_ref()) {
                let sum: Vec<f64> = sum.iter().map(|&value| value as f64 * scale.grid_step).collect();
                let figures = (clip_norm, scale.sampling_probability, scale.noise_deviation);
                evidence.add(known, state.parameters(), &sum, figures)?;
            }
            state.apply_gradients(round, &released, &scale)?;
        }
        Ok((evidence, state.final_parameters()))
    }

    /// For each canary the loss under a clear bit less that under a set one.
    fn losses(&self, known: &Knowledge<'_>, params: &[f32]) -> Result<Vec<f64>, AttributeError> {
        let of = |session: &Session, canary: usize| -> Result<f64, AttributeError> {
            let batch = batch(session, &[canary])?;
            let logits = session.model().logits(params, &batch.real, &mut Workspace::default())?;
            let losses = logits.iter().zip(&batch.labels).map(|(&z, &y)| f64::from(cross_entropy(z, y)));
            Ok(losses.sum())
        };
        let difference = |&canary: &usize| Ok(of(known.clear, canary)? - of(known.set, canary)?);
        self.canaries.iter().map(difference).collect()
    }

    /// A federation of one site whose canaries have these bits.
    fn session(
        &self,
        document: &StudyDocument,
        name: &str,
        bits: &[bool],
        run: u64,
    ) -> Result<Federation, AttributeError> {
        let chosen = self.canaries.iter().zip(&self.pairs).zip(bits);
        let chosen = chosen.map(|((&unit, pair), &bit)| (unit, (pair, bit))).collect();
        let file = self.folder.path().join(name);
        self.records.write(&file, &chosen)?;
        start(document, file, (&self.folder, &self.meter), self.setting.seed.wrapping_add(run << 32))
    }

    fn result(&self, fault: Option<RunFault>, claim: Epsilon, shown: &Shown) -> AttributeResult {
        AttributeResult {
            fault,
            relation: self.setting.relation,
            claim,
            delta: self.delta,
            canaries: shown.releases.len(),
            reach: shown.distance.reach(self.setting.relation),
            releases: Proved::of(&shown.releases, self.delta.get()),
            final_model: Proved::of(&shown.last, self.delta.get()),
        }
    }
}

/// The imputer's values of the warm-up's file, which the difference loss makes worth nothing: a canary with them contributes zero.
fn imputed(
    document: &StudyDocument,
    session: &Session,
    folder: &tempfile::TempDir,
) -> Result<ImputedFeatures, AttributeError> {
    let study = document.study();
    if session.objective().loss != PrivateLoss::Difference {
        return Err(AttributeError::DirectLoss);
    }
    let clock = Arc::new(SystemClock);
    let source = FileSource::csv(folder.path().join("warm.csv"), Default::default(), clock.clone());
    let dataset = source.read(&TrainRecords::Train, study).map_err(train)?;
    let settings = ProviderSettings {
        folder: Some(folder.path().join("imputers")),
        lookup: RuntimeLookup::of_process(None),
        ..ProviderSettings::default()
    };
    let provider = ImputerProvider::new(settings, Purpose::Simulation, clock);
    let imputer = provider.find(document).map_err(train)?.ok_or(AttributeError::DirectLoss)?;
    let input = ImputerInput { schema: &study.schema, public: dataset.public(), units: dataset.units() };
    imputer.impute(&input).map_err(train)
}

fn train(error: impl Into<TrainError>) -> AttributeError {
    AttributeError::Train(CellError::Train(error.into()))
}

fn start(
    document: &StudyDocument,
    train: PathBuf,
    (folder, meter): (&tempfile::TempDir, &Arc<EpsilonMeter>),
    seed: u64,
) -> Result<Federation, AttributeError> {
    let sites = [SiteData { site: SITE.to_owned(), train, imputed: None }];
    let imputers = folder.path().join("imputers");
    let options = RunOptions { sites: &sites, imputers: &imputers, seed, threads: 1, meter };
    Ok(Federation::start(document, &options)?)
}

/// The study with one site, the setting's target, a sample that fits the units, and its imputer pinned.
pub(crate) fn edited(
    setting: &AttributeSetting<'_>,
    study: &Study,
    units: usize,
    folder: &tempfile::TempDir,
) -> Result<TomlText, AttributeError> {
    let mut text = TomlText::new(setting.study);
    text.set("federation", "min_sites", 1)?;
    text.set("federation", "max_overlap", 1)?;
    if let Some(epsilon) = setting.epsilon {
        let target = [("epsilon", Value::from(epsilon)), ("relation", setting.relation.to_string().into())];
        let target = target.map(|(key, value)| (key.to_owned(), value));
        text.set("privacy", "target", Table::from_iter(target))?;
    }
    if let BatchSize::Expected(expected) = study.training.expected_batch_size
        && expected as usize > units
    {
        text.set("training", "expected_batch_size", "all")?;
    }
    let source = ImputerSource {
        given: setting.imputer,
        data: setting.data,
        folder: &folder.path().join("imputers"),
        seed: setting.seed,
    };
    let pinned = matches!(study.imputer, ImputerSpec::Onnx { .. });
    if let (ChosenImputer::Fitted { sha256, .. }, true) = (choose(study, &source, &mut |_| {})?, pinned) {
        text.replace_section("imputer", &format!("kind = \"onnx\"\nsha256 = \"{sha256}\""))?;
    }
    Ok(text)
}

fn check(document: &StudyDocument, federation: &Federation) -> Result<(), AttributeError> {
    if federation.plan.local_steps > 1 {
        return Err(AttributeError::Releases { field: "local_steps" });
    }
    if document.study().fusion.private_directions.is_some() {
        return Err(AttributeError::Releases { field: "private_directions" });
    }
    match federation.plan.private_rounds() {
        0 => Err(AttributeError::NoPrivatePart),
        _ => Ok(()),
    }
}
