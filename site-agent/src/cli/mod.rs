//! The command line, `fusiondp-site`.
//!
//! Exit codes: 0 done, 1 failed or something is wrong, 2 the command line itself is wrong.

mod approve;
mod check;
mod difference;
pub(crate) mod ledger;
mod offers;
mod plan_text;
mod repair;
mod run;
mod status;
mod text;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use fusiondp_dp::LedgerPublicKey;
use fusiondp_protocol::ids::StudyId;
use fusiondp_runtime::console::exit_code;

use crate::config::{FILE_VARIABLE, SiteConfig};

/// Agent of one site in a FusionDP federation.
///
/// It dials out to the coordinator, computes its part of each round on the site's own records, and keeps the ledger of
/// what was spent.
#[derive(Debug, Parser)]
#[command(name = "fusiondp-site", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the agent until SIGTERM or Ctrl-C.
    ///
    /// Example: fusiondp-site run --config /etc/fusiondp/site.toml
    Run(ConfigArgs),
    /// Checks configuration, certificate, data, imputers and the way to the coordinator; one line per item.
    ///
    /// Exit code 0 if everything is in order, else 1.
    /// Example: fusiondp-site check --config site.toml --study sepsis.toml
    Check(CheckArgs),
    /// Shows whether the agent runs, what was spent of each limit, the studies, and what was refused; also while it runs.
    ///
    /// Example: fusiondp-site status --config site.toml --json
    Status(ListArgs),
    /// Lists the studies that were offered to this site, and whether they are approved.
    ///
    /// Example: fusiondp-site studies --config site.toml
    Studies(ListArgs),
    /// Shows a study's plan in plain words and what it would spend, asks, and records the approval.
    ///
    /// Bound to the document's SHA-256: one changed byte makes another study. A running agent takes it up by itself.
    /// Exit code 0 if the study is approved, else 1.
    /// Example: fusiondp-site approve --config site.toml sepsis-1a2b3c4d --by "A. Person"
    Approve(ApproveArgs),
    /// Records that a study may not run, or, if it was approved or runs already, no more.
    ///
    /// Example: fusiondp-site reject --config site.toml sepsis-1a2b3c4d --reason "no ethics vote yet"
    Reject(RejectArgs),
    /// The privacy ledger: shows, verifies and exports it, also while the agent runs, and repairs it.
    #[command(subcommand)]
    Ledger(LedgerCommand),
}

#[derive(Debug, Args)]
struct ConfigArgs {
    /// The site's configuration.
    #[arg(long, short, env = FILE_VARIABLE, default_value = "site.toml", value_name = "FILE")]
    config: PathBuf,
}

#[derive(Debug, Args)]
struct CheckArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// A study to check columns, imputer and policy against; reads the data in full.
    #[arg(long, value_name = "STUDY.toml")]
    study: Option<PathBuf>,
    /// JSON instead of lines.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct ListArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// JSON instead of text.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct ApproveArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Id of the study, or its beginning.
    study: String,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
    /// Name of whoever decides.
    #[arg(long, env = "USER", value_name = "NAME")]
    by: Option<String>,
}

#[derive(Debug, Args)]
struct RejectArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Id of the study, or its beginning.
    study: String,
    /// Why, for people at this site; the coordinator does not hear it.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Name of whoever decides.
    #[arg(long, env = "USER", value_name = "NAME")]
    by: Option<String>,
}

#[derive(Debug, Subcommand)]
enum LedgerCommand {
    /// Lists every charge, and what was spent per data set and study.
    ///
    /// Example: fusiondp-site ledger show --config site.toml --delta 1e-6
    Show(ShowArgs),
    /// Verifies hash chain, signatures and journal; exit code 1 if one does not hold.
    Verify(ConfigArgs),
    /// Writes every signed entry, or the receipts of one study, to a file that can be verified elsewhere.
    ///
    /// Example: fusiondp-site ledger export --config site.toml --out ledger.jsonl
    Export(ExportArgs),
    /// Brings charges back that the ledger has lost: from the journal, an export, or the receipts of a study.
    ///
    /// The agent must not run. Nothing is ever removed: entries that do not continue the chain are charged again.
    /// Example: fusiondp-site ledger restore --config site.toml --reason "state folder restored from the backup of Monday"
    Restore(RestoreArgs),
    /// Records an administrator's decision where a ledger is in question, so that the agent goes on. It must not run.
    ///
    /// Example: fusiondp-site ledger accept journal --reason "the volume of the journal is lost"
    Accept(AcceptArgs),
}

#[derive(Debug, Args)]
struct ExportArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Receipts of this study in place of the ledger.
    #[arg(long, value_name = "STUDY")]
    study: Option<StudyId>,
    /// The file to write; must not exist.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

#[derive(Debug, Args)]
struct RestoreArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// The file to take charges from; the ledger's journal by default.
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// Takes a file that is signed with this other key: this hospital's earlier ledger on the same patients.
    #[arg(long, value_name = "KEY")]
    trust_key: Option<LedgerPublicKey>,
    #[command(flatten)]
    why: WhyArgs,
}

#[derive(Debug, Args)]
struct AcceptArgs {
    /// What to accept.
    what: Acceptable,
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    why: WhyArgs,
}

/// What an administrator can accept.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Acceptable {
    /// The journal is lost: begin a new one with the entries that there are.
    Journal,
    /// The clock ran ahead when the newest charge was made: go on at that charge's time until the clock has passed it.
    Clock,
    /// A coordinator holds entries that are lost here for good: go on without them.
    LostEntries,
}

#[derive(Debug, Args)]
struct WhyArgs {
    /// Why; kept in the state folder for auditors.
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    reason: String,
    /// Who decides.
    #[arg(long, env = "USER", value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    by: String,
}

#[derive(Debug, Args)]
struct ShowArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Delta at which epsilon is stated.
    #[arg(long, default_value_t = 1e-5)]
    delta: f64,
    /// JSON instead of tables.
    #[arg(long)]
    json: bool,
}

/// Parses the command line and runs it.
pub fn main() -> ExitCode {
    fusiondp_runtime::install_crypto_provider();
    let cli = Cli::parse();
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(dispatch(cli.command)));
    match outcome {
        Ok(code) => code,
        Err(error) => exit_code(error.as_ref(), ExitCode::FAILURE),
    }
}

async fn dispatch(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Run(args) => run::run(load(&args.config)?).await.map(|()| ExitCode::SUCCESS),
        Command::Check(args) => check::check(args).await,
        Command::Status(args) => {
            status::status(&load(&args.config.config)?, args.json).await.map(|()| ExitCode::SUCCESS)
        }
        Command::Studies(args) => {
            status::studies(&load(&args.config.config)?, args.json).await.map(|()| ExitCode::SUCCESS)
        }
        Command::Approve(args) => approve::approve(&load(&args.config.config)?, &args).await,
        Command::Reject(args) => approve::reject(&load(&args.config.config)?, &args).await,
        Command::Ledger(LedgerCommand::Show(args)) => {
            ledger::show(&load(&args.config.config)?, args.delta, args.json).await.map(|()| ExitCode::SUCCESS)
        }
        Command::Ledger(LedgerCommand::Verify(args)) => {
            ledger::verify(&load(&args.config)?).await.map(|()| ExitCode::SUCCESS)
        }
        Command::Ledger(LedgerCommand::Export(args)) => {
            let config = load(&args.config.config)?;
            ledger::export(&config, args.study.as_ref(), &args.out).await.map(|()| ExitCode::SUCCESS)
        }
        Command::Ledger(LedgerCommand::Restore(args)) => {
            repair::restore(&load(&args.config.config)?, &args).await.map(|()| ExitCode::SUCCESS)
        }
        Command::Ledger(LedgerCommand::Accept(args)) => {
            repair::accept(&load(&args.config.config)?, &args).await.map(|()| ExitCode::SUCCESS)
        }
    }
}

fn load(path: &Path) -> anyhow::Result<SiteConfig> {
    Ok(SiteConfig::load(path)?)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Cli;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
