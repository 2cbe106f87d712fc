//! `fusiondp-simulate run`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use fusiondp_protocol::messages::StudyStatus;
use fusiondp_runtime::telemetry::{TelemetryConfig, init};
use fusiondp_runtime::{Shutdown, outln};
use indicatif::{ProgressBar, ProgressStyle};

use crate::simulation::{Outcome, Progress, SimulationOptions, simulate};

/// Run a study as a whole federation in this process, from its document to its figures.
///
/// The real coordinator and real site agents, over in-memory connections, with the same checks, ledgers and bytes as
/// deployed ones. Noise follows from the seed: the run can be repeated, and protects nobody.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  fusiondp-simulate run deploy/samples/sepsis-study.toml --data ../shared/data/sepsis --sites 2 --json result.json"
)]
pub(super) struct Arguments {
    /// Study document
    #[arg(value_name = "STUDY")]
    study: PathBuf,
    /// Folder with one folder per hospital (train.csv, val.csv, test.csv) and support.csv to fit an imputer on
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Number of sites; more than there are hospitals cuts hospitals by patient
    #[arg(long, default_value_t = 2)]
    sites: usize,
    /// Seed of split, imputer, samples and noise
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// File for the figures as JSON
    #[arg(long, value_name = "OUT")]
    json: Option<PathBuf>,
    /// ONNX imputer, in place of one fitted on support.csv
    #[arg(long, value_name = "FILE")]
    imputer: Option<PathBuf>,
    /// Rounds, in place of the study's
    #[arg(long)]
    rounds: Option<u32>,
    /// Folder to keep databases, ledgers and cut data in (default: a temporary one)
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Folder for the study's report (report.html, report.json, model.onnx)
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// What services log, for example `info` or `fusiondp_site_agent=debug`
    #[arg(long, default_value = "error")]
    log: String,
}

impl Arguments {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        init(&TelemetryConfig { log: self.log.clone(), ..TelemetryConfig::default() })?;
        let temporary = tempfile::tempdir().context("no temporary folder")?;
        let study = fs::read_to_string(&self.study)
            .with_context(|| format!("cannot read {}", self.study.display()))?;
        let options = SimulationOptions {
            study,
            data: self.data.clone(),
            sites: self.sites,
            seed: self.seed,
            imputer: self.imputer.clone(),
            rounds: self.rounds,
            state: self.state.clone().unwrap_or_else(|| temporary.path().to_owned()),
        };
        let outcome = super::runtime()?.block_on(async {
            let mut line = Line::new()?;
            let mut show = |progress: Progress<'_>| line.show(&progress);
            let work = simulate(&options, &mut show);
            Shutdown::on_signals()?.unless_triggered(work).await.transpose().map_err(anyhow::Error::from)
        })?;
        let Some(outcome) = outcome else {
            eprintln!("interrupted");
            return Ok(ExitCode::from(130));
        };
        self.write(&outcome)?;
        outln!("{}", outcome.table())?;
        Ok(ExitCode::SUCCESS)
    }

    fn write(&self, outcome: &Outcome) -> anyhow::Result<()> {
        if let Some(path) = &self.json {
            save(path, serde_json::to_string_pretty(outcome)?.as_bytes())?;
        }
        if let Some(folder) = &self.report {
            fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
            for (name, bytes) in &outcome.report {
                save(&folder.join(name), bytes)?;
            }
        }
        Ok(())
    }
}

fn save(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

/// One line that follows the study on a terminal.
struct Line(ProgressBar);

impl Line {
    fn new() -> anyhow::Result<Self> {
        let bar = ProgressBar::no_length();
        bar.set_style(ProgressStyle::with_template(
            "{msg} {bar:30} {pos}/{len} rounds, {elapsed}, {eta} left",
        )?);
        Ok(Self(bar))
    }

    fn show(&mut self, progress: &Progress<'_>) {
        match progress {
            Progress::Step(text) => self.0.suspend(|| eprintln!("{text}")),
            Progress::Study(status) => self.study(status),
        }
    }

    fn study(&mut self, status: &StudyStatus) {
        self.0.set_length(u64::from(status.rounds));
        self.0.set_position(u64::from(status.round));
        self.0.set_message(status.state.as_str());
        if status.state.has_ended() {
            self.0.finish_and_clear();
        }
    }
}
