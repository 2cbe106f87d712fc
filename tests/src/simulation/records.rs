//! Where a simulated site's training records and cohorts come from.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use fusiondp_protocol::ids::CohortName;
use fusiondp_protocol::study::Study;
use fusiondp_runtime::{Clock, SystemClock};
use fusiondp_site_agent::data::source::Records;
use fusiondp_site_agent::data::{DataSource, Dataset, FileSource, RecordFiles};

use super::SimulationError;
use crate::split::SiteFolder;

/// Equal shares of the units of a hospital of one file; each cohort of the study gets one.
const SHARES: u16 = 10;

/// A site's records: its folder's files, or its one file, of whose units some are held out for the study's cohorts.
pub(super) fn source(
    study: &Study,
    site: &SiteFolder,
    clock: Arc<dyn Clock>,
) -> Result<FileSource, SimulationError> {
    let Some(file) = &site.parquet else {
        return Ok(FileSource::csv(site.folder.join("train.csv"), cohort_files(study, site), clock));
    };
    let failed = |problem: String| SimulationError::Start { service: site.site.clone(), problem };
    let files = RecordFiles::new(vec![file.clone()]).map_err(|error| failed(error.to_string()))?;
    // The final cohort comes first, so its units are the same whether the study evaluates in between or not.
    let named = [&study.evaluation.final_cohort, &study.evaluation.during];
    let mut cohorts: Vec<CohortName> = named.into_iter().flatten().cloned().collect();
    cohorts.dedup();
    FileSource::new(files, BTreeMap::new(), clock)
        .holding_out(cohorts, SHARES)
        .ok_or_else(|| failed("the study names too many cohorts".to_owned()))
}

/// A cohort's records. A folder's file need not be one that the study names.
pub(super) fn cohort(study: &Study, site: &SiteFolder, name: &str) -> Result<Dataset, SimulationError> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    if site.parquet.is_some() {
        return Ok(source(study, site, clock)?.read(&Records::Cohort(name.parse()?), study)?);
    }
    let file = site.folder.join(format!("{name}.csv"));
    Ok(FileSource::csv(file, BTreeMap::new(), clock).read(&Records::Train, study)?)
}

/// The study's cohorts that the site has a file of.
fn cohort_files(study: &Study, site: &SiteFolder) -> BTreeMap<CohortName, PathBuf> {
    let named = study.evaluation.during.iter().chain(&study.evaluation.final_cohort);
    let files = named.map(|name| (name.clone(), site.folder.join(format!("{name}.csv"))));
    files.filter(|(_, path)| path.is_file()).collect()
}
