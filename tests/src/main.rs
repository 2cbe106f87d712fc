//! `fusiondp-simulate`: a whole federation on one machine.

use std::process::ExitCode;

use clap::Parser;
use fusiondp_runtime::console::exit_code;
use fusiondp_tests::cli::Cli;

fn main() -> ExitCode {
    fusiondp_runtime::install_crypto_provider();
    match Cli::parse().run() {
        Ok(code) => code,
        Err(error) => exit_code(error.as_ref(), ExitCode::from(2)),
    }
}
