//! `fusiondp-simulate check-vectors`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use fusiondp_runtime::{out, outln};
use indicatif::{ProgressBar, ProgressStyle};

use crate::vectors::{Detail, Finding, check_folder, table};

/// Compare gradients, norms, logits and epsilons with reference figures.
///
/// Prints the largest relative error of each file, per precision and per accountant. Exit code 1 when one is beyond its limit.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  fusiondp-simulate check-vectors shared/dp/tests/vectors")]
pub(super) struct Arguments {
    /// Folder with accounting.json and *.safetensors
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Show every quantity instead of the worst of each file and precision
    #[arg(long)]
    all: bool,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
}

impl Arguments {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let started = Instant::now();
        let bar = ProgressBar::hidden();
        bar.set_style(ProgressStyle::with_template("epsilon {pos}/{len} {bar:30} {elapsed}")?);
        let findings = check_folder(&self.folder, &|done, total| {
            if started.elapsed() > Duration::from_secs(2) && bar.is_hidden() {
                bar.set_draw_target(indicatif::ProgressDrawTarget::stderr());
            }
            bar.set_length(total as u64);
            bar.set_position(done as u64);
        })?;
        bar.finish_and_clear();
        if self.json {
            outln!("{}", serde_json::to_string_pretty(&findings)?)?;
        } else {
            let detail = if self.all { Detail::All } else { Detail::Worst };
            out!("{}", table(&findings, detail))?;
        }
        Ok(if findings.iter().all(Finding::holds) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
