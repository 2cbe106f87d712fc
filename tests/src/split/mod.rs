//! Splits hospitals into more sites, by patient.
//!
//! A data folder holds one folder per hospital with `train.csv` and further cohorts, or one Parquet file per hospital, which
//! stays whole. For `n` sites each hospital is cut
//! into as many parts as it takes to reach `n`, larger hospitals first; a patient's part is a hash of seed and patient
//! id, so all rows of a patient, in every cohort and in every file of precomputed imputations, land at the same site.

mod hospital;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

pub use hospital::{Hospital, hospitals};

/// Why a data folder could not be read or split.
#[derive(Debug, Error)]
pub enum SplitError {
    /// No hospital in the folder.
    #[error(
        "{} has no hospital: expected one folder per hospital, each with a train.csv, or one Parquet file per hospital; \
         `fusiondp-simulate synthesize --out DIR` writes an example",
        path.display()
    )]
    NoHospital {
        /// The data folder.
        path: PathBuf,
    },
    /// Fewer sites than hospitals.
    #[error(
        "{sites} sites for {hospitals} hospitals: give at least {hospitals}, a site never holds two hospitals"
    )]
    TooFewSites {
        /// Sites asked for.
        sites: usize,
        /// Hospitals found.
        hospitals: usize,
    },
    /// A hospital of one Parquet file was to be cut.
    #[error("{}: a Parquet file is not cut into several sites; ask for one site per hospital", path.display())]
    Whole {
        /// The file.
        path: PathBuf,
    },
    /// A hospital's folder or file name cannot name a site.
    #[error("{name:?} cannot name a site: use lower-case letters, digits and '-', at most 56 characters")]
    Name {
        /// The folder's name, or the file's without its suffix.
        name: String,
    },
    /// The column that identifies a patient is missing.
    #[error("{}: no column {column:?} to split by; columns are {found}", path.display())]
    NoColumn {
        /// The file.
        path: PathBuf,
        /// The column sought.
        column: String,
        /// The header line.
        found: String,
    },
    /// A part would hold no training rows.
    #[error("site {site} would have no training rows: ask for fewer sites")]
    Empty {
        /// The site.
        site: String,
    },
    /// A CSV file could not be read.
    #[error("{}: {source}", path.display())]
    Csv {
        /// The file.
        path: PathBuf,
        /// What the reader said.
        source: csv::Error,
    },
    /// A file or folder could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// One site's data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteFolder {
    /// Site id: the hospital's name, with `-1`, `-2`, … when the hospital was cut.
    pub site: String,
    /// Hospital it came from.
    pub hospital: String,
    /// Folder with train.csv and the other CSV files of the hospital.
    pub folder: PathBuf,
    /// The hospital's one file, in place of those CSV files.
    pub parquet: Option<PathBuf>,
}

/// How to cut.
#[derive(Debug, Clone, Copy)]
pub struct SplitOptions<'a> {
    /// Number of sites, at least the number of hospitals.
    pub sites: usize,
    /// Decides which patient goes where.
    pub seed: u64,
    /// Column that identifies a patient; without it every row is its own, by position.
    pub unit_column: Option<&'a str>,
}

/// Splits the hospitals of `data` into site folders. A hospital that stays whole keeps its own folder; the parts of one
/// that is cut are written below `out`.
///
/// # Errors
/// See [`SplitError`]: no hospital, fewer sites than hospitals, a missing column, an empty part, unreadable files.
pub fn split(data: &Path, options: SplitOptions<'_>, out: &Path) -> Result<Vec<SiteFolder>, SplitError> {
    let hospitals = hospitals(data)?;
    if options.sites < hospitals.len() {
        return Err(SplitError::TooFewSites { sites: options.sites, hospitals: hospitals.len() });
    }
    let parts = parts_per_hospital(&hospitals, options.sites);
    let mut sites = Vec::with_capacity(options.sites);
    for (hospital, parts) in hospitals.iter().zip(parts) {
        if parts == 1 {
            sites.push(SiteFolder {
                site: hospital.name.clone(),
                hospital: hospital.name.clone(),
                folder: hospital.folder.clone(),
                parquet: hospital.parquet.clone(),
            });
        } else {
            sites.extend(hospital.cut(parts, options, out)?);
        }
    }
    Ok(sites)
}

/// Every hospital gets one part; each further part goes to the hospital whose parts are largest.
fn parts_per_hospital(hospitals: &[Hospital], sites: usize) -> Vec<usize> {
    let mut parts = vec![1; hospitals.len()];
    for _ in hospitals.len()..sites {
        let largest = (0..hospitals.len()).max_by(|&a, &b| {
            let share = |i: usize| hospitals[i].train_rows as f64 / parts[i] as f64;
            share(a).total_cmp(&share(b)).then(b.cmp(&a))
        });
        if let Some(index) = largest {
            parts[index] += 1;
        }
    }
    parts
}
