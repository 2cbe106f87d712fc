//! The demo's data: named, shared, or synthesized; cut into as many sites as asked for.

use std::path::PathBuf;

use anyhow::{Context, bail};
use fusiondp_runtime::outln;

use super::flow::DemoOptions;
use crate::cohort::{CohortSpec, write};
use crate::shared_data::sepsis_folder;
use crate::split::{SiteFolder, SplitOptions, split};

/// Patients of each synthetic hospital.
const PATIENTS: u32 = 8000;

pub(super) struct DemoData {
    /// One folder per hospital and support.csv.
    pub(super) folder: PathBuf,
    pub(super) sites: Vec<SiteFolder>,
    pub(super) support: PathBuf,
}

pub(super) fn prepare(options: &DemoOptions) -> anyhow::Result<DemoData> {
    let folder = source(options)?;
    let support = folder.join("support.csv");
    if !support.is_file() {
        bail!(
            "{} is missing; the imputer is fitted on it: records with the same columns from patients who take no part",
            support.display()
        );
    }
    let split_options =
        SplitOptions { sites: options.sites, seed: options.seed, unit_column: Some("patient_id") };
    let sites = split(&folder, split_options, &options.run.join("data").join("sites"))?;
    outln!(
        "{} sites: {}",
        sites.len(),
        sites.iter().map(|s| s.site.as_str()).collect::<Vec<_>>().join(", ")
    )?;
    Ok(DemoData { folder, sites, support })
}

fn source(options: &DemoOptions) -> anyhow::Result<PathBuf> {
    if let Some(folder) = &options.data {
        outln!("data: {}", folder.display())?;
        return Ok(folder.clone());
    }
    let here = std::env::current_dir().context("no current folder")?;
    if let Some(folder) = sepsis_folder(&here) {
        outln!("data: {} (two real hospitals)", folder.display())?;
        return Ok(folder);
    }
    let folder = options.run.join("data").join("synthetic");
    let hospitals = (options.sites as u32).min(2);
    write(CohortSpec::new(hospitals, PATIENTS, options.seed)?, &folder)?;
    outln!(
        "data: {} (synthetic, see its README.md; name your own with --data, make demo DATA=DIR)",
        folder.display()
    )?;
    Ok(folder)
}
