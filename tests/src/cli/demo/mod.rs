//! `fusiondp-simulate demo`: a consortium on this machine, as separate processes over mutual TLS.
//!
//! Every step is a command that a consortium would type, printed before it runs. Two folders are written:
//!
//! ```text
//! RUN/data             synthetic cohort, when no data was named; sites/ of hospitals that were cut
//! RUN/consortium.toml  who takes part
//! RUN/kits             what provisioning made: certificates and configuration of coordinator, admin and sites
//! RUN/imputers         the imputer fitted on the support data
//! RUN/study.toml       the study, with the imputer's digest pinned
//! RUN/logs             one file per process
//!
//! OUT                  report.html, report.json, the model, the study, receipts, what attacks have shown, ledgers/ with each
//!                      site's ledger
//! ```

mod data;
mod flow;
mod folder;
mod summary;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use fusiondp_runtime::{Shutdown, errln};

use flow::{DemoOptions, run};

/// Set up a consortium on this machine, train a federated model over TLS, show the result.
///
/// Provisions certificates, fits an imputer, starts one coordinator and one agent per site as separate processes, submits
/// a study, shows its progress and writes a report folder. Each command is printed as a user would type it.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  fusiondp-simulate demo --sites 4 --out report")]
pub(in crate::cli) struct Arguments {
    /// Folder with one folder per hospital and support.csv (default: the shared sepsis data beside the checkout, else a
    /// synthetic cohort)
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Number of sites; more than there are hospitals cuts hospitals by patient
    #[arg(long, default_value_t = 2)]
    sites: usize,
    /// Seed of split, synthetic data, imputer and initial model; noise never has one
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Folder for the report; that of an earlier demo is replaced
    #[arg(long, value_name = "DIR", default_value = "report")]
    out: PathBuf,
    /// Folder for everything else: kits, state, logs; that of an earlier demo is replaced
    #[arg(long, value_name = "DIR", default_value = "demo-run")]
    run: PathBuf,
    /// Port of the coordinator on 127.0.0.1 (default: any free one)
    #[arg(long)]
    port: Option<u16>,
    /// Study document (default: the sepsis sample)
    #[arg(long, value_name = "FILE")]
    study: Option<PathBuf>,
    /// Rounds, in place of the study's
    #[arg(long)]
    rounds: Option<u32>,
}

impl Arguments {
    pub(in crate::cli) fn run(self) -> anyhow::Result<ExitCode> {
        let options = DemoOptions {
            data: self.data,
            sites: self.sites,
            seed: self.seed,
            out: self.out,
            run: self.run,
            port: self.port,
            study: self.study,
            rounds: self.rounds,
        };
        super::runtime()?.block_on(async {
            // Ending the future drops every process handle, which kills the process.
            match Shutdown::on_signals()?.unless_triggered(run(options)).await {
                Some(result) => result.map(|()| ExitCode::SUCCESS),
                None => {
                    errln!("interrupted; every process has been ended");
                    Ok(ExitCode::from(130))
                }
            }
        })
    }
}
