//! The commands of `fusiondp-coordinator`, one file each.
//!
//! | command | file | needs |
//! |---|---|---|
//! | `serve` | `serve` | `coordinator.toml` |
//! | `provision` | `provision` | `consortium.toml` |
//! | `study submit, list, status, stop` | `study` | an admin kit |
//! | `study watch` | `watch` | an admin kit |
//! | `study export` | `export` | an admin kit |
//! | `study check` | `check` | nothing but the study document |
//! | `sites` | `sites` | an admin kit |
//! | `accountant epsilon, calibrate, curve` | `accountant/` | nothing |
//! | `receipts verify` | `receipts` | a report folder |
//! | `imputer fit` | `imputer` | a study document and support data |
//!
//! Exit codes: 0 done, 1 not done (with one line that says why and what to do), 2 wrong usage.

mod accountant;
mod admin;
mod check;
mod export;
mod imputer;
mod provision;
mod receipts;
mod serve;
mod sites;
mod study;
mod table;
mod watch;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use fusiondp_runtime::console::exit_code;

/// Coordinator of a FusionDP federation.
#[derive(Debug, Parser)]
#[command(name = "fusiondp-coordinator", version, propagate_version = true)]
#[command(after_help = "\
From nothing to a trained model:
  fusiondp-coordinator provision consortium.toml --out kits
  fusiondp-coordinator serve --config kits/coordinator/coordinator.toml
  fusiondp-coordinator imputer fit --schema study.toml --support support.csv --out imputer.onnx
  fusiondp-coordinator study check study.toml --units 8000,6000
  fusiondp-coordinator study submit study.toml --admin kits/admin
  fusiondp-coordinator study watch ID --admin kits/admin
  fusiondp-coordinator study export ID --out report --admin kits/admin
  fusiondp-coordinator receipts verify report")]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve a consortium until SIGINT or SIGTERM.
    Serve(serve::Serve),
    /// Make the consortium's authority and one kit per participant, or add what is missing.
    Provision(provision::Provision),
    /// Submit, follow, stop and export studies.
    Study {
        #[command(subcommand)]
        command: study::StudyCommand,
    },
    /// List the consortium's sites and which are connected.
    Sites(sites::Sites),
    /// What releases cost: epsilon, calibration and the whole privacy curve.
    Accountant {
        #[command(subcommand)]
        command: accountant::AccountantCommand,
    },
    /// What sites have stated in writing of their updates.
    Receipts {
        #[command(subcommand)]
        command: receipts::ReceiptsCommand,
    },
    /// Fit imputers for sensitive features.
    Imputer {
        #[command(subcommand)]
        command: imputer::ImputerCommand,
    },
}

/// Which coordinator to talk to, and as whom.
#[derive(Debug, Args)]
struct AdminKit {
    /// Folder of the admin kit, with admin.toml.
    #[arg(long = "admin", value_name = "DIR", env = "FUSIONDP_ADMIN")]
    folder: PathBuf,
}

/// Runs the command line of this process.
pub fn run() -> ExitCode {
    match execute(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit_code(error.as_ref(), ExitCode::FAILURE),
    }
}

fn execute(cli: Cli) -> anyhow::Result<()> {
    match cli.command {
        Command::Serve(command) => command.run(),
        Command::Provision(command) => command.run(),
        Command::Study { command } => command.run(),
        Command::Sites(command) => command.run(),
        Command::Accountant { command } => command.run(),
        Command::Receipts { command } => command.run(),
        Command::Imputer { command } => command.run(),
    }
}

/// A runtime for a command that makes a few calls.
fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

#[cfg(test)]
mod tests;
