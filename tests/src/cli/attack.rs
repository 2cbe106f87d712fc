//! `fusiondp-simulate attack`.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use fusiondp_runtime::files::write_atomic;
use fusiondp_runtime::outln;

use crate::attack::{AttackOptions, attack, report};

/// Train a study, attack the model and the updates that made it, and test how the model holds.
///
/// Membership inference, reconstruction of each sensitive column, inversion of a site's updates, changed inputs, worst group.
/// Everything is computed here, on data at hand; no site ever computes it.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  fusiondp-simulate attack study.toml --data hospitals --epsilon 1 --out report"
)]
pub(super) struct Arguments {
    /// Study document
    #[arg(value_name = "STUDY.toml")]
    study: PathBuf,
    /// Folder with one folder per hospital (train.csv and the cohort) and support.csv, which the attacker's imputer is fitted on
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Replace epsilon, in place of the study's target
    #[arg(long, value_name = "E")]
    epsilon: Option<f64>,
    /// Cohort that the model is judged on
    #[arg(long, default_value = "test")]
    cohort: String,
    /// Patients whose value is read off the first site's updates
    #[arg(long, default_value_t = 200)]
    patients: usize,
    /// Decides samples and noise
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Folder for attacks.json, attacks.md and attacks.svg
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
}

impl Arguments {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let study = fs::read_to_string(&self.study)
            .with_context(|| format!("cannot read {}", self.study.display()))?;
        let found = attack(&AttackOptions {
            study: &study,
            epsilon: self.epsilon,
            data: &self.data,
            cohort: &self.cohort,
            patients: self.patients,
            seed: self.seed,
        })?;
        let text = report::markdown(&found);
        if let Some(folder) = &self.out {
            fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
            write_atomic(&folder.join("attacks.json"), serde_json::to_string_pretty(&found)?.as_bytes())?;
            write_atomic(&folder.join("attacks.md"), text.as_bytes())?;
            if let Some(drawing) = report::svg(&found) {
                write_atomic(&folder.join("attacks.svg"), drawing.as_bytes())?;
            }
        }
        outln!("{text}")?;
        Ok(ExitCode::SUCCESS)
    }
}
