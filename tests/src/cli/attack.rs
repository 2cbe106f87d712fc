//! `fusiondp-simulate attack`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use fusiondp_coordinator::report::evidence::{AttackEvidence, ReportFolder};
use fusiondp_runtime::files::write_atomic;
use fusiondp_runtime::{errln, outln};

use super::interruptible;
use crate::attack::{AttackOptions, Target, attack, report};

/// Attack a study's model and the updates that made it, and test how the model holds.
///
/// Membership inference, reconstruction of each sensitive column, inversion of a site's updates, changed inputs, worst group.
/// The study is trained here, on data at hand, for its updates; no site ever computes any of this. With --report the model
/// that is attacked is the report's, and the report shows what came of it. For each reference model a copy of half of the data
/// stands in the system's temporary folder while it is trained.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fusiondp-simulate attack --report report --data hospitals
  fusiondp-simulate attack study.toml --data hospitals --epsilon 1 --out attacks
  fusiondp-simulate attack study.toml --data hospitals --model model.safetensors")]
pub(super) struct Arguments {
    /// Study document
    #[arg(value_name = "STUDY.toml", required_unless_present = "report", conflicts_with = "report")]
    study: Option<PathBuf>,
    /// Folder that `study export` wrote: its study and model are attacked, and attacks.json and report.html tell the outcome
    #[arg(long, value_name = "DIR", conflicts_with_all = ["epsilon", "model"])]
    report: Option<PathBuf>,
    /// Folder with one folder per hospital (train.csv and the cohort) and support.csv, which the attacker's imputer is fitted on
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// The ONNX imputer, needed where the study pins one and computes on imputed values; else one is fitted on support.csv
    #[arg(long, value_name = "FILE.onnx")]
    imputer: Option<PathBuf>,
    /// Parameters to attack, in place of those that are trained here
    #[arg(long, value_name = "FILE.safetensors")]
    model: Option<PathBuf>,
    /// Replace epsilon, in place of the study's target
    #[arg(long, value_name = "E")]
    epsilon: Option<f64>,
    /// Cohort that the model is judged on
    #[arg(long, default_value = "test")]
    cohort: String,
    /// Patients whose value is read off the first site's updates
    #[arg(long, default_value_t = 200)]
    patients: usize,
    /// Reference models for membership, an even number; each is trained like the study; 0 for none
    #[arg(long, default_value_t = 16)]
    references: usize,
    /// Decides samples and noise
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Folder for attacks.json, attacks.md and attacks.svg
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
}

impl Arguments {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        interruptible(move |work| self.attack(work))
    }

    fn attack(&self, work: &Path) -> anyhow::Result<ExitCode> {
        let report = self.report.as_deref().map(ReportFolder::open).transpose()?;
        let study = match (&report, &self.study) {
            (Some(report), _) => report.document().text().to_owned(),
            (None, Some(path)) => {
                fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?
            }
            (None, None) => anyhow::bail!("name a study document, or a report with --report"),
        };
        let target = match (&report, &self.model) {
            (Some(report), _) => Target::Report(report),
            (None, Some(path)) => Target::File(path),
            (None, None) => Target::Trained,
        };
        let options = AttackOptions {
            study: &study,
            epsilon: self.epsilon,
            data: &self.data,
            imputer: self.imputer.as_deref(),
            work,
            target,
            cohort: &self.cohort,
            patients: self.patients,
            references: self.references,
            seed: self.seed,
        };
        let found = attack(&options, &mut |models| {
            errln!("reference model {models} of {} is trained", self.references);
        })?;
        self.write(&found)?;
        if let Some(report) = &report {
            report.add_attacks(&found)?;
        }
        outln!("{}", report::markdown(&found))?;
        Ok(ExitCode::SUCCESS)
    }

    fn write(&self, found: &AttackEvidence) -> anyhow::Result<()> {
        let Some(folder) = &self.out else { return Ok(()) };
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        write_atomic(&folder.join("attacks.json"), serde_json::to_string_pretty(found)?.as_bytes())?;
        write_atomic(&folder.join("attacks.md"), report::markdown(found).as_bytes())?;
        if let Some(drawing) = report::svg(found) {
            write_atomic(&folder.join("attacks.svg"), drawing.as_bytes())?;
        }
        Ok(())
    }
}
