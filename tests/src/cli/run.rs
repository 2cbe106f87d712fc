//! `fusiondp-simulate run`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use fusiondp_coordinator::progress::{Plain, Progress as View};
use fusiondp_runtime::telemetry::{TelemetryConfig, init};
use fusiondp_runtime::{Shutdown, errln, outln};

use crate::simulation::{Outcome, Progress, SimulationOptions, simulate};

/// Run a study as a whole federation in this process, from its document to its figures.
///
/// The real coordinator and real site agents, over in-memory connections, with the same checks, ledgers and bytes as
/// deployed ones. Noise follows from the seed: the run can be repeated, and protects nobody.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  fusiondp-simulate run deploy/samples/sepsis-study.toml --data ../shared/data/sepsis --sites 2 --json result.json\n  fusiondp-simulate run deploy/samples/sepsis-hourly-study.toml --data ../shared/data/sepsis/hourly"
)]
pub(super) struct Arguments {
    /// Study document
    #[arg(value_name = "STUDY")]
    study: PathBuf,
    /// Folder with one folder per hospital (train.csv, val.csv, test.csv) and support.csv to fit an imputer on; or with one
    /// Parquet file per hospital, of whose patients a tenth is held out for each cohort of the study
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
    /// Rounds, in place of the study's; the private ones, which come last, are kept as far as possible
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
            let mut view = View::new(Plain::Beside);
            // What goes beside the output cannot fail.
            let mut show = |progress: Progress<'_>| {
                let _ = match progress {
                    Progress::Step(text) => view.say(text),
                    Progress::Study(status) => view.show(status),
                };
            };
            let work = simulate(&options, &mut show);
            Shutdown::on_signals()?.unless_triggered(work).await.transpose().map_err(anyhow::Error::from)
        })?;
        let Some(outcome) = outcome else {
            errln!("interrupted");
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
