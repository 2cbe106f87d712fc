//! `fusiondp-site`: see [`fusiondp_site_agent`].

use std::process::ExitCode;

fn main() -> ExitCode {
    fusiondp_site_agent::cli::main()
}
