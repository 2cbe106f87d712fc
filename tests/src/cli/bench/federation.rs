//! Whole federations in this process: rounds per second, and what many sites cost.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use fusiondp_protocol::messages::StudyStatus;
use fusiondp_protocol::study::Mode;

use super::measure::{Measurement, processor_time};
use super::records::{self, StudySpec};
use crate::cohort::{self, CohortSpec};
use crate::harness::toml_text::TomlText;
use crate::shared_data::{checkout, sepsis_folder};
use crate::simulation::{Progress, SimulationOptions, simulate};

/// The sepsis `split` study over the simulated federation, with the durable ledgers on.
///
/// Rounds per second from the first round to the end, evaluations included.
#[derive(Debug, Args)]
pub(super) struct FederationArguments {
    /// Study document
    #[arg(long, value_name = "FILE", default_value = "deploy/samples/sepsis-study.toml")]
    study: PathBuf,
    /// Folder with one folder per hospital (default: the shared sepsis data, else a synthetic cohort)
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Number of sites
    #[arg(long, default_value_t = 8)]
    sites: usize,
    /// Rounds, in place of the study's
    #[arg(long)]
    rounds: Option<u32>,
}

/// Many small sites in one process: seconds per round and peak memory.
///
/// Each site has patients, a ledger and an outbox of its own, and trains the mlp 36-64-128-64-1 in mode fusiondp.
#[derive(Debug, Args)]
pub(super) struct SitesArguments {
    /// Number of sites
    #[arg(long, default_value_t = 1_000)]
    sites: usize,
    /// Patients of each
    #[arg(long, default_value_t = 50)]
    patients: usize,
    /// Rounds
    #[arg(long, default_value_t = 20)]
    rounds: u32,
}

/// A simulation's last status, the time of all of it, and the processor time of its rounds.
struct Ran {
    status: StudyStatus,
    seconds: f64,
    processor_s: f64,
}

impl FederationArguments {
    pub(super) fn run(&self) -> anyhow::Result<Vec<Measurement>> {
        let folder = tempfile::tempdir().context("no temporary folder")?;
        let study = std::fs::read_to_string(&self.study)
            .with_context(|| format!("cannot read {}", self.study.display()))?;
        let data = match self.data.clone().or_else(|| sepsis_folder(&checkout())) {
            Some(data) => data,
            None => synthetic(&folder.path().join("cohort"))?,
        };
        let ran = run(study, data, self.sites, self.rounds, &folder.path().join("state"))?;
        let seconds = round_seconds(&ran.status)?;
        let name = format!("federation/{}-sites", self.sites);
        let rate = f64::from(ran.status.round) / seconds;
        Ok(vec![measurement(name, "rounds/s", rate, &ran)])
    }
}

impl SitesArguments {
    pub(super) fn run(&self) -> anyhow::Result<Vec<Measurement>> {
        let folder = tempfile::tempdir().context("no temporary folder")?;
        let data = folder.path().join("data");
        for site in 0..self.sites {
            let site_folder = data.join(format!("site-{site:05}"));
            std::fs::create_dir_all(&site_folder)?;
            records::write(&site_folder.join("train.csv"), site * self.patients, self.patients)?;
        }
        let ran = run(self.study()?, data, self.sites, Some(self.rounds), &folder.path().join("state"))?;
        let per_round = round_seconds(&ran.status)? / f64::from(ran.status.round);
        let name = format!("sites/{}", self.sites);
        let measurement = measurement(name, "s/round", per_round, &ran);
        Ok(vec![measurement.with("ms_per_site_and_round", per_round * 1e3 / self.sites as f64)])
    }

    fn study(&self) -> anyhow::Result<String> {
        let spec = StudySpec {
            mode: Mode::FusionDp,
            dropout: 0.1,
            private_batch: (self.sites * self.patients / 10).max(1),
            public_batch: 4_096,
        };
        let mut text = TomlText::new(spec.document()?.text());
        text.set("federation", "min_sites", i64::try_from(self.sites)?)?;
        Ok(text.text().to_owned())
    }
}

fn run(study: String, data: PathBuf, sites: usize, rounds: Option<u32>, state: &Path) -> anyhow::Result<Ran> {
    let options =
        SimulationOptions { study, data, sites, seed: 1, imputer: None, rounds, state: state.to_owned() };
    let (mut last, mut started) = (None, None);
    let mut keep = |progress: Progress<'_>| {
        if let Progress::Study(status) = progress {
            if status.started_ms.is_some() && started.is_none() {
                started = Some(processor_time());
            }
            last = Some((status.clone(), processor_time()));
        }
    };
    let outcome = crate::cli::runtime()?.block_on(simulate(&options, &mut keep))?;
    let ((status, ended), started) = last.zip(started).context("the study gave no status")?;
    Ok(Ran { status, seconds: outcome.seconds, processor_s: ended.saturating_sub(started).as_secs_f64() })
}

fn measurement(name: String, unit: &'static str, value: f64, ran: &Ran) -> Measurement {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    Measurement::new(name, unit, value, threads)
        .with("rounds", f64::from(ran.status.round))
        .with("all_s", ran.seconds)
        .with("cpu_ms_per_round", ran.processor_s * 1e3 / f64::from(ran.status.round.max(1)))
        .with_peak_memory()
}

/// From the first round to the end, in seconds.
fn round_seconds(status: &StudyStatus) -> anyhow::Result<f64> {
    let (start, end) = status.started_ms.zip(status.ended_ms).context("the study has not ended")?;
    Ok(end.saturating_sub(start).max(1) as f64 / 1e3)
}

fn synthetic(folder: &Path) -> anyhow::Result<PathBuf> {
    cohort::write(CohortSpec::new(2, 10_000, 1)?, folder)?;
    Ok(folder.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn small_sites_run_their_rounds() {
        let measured = SitesArguments { sites: 3, patients: 40, rounds: 2 }.run().unwrap();
        assert_eq!((measured.len(), measured[0].detail["rounds"]), (1, 2.0));
        assert!(measured[0].value > 0.0);
    }
}
