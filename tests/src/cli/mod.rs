//! The commands of `fusiondp-simulate`, one file each.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use fusiondp_runtime::{Shutdown, errln};

mod attack;
mod audit;
mod bench;
mod check_vectors;
mod demo;
mod reproduce;
mod run;
mod synthesize;

/// A whole federation on one machine: try a study before it is deployed, see it all at work, check the figures.
#[derive(Debug, Parser)]
#[command(name = "fusiondp-simulate", version, about, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Arguments),
    Demo(demo::Arguments),
    Reproduce(reproduce::Arguments),
    Audit(audit::Arguments),
    Attack(attack::Arguments),
    Synthesize(synthesize::Arguments),
    CheckVectors(check_vectors::Arguments),
    Bench(bench::Arguments),
}

impl Cli {
    /// Runs the command. Exit code 0: done; 1: a check failed; errors become 2 in `main`.
    ///
    /// # Errors
    /// Anything that keeps the command from its work, with file, value and remedy.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::Run(arguments) => arguments.run(),
            Command::Demo(arguments) => arguments.run(),
            Command::Reproduce(arguments) => arguments.run(),
            Command::Audit(arguments) => arguments.run(),
            Command::Attack(arguments) => arguments.run(),
            Command::Synthesize(arguments) => arguments.run(),
            Command::CheckVectors(arguments) => arguments.run(),
            Command::Bench(arguments) => arguments.run(),
        }
    }
}

/// A runtime for commands that start processes or services.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

/// Blocking work with a folder for copies of data. Where it is interrupted the folder is removed and the work abandoned, which
/// ends with the process.
fn interruptible(
    work: impl FnOnce(&Path) -> anyhow::Result<ExitCode> + Send + 'static,
) -> anyhow::Result<ExitCode> {
    let folder = tempfile::tempdir().context("no temporary folder")?;
    let (runtime, path) = (runtime()?, folder.path().to_owned());
    let done = runtime.block_on(async {
        let work = tokio::task::spawn_blocking(move || work(&path));
        anyhow::Ok(Shutdown::on_signals()?.unless_triggered(work).await)
    });
    runtime.shutdown_background();
    let place = folder.path().to_owned();
    folder.close().with_context(|| format!("remove {} by hand: it holds copies of data", place.display()))?;
    match done? {
        Some(outcome) => outcome?,
        None => {
            errln!("interrupted; copies of data have been removed");
            Ok(ExitCode::from(130))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
