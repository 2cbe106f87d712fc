//! Data sets, cut into sites and ready to train on.

use std::fs;
use std::path::{Path, PathBuf};

use csv::{ReaderBuilder, StringRecord, Writer};
use fusiondp_dp::Digest;
use fusiondp_learn::schema::{Column, ColumnKind, Schema, Transform};
use fusiondp_protocol::study::Study;
use toml::Table;

use super::authors::{self, Scaling};
use super::engine::SiteData;
use super::error::ReproduceError;
use super::mode::DataName;
use crate::harness::toml_text::SAMPLE_STUDY;
use crate::simulation::federation::precomputed_file;
use crate::split::{SiteFolder, SplitOptions, split};

const BANK_STUDY: &str = include_str!("../../../deploy/samples/bank-study.toml");

/// Decides which patient is at which site, the same in every run: seeds vary noise and first parameters, not the data.
const SPLIT_SEED: u64 = 1;

/// A data set cut into sites.
pub struct Prepared {
    /// Base study, before any setting of a mode.
    pub base: Table,
    /// The sites.
    pub sites: Vec<SiteFolder>,
    /// Over every file that a run reads.
    pub digest: Digest,
    /// Records to fit imputers on.
    pub support: PathBuf,
}

/// Cuts a data set of the shared folder into sites below `work`.
///
/// # Errors
/// The data set is missing or cannot be cut, or `work` cannot be written.
pub fn prepare(shared: &Path, data: DataName, sites: usize, work: &Path) -> Result<Prepared, ReproduceError> {
    let work = work.join(format!("{data}-{sites}"));
    fs::create_dir_all(&work).map_err(ReproduceError::io(&work))?;
    let (folder, hospitals, base) = match data {
        DataName::Sepsis => {
            let folder = existing(shared.join("data").join("sepsis"))?;
            (folder.clone(), folder, parsed(SAMPLE_STUDY)?)
        }
        DataName::Bank => {
            let folder = existing(shared.join("data").join("bank"))?;
            let hospitals = work.join("source");
            copy_csv(&folder, &hospitals.join("bank"))?;
            (folder, hospitals, parsed(BANK_STUDY)?)
        }
        DataName::SepsisAuthors => {
            let folder = existing(shared.join("data").join("sepsis"))?;
            let scaling = Scaling::read(&folder.join("authors_scaling.json"))?;
            let hospitals = work.join("source");
            authors::pool(&folder, &scaling, &hospitals.join("pooled"))?;
            (folder, hospitals, authors::base(&scaling, parsed(SAMPLE_STUDY)?))
        }
    };
    let unit_column = base.get("privacy").and_then(|privacy| privacy.get("unit_column")?.as_str());
    let options = SplitOptions { sites, seed: SPLIT_SEED, unit_column };
    let sites = split(&hospitals, options, &work.join("sites"))?;
    let digest = digest_of(&sites)?;
    Ok(Prepared { base, sites, digest, support: folder.join("support.csv") })
}

fn existing(path: PathBuf) -> Result<PathBuf, ReproduceError> {
    if path.is_dir() { Ok(path) } else { Err(ReproduceError::NoData { path }) }
}

fn parsed(sample: &str) -> Result<Table, ReproduceError> {
    sample.parse().map_err(|problem| ReproduceError::Settings { problem: format!("sample study: {problem}") })
}

/// Copies the files of a data set whose folder is its only holder's; `support.csv` belongs to nobody's training data.
fn copy_csv(from: &Path, to: &Path) -> Result<(), ReproduceError> {
    fs::create_dir_all(to).map_err(ReproduceError::io(to))?;
    for entry in fs::read_dir(from).map_err(ReproduceError::io(from))? {
        let path = entry.map_err(ReproduceError::io(from))?.path();
        let name = path.file_name().unwrap_or_default();
        if path.extension().is_some_and(|extension| extension == "csv") && name != "support.csv" {
            fs::copy(&path, to.join(name)).map_err(ReproduceError::io(&path))?;
        }
    }
    Ok(())
}

/// Digest over names and contents of the CSV files of all sites.
fn digest_of(sites: &[SiteFolder]) -> Result<Digest, ReproduceError> {
    let mut digests = Vec::new();
    for site in sites {
        let entries = fs::read_dir(&site.folder).map_err(ReproduceError::io(&site.folder))?;
        let mut files: Vec<PathBuf> =
            entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
        files.retain(|path| path.extension().is_some_and(|extension| extension == "csv"));
        files.retain(|path| path.file_name().is_some_and(|name| name != CONSTANT_FILE));
        files.sort();
        for file in files {
            let bytes = fs::read(&file).map_err(ReproduceError::io(&file))?;
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            digests.extend(format!("{}/{name} {}\n", site.site, Digest::of(&bytes)).into_bytes());
        }
    }
    Ok(Digest::of(&digests))
}

/// File of constants in place of imputed values.
const CONSTANT_FILE: &str = "constant.csv";

/// Which file of imputed values each site reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImputedFile {
    /// None.
    Unread,
    /// The one beside the training file.
    BesideTraining,
    /// A declared constant in every cell, written here.
    Constant,
}

impl Prepared {
    /// The sites' training data for a study.
    ///
    /// # Errors
    /// A site has no file of imputed values, or one cannot be written.
    pub fn site_data(&self, study: &Study, imputed: ImputedFile) -> Result<Vec<SiteData>, ReproduceError> {
        let of = |site: &SiteFolder| {
            let train = site.folder.join("train.csv");
            let imputed = match imputed {
                ImputedFile::Unread => None,
                ImputedFile::BesideTraining => Some(precomputed_file(site)?),
                ImputedFile::Constant => Some(write_constants(&study.schema, &train)?),
            };
            Ok(SiteData { site: site.site.clone(), train, imputed })
        };
        self.sites.iter().map(of).collect()
    }
}

/// Writes the same declared values for every row of a training file, keyed as the file is.
fn write_constants(schema: &Schema, train: &Path) -> Result<PathBuf, ReproduceError> {
    let path = train.with_file_name(CONSTANT_FILE);
    let failed = ReproduceError::csv(&path);
    let mut reader = ReaderBuilder::new().from_path(train).map_err(ReproduceError::csv(train))?;
    let header = reader.headers().map_err(ReproduceError::csv(train))?.clone();
    let unit = schema.unit_id().and_then(|unit| Some((unit.name.clone(), place(&header, &unit.name)?)));
    let mut writer = Writer::from_path(&path).map_err(&failed)?;
    let names = schema.sensitive().map(|column| column.name.clone());
    writer.write_record(unit.iter().map(|(name, _)| name.clone()).chain(names)).map_err(&failed)?;
    let values: Vec<String> = schema.sensitive().map(constant).collect();
    for row in reader.records() {
        let row = row.map_err(ReproduceError::csv(train))?;
        let id = unit.iter().map(|(_, place)| row[*place].to_owned());
        writer.write_record(id.chain(values.iter().cloned())).map_err(&failed)?;
    }
    writer.flush().map_err(ReproduceError::io(&path))?;
    Ok(path.clone())
}

fn place(header: &StringRecord, name: &str) -> Option<usize> {
    header.iter().position(|cell| cell == name)
}

/// What the schema declares as the middle of a column; knows nothing of any record.
fn constant(column: &Column) -> String {
    match (&column.kind, column.effective_transform()) {
        (Some(ColumnKind::Categorical { vocabulary }), _) => vocabulary.first().cloned().unwrap_or_default(),
        (Some(ColumnKind::Binary {}), _) => "0".to_owned(),
        (_, Transform::Scale { center, .. }) => center.to_string(),
        (_, Transform::Bins { edges }) if !edges.is_empty() => edges[edges.len() / 2].to_string(),
        (Some(ColumnKind::Continuous { range: [low, high] }), _) => (0.5 * (low + high)).to_string(),
        _ => "0".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn constants_have_one_row_per_record_and_no_value_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let train = folder.path().join("train.csv");
        let written = |sample: &str, rows: &str| {
            fs::write(&train, rows).unwrap();
            let study = Study::parse(sample).unwrap();
            fs::read_to_string(write_constants(&study.schema, &train).unwrap()).unwrap()
        };
        let bank = written(BANK_STUDY, "age,job,y\n70,retired,no\n20,technician,yes\n");
        let row = "45,admin.,divorced,primary,no\n";
        assert_eq!(bank, format!("age,job,marital,education,housing\n{row}{row}"));
        let sepsis = written(SAMPLE_STUDY, "patient_id,Age,ICULOS\np1,70,3\np2,20,300\n");
        let lines: Vec<&str> = sepsis.lines().collect();
        assert_eq!(lines[0], "patient_id,Age,Gender,Unit1,Unit2,HospAdmTime,ICULOS");
        assert_eq!(lines[1].strip_prefix("p1"), lines[2].strip_prefix("p2"));
        assert!(lines[1].starts_with("p1,") && !lines[1].contains("70"), "{sepsis}");
    }

    #[test]
    fn a_missing_data_set_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = prepare(folder.path(), DataName::Bank, 2, folder.path()).err().unwrap().to_string();
        assert!(error.contains("data/bank") && error.contains("--shared"), "{error}");
    }
}
