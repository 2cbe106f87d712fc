//! A site with millions of records: how much memory it takes, and what a step costs.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context;
use clap::Args;
use fusiondp_protocol::study::Mode;

use super::measure::{Measurement, Times, peak_memory_mib};
use super::records::{self, PUBLIC_COLUMNS, SENSITIVE_COLUMNS, StudySpec};
use super::site::BenchSite;

/// Reads a large file as a site does, then trains on it: peak memory over the size of the records as dense f32.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Records, one per patient, of 37 columns
    #[arg(long, default_value_t = 5_000_000)]
    rows: usize,
    /// Folder for the file, which takes about 270 bytes per record and is removed again (default: a temporary one)
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
}

impl Arguments {
    pub(super) fn run(&self) -> anyhow::Result<Vec<Measurement>> {
        let folder = match &self.folder {
            Some(folder) => tempfile::tempdir_in(folder),
            None => tempfile::tempdir(),
        };
        let folder = folder.context("no folder for the records")?;
        let train = folder.path().join("train.csv");
        records::write(&train, 0, self.rows)?;
        let spec = StudySpec { mode: Mode::FusionDp, dropout: 0.1, private_batch: 128, public_batch: 4_096 };
        let start = Instant::now();
        let mut site = BenchSite::prepare(spec.document()?, &train, NonZeroUsize::MIN)?;
        let prepare_s = start.elapsed().as_secs_f64();
        let times = Times::of(0.0, || site.step())?;
        let dense_mib = (self.rows * (PUBLIC_COLUMNS + SENSITIVE_COLUMNS + 1) * 4) as f64 / (1 << 20) as f64;
        let peak = peak_memory_mib().context("the system does not tell this process's peak memory")?;
        let name = format!("rows/{}", self.rows);
        let measurement = Measurement::new(name, "times dense f32", peak / dense_mib, 1)
            .with_peak_memory()
            .with("dense_mib", dense_mib)
            .with("prepare_s", prepare_s)
            .with("step_ms", times.median_ms());
        Ok(vec![measurement])
    }
}
