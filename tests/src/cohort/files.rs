//! Folders and CSV files of a synthetic cohort.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::patient::{Patient, generate};
use super::profile::{Kind, Profile};
use super::{CohortSpec, FEATURE_COLUMNS, LABEL_COLUMN, MAX_HOSPITALS, MAX_PATIENTS};

/// File that marks a folder as written by this generator, so that a later run may replace it.
pub const MARKER: &str = "SYNTHETIC";

/// Why a cohort could not be written.
#[derive(Debug, Error)]
pub enum CohortError {
    /// Number of hospitals outside its range.
    #[error("--hospitals {given}: give 1 to {MAX_HOSPITALS}")]
    Hospitals {
        /// The value given.
        given: u32,
    },
    /// Number of patients outside its range.
    #[error("--patients {given}: give 50 to {MAX_PATIENTS}")]
    Patients {
        /// The value given.
        given: u32,
    },
    /// The folder holds something that this generator did not write.
    #[error(
        "{} is not empty and was not written by this generator (no file {MARKER}); name another folder or remove it",
        path.display()
    )]
    Occupied {
        /// The folder.
        path: PathBuf,
    },
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// What was written for one hospital.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HospitalSummary {
    /// Folder name.
    pub name: String,
    /// Patients in train, val and test.
    pub patients: [u64; 3],
    /// Positive labels in train, val and test.
    pub positives: [u64; 3],
}

/// Writes the cohort below `out`: one folder per hospital with train, val and test, `support.csv` with further patients
/// of all hospitals, a README. Replaces an earlier synthetic cohort in the same folder.
///
/// # Errors
/// [`CohortError::Occupied`] when `out` holds something else, [`CohortError::Io`] when the system refuses.
pub fn write(spec: CohortSpec, out: &Path) -> Result<Vec<HospitalSummary>, CohortError> {
    prepare(out)?;
    let mut support = header(false);
    let mut hospitals = Vec::new();
    for hospital in 0..spec.hospitals() {
        hospitals.push(write_hospital(spec, hospital, out)?);
        let first = u64::from(spec.patients());
        for index in first..first + u64::from(spec.support_patients()) {
            push_row(
                &mut support,
                &patient_id(hospital, index),
                &generate(spec.seed(), hospital, index),
                None,
            );
        }
    }
    save(&out.join("support.csv"), &support)?;
    save(&out.join("README.md"), &readme(spec, &hospitals))?;
    Ok(hospitals)
}

/// Folder name of hospital `index`, counted from 0.
#[must_use]
pub fn hospital_name(index: u32) -> String {
    format!("hospital-{}", letter(index))
}

fn letter(index: u32) -> char {
    char::from(b'a' + (index % MAX_HOSPITALS) as u8)
}

fn patient_id(hospital: u32, index: u64) -> String {
    format!("s{}{index:06}", letter(hospital))
}

fn prepare(out: &Path) -> Result<(), CohortError> {
    let io = |source| CohortError::Io { path: out.to_owned(), source };
    fs::create_dir_all(out).map_err(io)?;
    let marker = out.join(MARKER);
    let occupied = fs::read_dir(out).map_err(io)?.next().is_some();
    if occupied && !marker.exists() {
        return Err(CohortError::Occupied { path: out.to_owned() });
    }
    save(&marker, "Written by fusiondp-simulate synthesize; replaced by its next run.\n")
}

fn write_hospital(spec: CohortSpec, hospital: u32, out: &Path) -> Result<HospitalSummary, CohortError> {
    let name = hospital_name(hospital);
    let folder = out.join(&name);
    fs::create_dir_all(&folder).map_err(|source| CohortError::Io { path: folder.clone(), source })?;
    let total = u64::from(spec.patients());
    let ends = [total * 7 / 10, total * 8 / 10, total];
    let mut summary = HospitalSummary { name, patients: [0; 3], positives: [0; 3] };
    let mut start = 0;
    for (part, file) in ["train.csv", "val.csv", "test.csv"].into_iter().enumerate() {
        let mut text = header(true);
        for index in start..ends[part] {
            let patient = generate(spec.seed(), hospital, index);
            summary.positives[part] += u64::from(patient.label);
            push_row(&mut text, &patient_id(hospital, index), &patient, Some(patient.label));
        }
        summary.patients[part] = ends[part] - start;
        start = ends[part];
        save(&folder.join(file), &text)?;
    }
    Ok(summary)
}

fn header(with_label: bool) -> String {
    let mut text = FEATURE_COLUMNS.join(",");
    if with_label {
        text.push(',');
        text.push_str(LABEL_COLUMN);
    }
    text.push('\n');
    text
}

fn push_row(text: &mut String, id: &str, patient: &Patient, label: Option<bool>) {
    text.push_str(id);
    for cell in patient.public.iter().chain(&patient.sensitive) {
        text.push(',');
        text.push_str(cell);
    }
    if let Some(label) = label {
        text.push_str(if label { ",1" } else { ",0" });
    }
    text.push('\n');
}

fn save(path: &Path, text: &str) -> Result<(), CohortError> {
    fs::write(path, text).map_err(|source| CohortError::Io { path: path.to_owned(), source })
}

fn readme(spec: CohortSpec, hospitals: &[HospitalSummary]) -> String {
    let mut text = format!(
        "# Synthetic intensive-care cohort\n\n\
         **Synthetic: no row stems from a patient.** Written by `fusiondp-simulate synthesize --hospitals {} --patients {} \
         --seed {}`; the same options give the same bytes on every machine. The columns are those of the \
         PhysioNet/CinC 2019 sepsis files, so every study written for them runs here. Figures reached on this data \
         say whether the software works, nothing about medicine.\n\n\
         Each patient has a latent severity that drives inflammation and organ impairment, from which the 30 public \
         vitals and laboratory values follow. Of the six sensitive columns, `Age` raises the risk at both ends and \
         `ICULOS` (hours in the unit) through thresholds; the public columns reveal them only in part. \
         Missing cells are empty, by panel and more often in patients who are less sick.\n\n\
         `support.csv` holds further patients of all hospitals without label, none of them in another file: fit \
         imputers on these.\n\n\
         | folder | kind | train | val | test | positive |\n|---|---|---|---|---|---|\n",
        spec.hospitals(),
        spec.patients(),
        spec.seed()
    );
    for (index, hospital) in hospitals.iter().enumerate() {
        let kind = match Profile::of(index as u32).kind {
            Kind::Teaching => "teaching: older, sicker, DBP often missing",
            Kind::Community => "community: younger, HCO3 nearly always missing, ages in whole years",
        };
        let patients: u64 = hospital.patients.iter().sum();
        let positives: u64 = hospital.positives.iter().sum();
        let [train, val, test] = hospital.patients;
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "| {} | {kind} | {train} | {val} | {test} | {:.1} % |",
            hospital.name,
            100.0 * positives as f64 / patients as f64
        );
    }
    text
}
