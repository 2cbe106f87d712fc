//! The binary: a crypto provider, then the command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    fusiondp_runtime::install_crypto_provider();
    fusiondp_coordinator::cli::run()
}
