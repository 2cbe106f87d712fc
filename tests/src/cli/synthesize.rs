//! `fusiondp-simulate synthesize`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use fusiondp_runtime::outln;

use crate::cohort::{CohortSpec, write};

/// Write a synthetic intensive-care cohort with the columns of the sepsis files.
///
/// One folder per hospital with train.csv, val.csv and test.csv, and a support.csv of further patients to fit imputers on.
/// The same options give the same bytes everywhere. No row stems from a patient.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  fusiondp-simulate synthesize --out cohort --hospitals 3 --patients 5000")]
pub(super) struct Arguments {
    /// Folder to write to; an earlier synthetic cohort in it is replaced
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Number of hospitals, 1 to 26
    #[arg(long, default_value_t = 2)]
    hospitals: u32,
    /// Patients of each hospital, 50 to 1,000,000
    #[arg(long, default_value_t = 4000)]
    patients: u32,
    /// Seed
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

impl Arguments {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let spec = CohortSpec::new(self.hospitals, self.patients, self.seed)?;
        for hospital in write(spec, &self.out)? {
            let [train, val, test] = hospital.patients;
            let positives: u64 = hospital.positives.iter().sum();
            outln!(
                "{}: {train} train, {val} val, {test} test, {positives} positive",
                self.out.join(&hospital.name).display()
            )?;
        }
        outln!("{}: {} patients to fit imputers on", self.out.join("support.csv").display(), {
            spec.support_patients() * spec.hospitals()
        })?;
        Ok(ExitCode::SUCCESS)
    }
}
