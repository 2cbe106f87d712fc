//! `fusiondp-simulate bench`: what a step, an imputation or a whole federation takes on this machine.
//!
//! Each measurement runs the code that a site or the coordinator runs. The Python scripts in `benches/peers` measure other
//! implementations of the same work and set both sides against each other.
//!
//! | module | content |
//! |---|---|
//! | `measure` | a measurement, its statistics, peak memory |
//! | `records` | synthetic studies and records |
//! | `site` | one site and the server's step, without transport and disk |
//! | `training` | milliseconds per step: FusionDP, DP-SGD, without protection |
//! | `imputation` | records per second through an ONNX imputer |
//! | `federation` | rounds per second and memory of a simulated federation |
//! | `rows` | memory and time of a site with millions of records |

mod federation;
mod imputation;
mod measure;
mod records;
mod rows;
mod site;
mod training;

use std::process::ExitCode;

use clap::{Args, Subcommand};
use fusiondp_runtime::outln;

use measure::Measurement;

/// Measure speed and memory of this build on this machine.
///
/// `make bench` runs all of it beside the same work in PyTorch, Opacus and Python's ONNX Runtime.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  fusiondp-simulate bench step\n  fusiondp-simulate bench sites --sites 1000 --json"
)]
pub(in crate::cli) struct Arguments {
    #[command(subcommand)]
    what: What,
    /// Print one JSON object per measurement
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum What {
    Step(training::StepArguments),
    DpSgd(training::DpSgdArguments),
    Impute(imputation::Arguments),
    Federation(federation::FederationArguments),
    Sites(federation::SitesArguments),
    Rows(rows::Arguments),
}

impl Arguments {
    pub(in crate::cli) fn run(self) -> anyhow::Result<ExitCode> {
        let measurements = match &self.what {
            What::Step(arguments) => arguments.run()?,
            What::DpSgd(arguments) => arguments.run()?,
            What::Impute(arguments) => arguments.run()?,
            What::Federation(arguments) => arguments.run()?,
            What::Sites(arguments) => arguments.run()?,
            What::Rows(arguments) => arguments.run()?,
        };
        for measurement in measurements {
            self.print(&measurement)?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn print(&self, measurement: &Measurement) -> anyhow::Result<()> {
        if self.json {
            outln!("{}", serde_json::to_string(measurement)?)?;
        } else {
            outln!("{}", measurement.line())?;
        }
        Ok(())
    }
}
