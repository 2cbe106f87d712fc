//! Verifies the receipts of a study, for whoever trusts neither coordinator nor sites: from nothing but the files of a report.
//!
//! * [`counts`]: charges of tables of counts, and what they cost alone and with training
//! * [`key`]: whose the key is that signed them, under the consortium's authority
//! * [`site`]: the receipts of one site: signatures, chain pieces, charges, and the epsilon they give
//! * [`Verified`]: all sites of a report folder, and the consortium's figure
//!
//! What it can show: that nobody but the holder of a site's key has written the receipts, that every update was charged as the
//! study says, that no charge the site counts is left out, and what epsilon follows; with the consortium's authority also whose
//! key it is ([`key`]). What it cannot: that a site has not released something it wrote no receipt of.

pub mod counts;
pub mod key;
pub mod site;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use fusiondp_dp::{
    Accountant, AccountantError, Delta, Epsilon, LedgerPublicKey, NeighboringRelation, StepCounts,
};
use fusiondp_protocol::receipt::{ReceiptsFile, ReceiptsFileError};
use fusiondp_protocol::study::{MAX_STUDY_BYTES, StudyDocument};
use fusiondp_protocol::{SiteId, StudyError};
use fusiondp_runtime::files::{FileError, read_limited};
use fusiondp_runtime::tls::Authority;
use serde::{Deserialize, Serialize};

use counts::ReportedCounts;
pub use counts::{CohortVerdict, CountsVerdict};
pub use key::{BoundCertificate, KeyBinding};
pub use site::{RecordVerdict, SiteVerdict};

/// Relative difference at which two figures still agree: see the coordinator's own comparison, round by round.
const TOLERANCE: f64 = 1e-9;

/// Longest file of receipts.
const MAX_RECEIPTS_BYTES: u64 = 4 << 30;

/// Longest `report.json`.
const MAX_REPORT_BYTES: u64 = 1 << 30;

/// Why a folder cannot be verified at all.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// A file cannot be read.
    #[error("{0}; give the folder that `study export` wrote")]
    File(#[from] FileError),
    /// The folder cannot be listed.
    #[error("cannot read {}: {source}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// There is nothing to verify.
    #[error("{} holds no receipts-SITE.jsonl; give the folder that `study export` wrote", path.display())]
    NoReceipts {
        /// The folder.
        path: PathBuf,
    },
    /// The study document does not read.
    #[error("{}: {source}", path.display())]
    Study {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<StudyError>,
    },
    /// A file of receipts does not read.
    #[error("{} {source}", path.display())]
    Receipts {
        /// The file.
        path: PathBuf,
        /// Which line, and why.
        #[source]
        source: ReceiptsFileError,
    },
    /// The report does not read.
    #[error("{}: {source}; it does not belong to these receipts, or was altered", path.display())]
    Report {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

/// Epsilons under both relations, upper bounds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Epsilons {
    /// Under replace.
    pub replace: f64,
    /// Under zero_out.
    pub zero_out: f64,
}

/// What the verifier has from elsewhere than the folder.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    /// Keys as hospitals tell them.
    pub keys: BTreeMap<SiteId, LedgerPublicKey>,
    /// The consortium's authority; without it nobody looks whose the other keys are.
    pub authority: Option<Authority>,
}

/// The files of one report.
pub struct Folder {
    document: StudyDocument,
    sites: Vec<ReceiptsFile>,
    reported: Option<Reported>,
}

/// What `report.json` claims, as far as receipts can tell.
#[derive(Debug, Clone, Deserialize)]
struct Reported {
    epsilon: Epsilons,
    records_epsilon: Option<Epsilons>,
    #[serde(default)]
    counts: Option<ReportedCounts>,
    #[serde(default)]
    site_details: Vec<ReportedSite>,
}

#[derive(Debug, Clone, Deserialize)]
struct ReportedSite {
    site: String,
    rounds_contributed: u32,
    epsilon_claimed: Epsilons,
    records_epsilon_claimed: Option<Epsilons>,
}

/// The outcome of verifying a folder.
#[derive(Debug, Clone, Serialize)]
pub struct Verified {
    /// The study.
    pub study: String,
    /// Delta of every figure.
    pub delta: Delta,
    /// By site.
    pub sites: Vec<SiteVerdict>,
    /// Sites that may hold the same patient, as the study declares.
    pub max_overlap: u32,
    /// Of the consortium: the largest of all sites, or of the worst `max_overlap` sites together.
    pub epsilon: Epsilons,
    /// The same of whole records, in a study that protects them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub records_epsilon: Option<Epsilons>,
    /// What tables of counts with noise cost; `None` where there are none, or the files do not list them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub counts: Option<CountsVerdict>,
    /// Charges of counts are in the files, if the study has any; files of the older format cannot hold them. With a report that
    /// tells of tables such a file is a problem.
    pub lists_counts: bool,
    /// What does not hold, of the folder as a whole.
    pub problems: Vec<String>,
}

impl Verified {
    /// Whether nothing was found.
    pub fn holds(&self) -> bool {
        self.problems.is_empty() && self.sites.iter().all(|site| site.problems.is_empty())
    }
}

impl Folder {
    /// Reads the files of a report; `report.json` may be missing.
    ///
    /// # Errors
    /// [`FolderError`].
    pub fn read(folder: &Path) -> Result<Self, FolderError> {
        let path = folder.join("study.toml");
        let bytes = read_limited(&path, MAX_STUDY_BYTES as u64)?;
        let document = StudyDocument::from_bytes(&bytes)
            .map_err(|source| FolderError::Study { path, source: Box::new(source) })?;
        let sites: Vec<ReceiptsFile> =
            receipt_paths(folder)?.into_iter().map(read_receipts).collect::<Result<_, _>>()?;
        if sites.is_empty() {
            return Err(FolderError::NoReceipts { path: folder.to_owned() });
        }
        Ok(Self { document, sites, reported: read_report(&folder.join("report.json"))? })
    }

    /// Number of receipts.
    pub fn receipts(&self) -> usize {
        self.sites.iter().map(|file| file.receipts.len()).sum()
    }

    /// Verifies everything; `progress` is called once for each receipt. CPU work.
    ///
    /// # Errors
    /// The accountant refuses the charges.
    pub fn verify(&self, trust: &Trust, mut progress: impl FnMut()) -> Result<Verified, AccountantError> {
        let mut figures = Figures::new(self.document.study().privacy.delta);
        let mut sites = Vec::new();
        for file in &self.sites {
            let mut verdict = SiteVerdict::of(&self.document, file, &mut figures, &mut progress)?;
            verdict.check_key(&trust.keys);
            if let Some(authority) = &trust.authority {
                verdict.check_binding(file, authority);
            }
            sites.push(verdict);
        }
        let max_overlap = self.document.study().federation.max_overlap;
        let of_values: Vec<_> = sites.iter().map(|site| (site.epsilon, &site.steps)).collect();
        let epsilon = consortium(&of_values, max_overlap, &mut figures)?;
        let of_records: Option<Vec<_>> =
            sites.iter().map(|site| Some((site.records?.epsilon, &site.record_steps))).collect();
        let records_epsilon =
            of_records.map(|sites| consortium(&sites, max_overlap, &mut figures)).transpose()?;
        let counts = CountsVerdict::of(&sites, max_overlap, &mut figures)?;
        let mut verified = Verified {
            study: self.document.id().to_string(),
            delta: figures.delta,
            sites,
            max_overlap,
            epsilon,
            records_epsilon,
            counts,
            lists_counts: self.document.study().evaluation.noisy().is_none()
                || self.sites.iter().all(ReceiptsFile::lists_counts),
            problems: Vec::new(),
        };
        verified.check_unknown_keys(&trust.keys);
        if let Some(reported) = &self.reported {
            verified.check_report(reported);
            self.check_formats(&mut verified, reported);
        }
        Ok(verified)
    }

    /// Where a report tells of tables of counts, each file has to be of a format that lists them: otherwise a newer file in the
    /// form of an older one would hide what is left out of it.
    fn check_formats(&self, verified: &mut Verified, reported: &Reported) {
        if self.document.study().evaluation.noisy().is_none() || reported.counts.is_none() {
            return;
        }
        let older = self.sites.iter().zip(&mut verified.sites).filter(|(file, _)| !file.lists_counts());
        for (file, verdict) in older {
            verdict.problems.push(format!(
                "{} is of format \"{}\", which lists no charges of counts, and report.json tells of tables of counts; \
                 export the study again with a current coordinator",
                ReceiptsFile::name(&file.header.site),
                file.header.format
            ));
        }
    }
}

impl Verified {
    fn check_unknown_keys(&mut self, keys: &BTreeMap<SiteId, LedgerPublicKey>) {
        for site in keys.keys().filter(|site| !self.sites.iter().any(|verdict| verdict.site == **site)) {
            self.problems.push(format!("site {site} has no receipts here, and a key was given for it"));
        }
    }

    /// A report may say more than the receipts give, for tasks that brought no update, and never less.
    fn check_report(&mut self, reported: &Reported) {
        let none = Epsilons { replace: f64::NAN, zero_out: f64::NAN };
        let mut figures = vec![("epsilon", reported.epsilon, self.epsilon)];
        if let Some(given) = self.records_epsilon {
            figures.push(("epsilon of whole records", reported.records_epsilon.unwrap_or(none), given));
        }
        let relations = figures.into_iter().flat_map(|(what, said, given)| {
            [
                ("replace", what, said.replace, given.replace),
                ("zero_out", what, said.zero_out, given.zero_out),
            ]
        });
        for (relation, what, said, given) in relations {
            if said.is_nan() || said < given * (1.0 - TOLERANCE) {
                self.problems.push(format!(
                    "report.json says {relation} {what} {said} for the consortium, the receipts give {given}"
                ));
            }
        }
        // What is listed is compared also beside a file that lists nothing.
        if self.lists_counts || self.counts.is_some() {
            self.problems.extend(CountsVerdict::compare(self.counts.as_ref(), reported.counts.as_ref()));
        }
        for said in &reported.site_details {
            match self.sites.iter_mut().find(|site| site.site.as_str() == said.site) {
                Some(verdict) => verdict.check_report(said),
                None if said.rounds_contributed == 0 => {}
                None => self.problems.push(format!(
                    "site {} took part in {} rounds and has no receipts here",
                    said.site, said.rounds_contributed
                )),
            }
        }
    }
}

/// Epsilons of step counts at one delta; sites of a study make the same steps, so each figure is computed once.
pub(crate) struct Figures {
    delta: Delta,
    accountant: Accountant,
    known: std::collections::HashMap<StepCounts, Epsilons>,
}

impl Figures {
    fn new(delta: Delta) -> Self {
        Self { delta, accountant: Accountant::default(), known: Default::default() }
    }

    pub(crate) fn of(&mut self, steps: &StepCounts) -> Result<Epsilons, AccountantError> {
        if let Some(known) = self.known.get(steps) {
            return Ok(*known);
        }
        let mut of =
            |relation| self.accountant.epsilon_of_steps(steps, self.delta, relation).map(Epsilon::get);
        let pair = Epsilons {
            replace: of(NeighboringRelation::Replace)?,
            zero_out: of(NeighboringRelation::ZeroOut)?,
        };
        self.known.insert(steps.clone(), pair);
        Ok(pair)
    }
}

/// The figure of each site with the steps it follows from, together: the largest, or the worst sites composed.
fn consortium(
    sites: &[(Epsilons, &StepCounts)],
    max_overlap: u32,
    figures: &mut Figures,
) -> Result<Epsilons, AccountantError> {
    let lists = sites.iter().map(|(_, steps)| *steps);
    let together = figures.of(&StepCounts::of_the_worst(lists, max_overlap as usize))?;
    let most = |of: fn(&Epsilons) -> f64| sites.iter().map(|(epsilon, _)| of(epsilon)).fold(0.0, f64::max);
    Ok(Epsilons {
        replace: together.replace.max(most(|epsilon| epsilon.replace)),
        zero_out: together.zero_out.max(most(|epsilon| epsilon.zero_out)),
    })
}

fn receipt_paths(folder: &Path) -> Result<Vec<PathBuf>, FolderError> {
    let failed = |source| FolderError::Folder { path: folder.to_owned(), source };
    let entries = std::fs::read_dir(folder).map_err(failed)?;
    let paths: Vec<PathBuf> =
        entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>().map_err(failed)?;
    let is_receipts = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("receipts-") && name.ends_with(".jsonl")
    };
    let mut paths: Vec<PathBuf> = paths.into_iter().filter(is_receipts).collect();
    paths.sort();
    Ok(paths)
}

fn read_receipts(path: PathBuf) -> Result<ReceiptsFile, FolderError> {
    let bytes = read_limited(&path, MAX_RECEIPTS_BYTES)?;
    let text = String::from_utf8_lossy(&bytes);
    let file =
        ReceiptsFile::parse(&text).map_err(|source| FolderError::Receipts { path: path.clone(), source })?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if ReceiptsFile::name(&file.header.site) != name {
        let problem =
            format!("the receipts are of site {}, the file's name says otherwise", file.header.site);
        return Err(FolderError::Receipts {
            path: path.clone(),
            source: ReceiptsFileError { line: 1, problem },
        });
    }
    Ok(file)
}

fn read_report(path: &Path) -> Result<Option<Reported>, FolderError> {
    let bytes = match read_limited(path, MAX_REPORT_BYTES) {
        Ok(bytes) => bytes,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let reported = serde_json::from_slice(&bytes);
    reported.map(Some).map_err(|source| FolderError::Report { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests;
