//! From options to cells, from cells to files.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use fusiondp_learn::metrics::{aupr, auroc, brier};
use fusiondp_protocol::study::StudyDocument;
use fusiondp_site_agent::policy::EpsilonMeter;

use super::cell::{Cell, Settings, Target};
use super::data::{ImputedFile, Prepared, prepare};
use super::engine::{RunOptions, SiteData, Trained, train};
use super::error::{CellError, ReproduceError};
use super::imputers::ImputerFolder;
use super::mode::{DataName, ImputerName, Recipe};
use super::results::{CellResult, CohortMetrics, EpsilonPair, Results};
use super::settings::{DataSettings, SweepSettings};
use super::summary::{Row, rows};
use super::{plot, table};
use crate::simulation::exact::{Scored, score};
use crate::split::SiteFolder;

/// What to run.
#[derive(Debug, Clone)]
pub struct ReproduceOptions {
    /// Folder that holds `data/sepsis` and `data/bank`.
    pub shared: PathBuf,
    /// Folder of results and tables.
    pub out: PathBuf,
    /// Settings of every mode.
    pub settings: SweepSettings,
    /// Data sets, in this order.
    pub data: Vec<DataName>,
    /// Modes; empty: every mode that the settings have.
    pub only: Vec<Recipe>,
    /// Imputers of the modes that read imputed values, in this order.
    pub imputers: Vec<ImputerName>,
    /// Epsilons under `replace`.
    pub epsilons: Vec<f64>,
    /// Seeds, from 1.
    pub seeds: u64,
    /// Sites, where the settings of a data set say nothing else.
    pub sites: usize,
    /// Rounds in place of the settings', for a quick look.
    pub rounds: Option<u32>,
    /// Folder with `DATA-boosting.onnx` files.
    pub boosting: Option<PathBuf>,
    /// Threads that compute sites' parts; figures do not depend on it.
    pub threads: usize,
}

/// What a sweep is doing.
#[derive(Debug)]
pub enum Event<'a> {
    /// A run begins: `index` from 0 of `count` runs.
    Started {
        /// The run.
        cell: &'a Cell,
        /// Its place.
        index: usize,
        /// All runs.
        count: usize,
    },
    /// A round of the run was applied.
    Round {
        /// The round, from 1.
        round: u32,
        /// All rounds.
        rounds: u32,
    },
    /// A run is finished, now or in an earlier call.
    Finished {
        /// Its figures.
        result: &'a CellResult,
        /// Whether it was taken from the results file.
        resumed: bool,
    },
}

/// What a sweep has come to.
#[derive(Debug)]
pub struct Reproduction {
    /// One row per setting.
    pub rows: Vec<Row>,
    /// Whether every run is finished.
    pub complete: bool,
    /// Files written.
    pub files: Vec<PathBuf>,
}

/// Runs what is not finished yet and writes `table.md`, `results.json` and the plots. `progress` may stop the sweep after
/// any event; a later call goes on from there.
///
/// # Errors
/// [`ReproduceError`]; what is finished stays.
pub fn reproduce(
    options: &ReproduceOptions,
    progress: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
) -> Result<Reproduction, ReproduceError> {
    fs::create_dir_all(&options.out).map_err(ReproduceError::io(&options.out))?;
    let mut results = Results::open(&options.out.join("results.jsonl"))?;
    let sweep = Sweep::prepare(options)?;
    let cells = sweep.cells();
    let mut finished = Vec::with_capacity(cells.len());
    let mut complete = true;
    for (index, (data, cell)) in cells.iter().enumerate() {
        let started = Event::Started { cell, index, count: cells.len() };
        if progress(started).is_break() {
            complete = false;
            break;
        }
        let failed = |problem| ReproduceError::Cell { cell: Box::new(*cell), problem };
        let run = data.run(cell, &sweep)?;
        let digest = run.settings().digest();
        let known = results.get(digest).cloned();
        let resumed = known.is_some();
        let result = match known {
            Some(result) => result,
            None => {
                let result = run.train(&sweep, progress).map_err(failed)?;
                results.add(result.clone())?;
                result
            }
        };
        let flow = progress(Event::Finished { result: &result, resumed });
        finished.push(result);
        if flow.is_break() {
            complete = index + 1 == cells.len();
            break;
        }
    }
    let rows = rows(&finished);
    let files = write(&options.out, &rows, &options.data)?;
    Ok(Reproduction { rows, complete, files })
}

fn write(out: &Path, rows: &[Row], data: &[DataName]) -> Result<Vec<PathBuf>, ReproduceError> {
    let mut files = vec![
        (out.join("table.md"), table::markdown(rows).into_bytes()),
        (out.join("results.json"), serde_json::to_vec_pretty(rows)?),
    ];
    let plots = data.iter().filter_map(|&data| Some((data, plot::svg(rows, data)?)));
    files.extend(plots.map(|(data, svg)| (out.join(format!("plot-{data}.svg")), svg.into_bytes())));
    for (path, bytes) in &files {
        fs::write(path, bytes).map_err(ReproduceError::io(path))?;
    }
    Ok(files.into_iter().map(|(path, _)| path).collect())
}

/// Everything that the runs of a sweep share.
struct Sweep<'a> {
    options: &'a ReproduceOptions,
    data: Vec<SweepData<'a>>,
    meter: Arc<EpsilonMeter>,
}

struct SweepData<'a> {
    name: DataName,
    settings: &'a DataSettings,
    prepared: Prepared,
}

impl<'a> Sweep<'a> {
    fn prepare(options: &'a ReproduceOptions) -> Result<Self, ReproduceError> {
        let work = options.out.join("work");
        let of = |&name: &DataName| {
            let settings = options.settings.of(name)?;
            let sites = settings.sites.unwrap_or(options.sites);
            let prepared = prepare(&options.shared, name, sites, &work)?;
            Ok(SweepData { name, settings, prepared })
        };
        let data = options.data.iter().map(of).collect::<Result<Vec<_>, ReproduceError>>()?;
        Ok(Self { options, data, meter: Arc::default() })
    }

    /// Every run, seeds outermost: a sweep that is stopped early has all modes over fewer seeds.
    fn cells(&self) -> Vec<(&SweepData<'a>, Cell)> {
        let mut cells = Vec::new();
        for seed in 1..=self.options.seeds {
            for data in &self.data {
                let modes = data
                    .settings
                    .recipes()
                    .filter(|recipe| self.options.only.is_empty() || self.options.only.contains(recipe));
                for recipe in modes {
                    for imputer in self.imputers(recipe) {
                        for target in self.targets(data.settings, recipe) {
                            cells.push((data, Cell { data: data.name, recipe, imputer, target, seed }));
                        }
                    }
                }
            }
        }
        cells
    }

    fn imputers(&self, recipe: Recipe) -> Vec<Option<ImputerName>> {
        match recipe.reads_imputed_values() {
            true => self.options.imputers.iter().copied().map(Some).collect(),
            false => vec![None],
        }
    }

    fn targets(&self, settings: &DataSettings, recipe: Recipe) -> Vec<Target> {
        match (recipe.is_noised(), settings.noise_multiplier) {
            (false, _) => vec![Target::None],
            (true, Some(noise)) => vec![Target::Noise(noise)],
            (true, None) => self.options.epsilons.iter().copied().map(Target::Epsilon).collect(),
        }
    }
}

impl SweepData<'_> {
    /// The run with its study and the files its sites read.
    fn run<'r>(&'r self, cell: &'r Cell, sweep: &Sweep<'_>) -> Result<Run<'r>, ReproduceError> {
        let failed = |problem| ReproduceError::Cell { cell: Box::new(*cell), problem };
        let folder = sweep.options.out.join("work").join("imputers");
        let imputers = ImputerFolder { folder, boosting: sweep.options.boosting.as_deref() };
        let count = self.prepared.sites.len();
        let study = |pin| self.settings.study(&self.prepared.base, cell, count, pin);
        // The schema is needed to fit an imputer before the imputer's digest can be in the study.
        let open = study(super::settings::ImputerPin::DeclaredNoise).map_err(failed)?;
        let schema = &open.study().schema;
        let (pin, imputed) = imputers.pin(self.name, &self.prepared, schema, cell.recipe, cell.imputer)?;
        let mut document = study(pin).map_err(failed)?;
        if let Some(rounds) = sweep.options.rounds {
            document = shortened(&document, rounds).map_err(failed)?;
        }
        Ok(Run { cell, data: self, document, imputed, imputers: imputers.folder })
    }
}

/// The study with fewer rounds; warm-up rounds shrink with them.
fn shortened(document: &StudyDocument, rounds: u32) -> Result<StudyDocument, CellError> {
    let mut study = document.study().clone();
    let share = f64::from(study.fusion.warmup_rounds) / f64::from(study.training.rounds);
    study.training.rounds = rounds;
    study.fusion.warmup_rounds = (share * f64::from(rounds)) as u32;
    // As in the settings: what cannot be written is refused as a study.
    let text = toml::to_string(&study).unwrap_or_default();
    Ok(StudyDocument::from_bytes(text.as_bytes())?)
}

/// A run that is ready to be trained.
struct Run<'r> {
    cell: &'r Cell,
    data: &'r SweepData<'r>,
    document: StudyDocument,
    imputed: ImputedFile,
    imputers: PathBuf,
}

impl Run<'_> {
    fn settings(&self) -> Settings<'_> {
        Settings {
            document: &self.document,
            data: self.data.prepared.digest,
            imputer: self.cell.imputer,
            sites: self.data.prepared.sites.len(),
            seed: self.cell.seed,
        }
    }

    fn train(
        &self,
        sweep: &Sweep<'_>,
        progress: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<CellResult, CellError> {
        let started = Instant::now();
        let study = self.document.study();
        let sites = self.site_data()?;
        let options = RunOptions {
            sites: &sites,
            imputers: &self.imputers,
            seed: self.cell.seed,
            threads: sweep.options.threads,
            meter: &sweep.meter,
        };
        let rounds = study.training.rounds;
        let trained = train(&self.document, &options, &mut |round| {
            // A run is never left half done: stopping waits for its end.
            let _ = progress(Event::Round { round, rounds });
        })?;
        let folders = &self.data.prepared.sites;
        let val = self.metrics(&trained, folders, "val")?;
        let test = self.metrics(&trained, folders, "test")?;
        Ok(self.result(&trained, [val, test], started.elapsed().as_secs_f64()))
    }

    fn site_data(&self) -> Result<Vec<SiteData>, CellError> {
        let data = self.data.prepared.site_data(self.document.study(), self.imputed);
        data.map_err(|error| CellError::Files(Box::new(error)))
    }

    fn metrics(
        &self,
        trained: &Trained,
        sites: &[SiteFolder],
        cohort: &str,
    ) -> Result<CohortMetrics, CellError> {
        let Scored { logits, labels } = score(self.document.study(), &trained.parameters, sites, cohort)?;
        let failed = |source| CellError::Metric { cohort: cohort.to_owned(), source };
        Ok(CohortMetrics {
            aupr: aupr(&logits, &labels).map_err(failed)?,
            auroc: auroc(&logits, &labels).map_err(failed)?,
            brier: brier(&logits, &labels).map_err(failed)?,
        })
    }

    fn result(&self, trained: &Trained, [val, test]: [CohortMetrics; 2], seconds: f64) -> CellResult {
        let spent =
            EpsilonPair { replace: trained.spent.replace.get(), zero_out: trained.spent.zero_out.get() };
        let unprotected = self.cell.recipe == Recipe::NonPrivate;
        CellResult {
            cell: *self.cell,
            settings: self.settings().digest(),
            sites: self.data.prepared.sites.len(),
            rounds: trained.plan.rounds,
            epsilon: (!unprotected).then_some(spent),
            delta: trained.plan.delta.get(),
            noise_multiplier: trained
                .plan
                .noise_multiplier
                .filter(|_| trained.charges > 0)
                .map(|noise| noise.get()),
            sampling_probability: trained.plan.sampling_probability.get(),
            val,
            test,
            seconds,
        }
    }
}
