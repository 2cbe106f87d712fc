//! `fusiondp-simulate`: a whole federation on one machine.

use std::process::ExitCode;

use clap::Parser;
use fusiondp_tests::cli::{Cli, one_line};

fn main() -> ExitCode {
    fusiondp_runtime::install_crypto_provider();
    match Cli::parse().run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {}", one_line(&error));
            ExitCode::from(2)
        }
    }
}
