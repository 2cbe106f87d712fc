//! `fusiondp-simulate reproduce`.

use std::fs;
use std::io::IsTerminal as _;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use fusiondp_runtime::telemetry::{TelemetryConfig, init};
use fusiondp_runtime::{errln, out, outln};
use indicatif::{ProgressBar, ProgressStyle};

use crate::reproduce::mode::{DataName, ImputerName, Recipe};
use crate::reproduce::results::CellResult;
use crate::reproduce::settings::{DEFAULT_SETTINGS, SweepSettings};
use crate::reproduce::{Event, ReproduceOptions, reproduce, table};

/// Modes of a quick run.
const QUICK_MODES: [Recipe; 5] =
    [Recipe::Split, Recipe::FusionDp, Recipe::DpSgd, Recipe::PublicOnly, Recipe::NonPrivate];

/// Train every mode over seeds, epsilons and data sets, and write a table and plots.
///
/// Runs go through a site's own training step, ledger and policy and the coordinator's own server step. Finished runs are
/// appended to OUT/results.jsonl and are not run again, so a stopped sweep goes on where it was stopped; a changed setting
/// is another run. Noise follows from the seed: a sweep protects nobody.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  fusiondp-simulate reproduce --shared ../shared --out results --quick\n  \
                  fusiondp-simulate reproduce --shared ../shared --out results --data sepsis --only split,dp-sgd --seeds 5"
)]
pub(super) struct Arguments {
    /// Folder that holds data/sepsis and data/bank
    #[arg(long, value_name = "DIR")]
    shared: PathBuf,
    /// Folder for results.jsonl, table.md, results.json and plot-DATA.svg
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Few modes, one seed, one epsilon: a first look in minutes; later calls go on from its runs
    #[arg(long)]
    quick: bool,
    /// Data sets: sepsis-authors, sepsis, bank (default: all)
    #[arg(long, value_name = "DATA,..", value_delimiter = ',')]
    data: Vec<DataName>,
    /// Modes (default: all that the settings have)
    #[arg(long, value_name = "MODE,..", value_delimiter = ',')]
    only: Vec<Recipe>,
    /// Imputers of modes that read imputed values: constant, declared-noise, network, boosting, file
    #[arg(long, value_name = "IMPUTER,..", value_delimiter = ',', default_value = "file")]
    imputers: Vec<ImputerName>,
    /// Epsilons under replace
    #[arg(long, value_name = "EPSILON,..", value_delimiter = ',')]
    epsilons: Vec<f64>,
    /// Seeds, from 1
    #[arg(long)]
    seeds: Option<u64>,
    /// Sites, each adding its own noise
    #[arg(long, default_value_t = 8)]
    sites: usize,
    /// Rounds, in place of the settings'; shows that everything works, and gives no figures
    #[arg(long)]
    rounds: Option<u32>,
    /// Settings file, in place of the built-in one; --print-settings shows that
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// Print the built-in settings and end
    #[arg(long)]
    print_settings: bool,
    /// Folder with DATA-boosting.onnx files, made by deploy/imputers/fit_boosting.py
    #[arg(long, value_name = "DIR")]
    boosting: Option<PathBuf>,
    /// Threads that compute sites' parts (default: one per core); figures do not depend on it
    #[arg(long)]
    threads: Option<usize>,
}

impl Arguments {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        if self.print_settings {
            out!("{DEFAULT_SETTINGS}")?;
            return Ok(ExitCode::SUCCESS);
        }
        init(&TelemetryConfig { log: "error".to_owned(), ..TelemetryConfig::default() })?;
        let options = self.options()?;
        let mut view = View::new()?;
        let reproduction = reproduce(&options, &mut |event| view.show(&event))?;
        view.end();
        out!("{}", table::markdown(&reproduction.rows))?;
        outln!()?;
        for file in &reproduction.files {
            outln!("{}", file.display())?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn options(self) -> anyhow::Result<ReproduceOptions> {
        let settings = match &self.settings {
            Some(path) => {
                fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?
            }
            None => DEFAULT_SETTINGS.to_owned(),
        };
        let epsilons = or(self.epsilons, if self.quick { &[1.0][..] } else { &[0.5, 1.0, 2.0] });
        if let Some(wrong) = epsilons.iter().find(|epsilon| !(**epsilon > 0.0 && epsilon.is_finite())) {
            bail!("--epsilons holds {wrong}; an epsilon is a finite number above 0");
        }
        let threads =
            self.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
        Ok(ReproduceOptions {
            shared: self.shared,
            out: self.out,
            settings: SweepSettings::parse(&settings)?,
            data: or(self.data, &DataName::ALL),
            only: or(self.only, if self.quick { &QUICK_MODES[..] } else { &[] }),
            imputers: self.imputers,
            epsilons,
            seeds: self.seeds.unwrap_or(if self.quick { 1 } else { 5 }),
            sites: self.sites,
            rounds: self.rounds,
            boosting: self.boosting,
            threads: threads.max(1),
        })
    }
}

fn or<T: Clone>(given: Vec<T>, default: &[T]) -> Vec<T> {
    if given.is_empty() { default.to_vec() } else { given }
}

/// One live line on a terminal, and a plain line per finished run everywhere.
struct View {
    bar: Option<ProgressBar>,
    place: String,
}

impl View {
    fn new() -> anyhow::Result<Self> {
        let bar = match std::io::stderr().is_terminal() {
            true => {
                let template = "{prefix} {bar:24} {pos}/{len} {elapsed} {wide_msg}";
                let style = ProgressStyle::with_template(template)?;
                Some(ProgressBar::new(1).with_style(style))
            }
            false => None,
        };
        Ok(Self { bar, place: String::new() })
    }

    fn show(&mut self, event: &Event<'_>) -> ControlFlow<()> {
        match event {
            Event::Started { cell, index, count } => {
                self.place = format!("{}/{count}", index + 1);
                if let Some(bar) = &self.bar {
                    bar.reset();
                    bar.set_prefix(self.place.clone());
                    bar.set_message(cell.to_string());
                }
            }
            Event::Round { round, rounds } => {
                if let Some(bar) = &self.bar {
                    bar.set_length(u64::from(*rounds));
                    bar.set_position(u64::from(*round));
                }
            }
            Event::Finished { result, resumed } => self.line(&finished(&self.place, result, *resumed)),
        }
        ControlFlow::Continue(())
    }

    fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| errln!("{text}")),
            None => errln!("{text}"),
        }
    }

    fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn finished(place: &str, result: &CellResult, resumed: bool) -> String {
    let when = if resumed { "done before".to_owned() } else { format!("{:.1} s", result.seconds) };
    format!(
        "{place} {}: test AUPR {:.4} AUROC {:.4}, val AUPR {:.4}, {when}",
        result.cell, result.test.aupr, result.test.auroc, result.val.aupr
    )
}
