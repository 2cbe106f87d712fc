//! `fusiondp-simulate`: a whole federation on one machine.

use std::process::ExitCode;

use clap::Parser;
use fusiondp_runtime::console::{one_line, reader_has_gone};
use fusiondp_tests::cli::Cli;

fn main() -> ExitCode {
    fusiondp_runtime::install_crypto_provider();
    match Cli::parse().run() {
        Ok(code) => code,
        Err(error) if reader_has_gone(error.as_ref()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", one_line(error.as_ref()));
            ExitCode::from(2)
        }
    }
}
