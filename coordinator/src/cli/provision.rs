//! `provision`.

use std::path::PathBuf;

use clap::Args;
use fusiondp_runtime::outln;
use fusiondp_runtime::{Clock as _, SystemClock};

use crate::provision::{ConsortiumFile, provision};

/// Make the consortium's authority and one kit per participant, or add what is missing.
#[derive(Debug, Args)]
#[command(after_help = "\
Running it again adds what is new and never replaces a key, a certificate or the authority.

Example:
  fusiondp-coordinator provision consortium.toml --out kits")]
pub(super) struct Provision {
    /// Who takes part.
    #[arg(value_name = "CONSORTIUM.toml")]
    consortium: PathBuf,
    /// Folder of the kits. Keep its `ca` folder offline.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

impl Provision {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let consortium = ConsortiumFile::load(&self.consortium)?;
        let report = provision(&consortium, &self.out, SystemClock.now_ms())?;
        outln!("{report}")?;
        Ok(())
    }
}
