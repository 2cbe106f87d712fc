//! A report folder on disk, and what is added to it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use fusiondp_dp::Digest;
use fusiondp_learn::model::{Model, ParameterFileError};
use fusiondp_protocol::study::{StudyDocument, StudyError};
use fusiondp_protocol::{SiteId, SiteSize};
use fusiondp_runtime::files::{FileError, write_atomic};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::page::{self, Unmarked};
use super::{AttackEvidence, AuditEvidence, parameters_digest};
use crate::report::{MODEL_PARAMETERS, REPORT_JSON, REPORT_PAGE, STUDY_TEXT};

const AUDIT: &str = "audit.json";
const ATTACKS: &str = "attacks.json";

/// Why evidence cannot be put into a report.
#[derive(Debug, thiserror::Error)]
pub enum EvidenceError {
    /// A file of the folder.
    #[error("{}: {source}; a report folder is made by `fusiondp-coordinator study export`", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file that cannot be written.
    #[error(transparent)]
    Write(#[from] FileError),
    /// Evidence of something else that cannot be removed.
    #[error("cannot remove {}, which is of another study or model: {source}", path.display())]
    Remove {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// JSON of another form.
    #[error("{}: {source}; make it again with this version, or remove it", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong where.
        source: serde_json::Error,
    },
    /// The study's text.
    #[error("{}: {source}; export the report again", path.display())]
    Study {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<StudyError>,
    },
    /// A file that is not the one that report.json names.
    #[error(
        "{}: its SHA-256 is {found}, and report.json names {named}; export the report again",
        path.display()
    )]
    Altered {
        /// The file.
        path: PathBuf,
        /// What it is.
        found: Digest,
        /// What it should be.
        named: Digest,
    },
    /// Evidence of something else.
    #[error("{name} is of another {what} than this report ({found}, not {wanted}); attack this report's own")]
    Foreign {
        /// File name.
        name: &'static str,
        /// Study document or model.
        what: &'static str,
        /// SHA-256 in the evidence.
        found: String,
        /// SHA-256 of this report's.
        wanted: String,
    },
    /// A report of a study that has no model yet.
    #[error("{}: the study has no model yet; export the report when it has one", folder.display())]
    NoModel {
        /// The report's folder.
        folder: PathBuf,
    },
    /// Parameters that do not fit the study's model.
    #[error("{}: {source}; export the report again", path.display())]
    Parameters {
        /// The file.
        path: PathBuf,
        /// Why.
        source: ParameterFileError,
    },
    /// A page without a place for evidence.
    #[error("{}: {source}", path.display())]
    Page {
        /// The page.
        path: PathBuf,
        /// Why.
        source: Unmarked,
    },
}

/// What is read of report.json.
#[derive(Deserialize)]
struct Named {
    study: NamedStudy,
    site_details: Vec<NamedSite>,
    noise_multiplier: Option<f64>,
    record_protection: Option<NamedNoise>,
}

#[derive(Deserialize)]
struct NamedNoise {
    noise_multiplier: f64,
}

#[derive(Deserialize)]
struct NamedStudy {
    digest: Digest,
    model_digest: Option<Digest>,
}

#[derive(Deserialize)]
struct NamedSite {
    site: SiteId,
    units: u64,
    records: u64,
}

/// A report folder whose study document and parameters are those that its report.json names.
#[derive(Debug)]
pub struct ReportFolder {
    folder: PathBuf,
    document: StudyDocument,
    model_digest: Option<Digest>,
    sizes: Vec<SiteSize>,
    noise_multiplier: Option<f64>,
    records_noise: Option<f64>,
}

impl ReportFolder {
    /// Whether a folder holds evidence, of whatever study.
    #[must_use]
    pub fn has_evidence(folder: &Path) -> bool {
        [AUDIT, ATTACKS].into_iter().any(|name| folder.join(name).exists())
    }

    /// Opens a folder that `study export` wrote.
    ///
    /// # Errors
    /// A file that is missing, of another form, or not the one that report.json names.
    pub fn open(folder: &Path) -> Result<Self, EvidenceError> {
        let named: Named = json(&folder.join(REPORT_JSON))?;
        let path = folder.join(STUDY_TEXT);
        let bytes = read(&path)?;
        let found = Digest::of(&bytes);
        if found != named.study.digest {
            return Err(EvidenceError::Altered { path, found, named: named.study.digest });
        }
        let document = StudyDocument::from_bytes(&bytes)
            .map_err(|source| EvidenceError::Study { path, source: Box::new(source) })?;
        let took_part = named.site_details.into_iter().filter(|site| site.units > 0);
        Ok(Self {
            folder: folder.to_owned(),
            document,
            model_digest: named.study.model_digest,
            sizes: took_part
                .map(|site| SiteSize { site: site.site, units: site.units, records: site.records })
                .collect(),
            noise_multiplier: named.noise_multiplier,
            records_noise: named.record_protection.map(|records| records.noise_multiplier),
        })
    }

    /// The study document.
    #[must_use]
    pub fn document(&self) -> &StudyDocument {
        &self.document
    }

    /// Sites that took part, with their numbers of privacy units and records.
    #[must_use]
    pub fn sizes(&self) -> &[SiteSize] {
        &self.sizes
    }

    /// The plan's noise multipliers as the report tells them: of private sums, and of public sums; `None` where there are none.
    #[must_use]
    pub fn noise_multipliers(&self) -> [Option<f64>; 2] {
        [self.noise_multiplier, self.records_noise]
    }

    /// SHA-256 of the final parameters' bytes.
    #[must_use]
    pub fn model_digest(&self) -> Option<Digest> {
        self.model_digest
    }

    /// The final parameters `[P]`.
    ///
    /// # Errors
    /// No model, a file that does not fit the study's model, or other parameters than report.json names.
    pub fn parameters(&self, model: &Model) -> Result<Vec<f32>, EvidenceError> {
        let no_model = || EvidenceError::NoModel { folder: self.folder.clone() };
        let named = self.model_digest.ok_or_else(no_model)?;
        let path = self.folder.join(MODEL_PARAMETERS);
        let params = model
            .from_safetensors(&read(&path)?)
            .map_err(|source| EvidenceError::Parameters { path: path.clone(), source })?;
        let found = parameters_digest(&params);
        if found == named { Ok(params) } else { Err(EvidenceError::Altered { path, found, named }) }
    }

    /// Writes `audit.json` and shows it in the page.
    ///
    /// # Errors
    /// Evidence of another study, or a file that cannot be read or written.
    pub fn add_audit(&self, audit: &AuditEvidence) -> Result<(), EvidenceError> {
        self.check_audit(audit)?;
        self.add(AUDIT, audit)
    }

    /// Writes `attacks.json` and shows it in the page.
    ///
    /// # Errors
    /// Evidence of another study or model, or a file that cannot be read or written.
    pub fn add_attacks(&self, attacks: &AttackEvidence) -> Result<(), EvidenceError> {
        self.check_attacks(attacks)?;
        self.add(ATTACKS, attacks)
    }

    /// Shows in the page what evidence there is, and removes what is of another study or model; returns the names of removed files.
    ///
    /// # Errors
    /// A file that cannot be read, written or removed.
    pub fn refresh(&self) -> Result<Vec<&'static str>, EvidenceError> {
        let mut removed = Vec::new();
        let audit: Option<AuditEvidence> = self.find(AUDIT)?;
        let audit = self.keep(AUDIT, audit, |audit| self.check_audit(audit), &mut removed)?;
        let attacks: Option<AttackEvidence> = self.find(ATTACKS)?;
        let attacks = self.keep(ATTACKS, attacks, |attacks| self.check_attacks(attacks), &mut removed)?;
        let path = self.folder.join(REPORT_PAGE);
        let html = String::from_utf8_lossy(&read(&path)?).into_owned();
        let html = page::insert(&html, &page::section(audit.as_ref(), attacks.as_ref()))
            .map_err(|source| EvidenceError::Page { path: path.clone(), source })?;
        write_atomic(&path, html.as_bytes())?;
        Ok(removed)
    }

    fn add<T: serde::Serialize>(&self, name: &'static str, evidence: &T) -> Result<(), EvidenceError> {
        let path = self.folder.join(name);
        let text = serde_json::to_vec_pretty(evidence)
            .map_err(|source| EvidenceError::Json { path: path.clone(), source })?;
        write_atomic(&path, &text)?;
        self.refresh().map(drop)
    }

    fn find<T: DeserializeOwned>(&self, name: &'static str) -> Result<Option<T>, EvidenceError> {
        let path = self.folder.join(name);
        if path.exists() { json(&path).map(Some) } else { Ok(None) }
    }

    /// Evidence of something else would be read as evidence of this.
    fn keep<T>(
        &self,
        name: &'static str,
        evidence: Option<T>,
        check: impl Fn(&T) -> Result<(), EvidenceError>,
        removed: &mut Vec<&'static str>,
    ) -> Result<Option<T>, EvidenceError> {
        let Some(evidence) = evidence else { return Ok(None) };
        if check(&evidence).is_ok() {
            return Ok(Some(evidence));
        }
        let path = self.folder.join(name);
        fs::remove_file(&path).map_err(|source| EvidenceError::Remove { path, source })?;
        removed.push(name);
        Ok(None)
    }

    fn check_audit(&self, audit: &AuditEvidence) -> Result<(), EvidenceError> {
        self.check_study(AUDIT, audit.study_digest)
    }

    fn check_attacks(&self, attacks: &AttackEvidence) -> Result<(), EvidenceError> {
        self.check_study(ATTACKS, attacks.study_digest)?;
        if attacks.model_digest.is_some() && attacks.model_digest == self.model_digest {
            return Ok(());
        }
        let text =
            |digest: Option<Digest>| digest.map_or_else(|| "none".to_owned(), |digest| digest.to_string());
        let (found, wanted) = (text(attacks.model_digest), text(self.model_digest));
        Err(EvidenceError::Foreign { name: ATTACKS, what: "model", found, wanted })
    }

    fn check_study(&self, name: &'static str, found: Digest) -> Result<(), EvidenceError> {
        let wanted = self.document.digest();
        if found == wanted {
            return Ok(());
        }
        let (found, wanted) = (found.to_string(), wanted.to_string());
        Err(EvidenceError::Foreign { name, what: "study document", found, wanted })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, EvidenceError> {
    fs::read(path).map_err(|source| EvidenceError::File { path: path.to_owned(), source })
}

fn json<T: DeserializeOwned>(path: &Path) -> Result<T, EvidenceError> {
    serde_json::from_slice(&read(path)?)
        .map_err(|source| EvidenceError::Json { path: path.to_owned(), source })
}
