//! One hospital's folder and how it is cut.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use csv::{ByteRecord, Reader, ReaderBuilder, Writer};
use sha2::{Digest, Sha256};

use super::{SiteFolder, SplitError, SplitOptions};

/// One hospital's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hospital {
    /// Name of the folder or of the Parquet file; also the site id while the hospital is not cut.
    pub name: String,
    /// The folder.
    pub folder: PathBuf,
    /// Rows of train.csv, header left out; 0 where there is a Parquet file, which is not cut by size.
    pub train_rows: u64,
    /// The hospital's one file, where it is no folder of CSV files.
    pub parquet: Option<PathBuf>,
}

/// The hospitals of a data folder, by name: every folder in it with a train.csv, and every Parquet file.
///
/// # Errors
/// [`SplitError::NoHospital`] when there is none, [`SplitError::Name`] for a folder name that cannot be a site id, or
/// an unreadable file.
pub fn hospitals(data: &Path) -> Result<Vec<Hospital>, SplitError> {
    let io = |source| SplitError::Io { path: data.to_owned(), source };
    let mut found = Vec::new();
    for entry in fs::read_dir(data).map_err(io)? {
        found.extend(hospital(&entry.map_err(io)?.path())?);
    }
    if found.is_empty() {
        return Err(SplitError::NoHospital { path: data.to_owned() });
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

fn hospital(path: &Path) -> Result<Option<Hospital>, SplitError> {
    let named = |part: Option<&OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
    let train = path.join("train.csv");
    let hospital = if train.is_file() {
        let (name, folder) = (named(path.file_name()), path.to_owned());
        Hospital { name, folder, train_rows: count_rows(&train)?, parquet: None }
    } else if path.is_file() && path.extension().is_some_and(|suffix| suffix == "parquet") {
        let (name, folder) = (named(path.file_stem()), path.with_file_name(""));
        Hospital { name, folder, train_rows: 0, parquet: Some(path.to_owned()) }
    } else {
        return Ok(None);
    };
    check_name(&hospital.name)?;
    Ok(Some(hospital))
}

fn check_name(name: &str) -> Result<(), SplitError> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if name.is_empty() || name.len() > 56 || name.starts_with('-') || !name.chars().all(allowed) {
        return Err(SplitError::Name { name: name.to_owned() });
    }
    Ok(())
}

fn reader(path: &Path) -> Result<Reader<fs::File>, SplitError> {
    ReaderBuilder::new().from_path(path).map_err(|source| SplitError::Csv { path: path.to_owned(), source })
}

fn count_rows(path: &Path) -> Result<u64, SplitError> {
    let mut reader = reader(path)?;
    let mut row = ByteRecord::new();
    let mut rows = 0;
    while reader
        .read_byte_record(&mut row)
        .map_err(|source| SplitError::Csv { path: path.to_owned(), source })?
    {
        rows += 1;
    }
    Ok(rows)
}

impl Hospital {
    /// Cuts every CSV file of the hospital into `parts` folders below `out`.
    pub(super) fn cut(
        &self,
        parts: usize,
        options: SplitOptions<'_>,
        out: &Path,
    ) -> Result<Vec<SiteFolder>, SplitError> {
        if let Some(path) = &self.parquet {
            return Err(SplitError::Whole { path: path.clone() });
        }
        let sites: Vec<SiteFolder> = (1..=parts)
            .map(|part| {
                let site = format!("{}-{part}", self.name);
                let folder = out.join(&site);
                SiteFolder { site, hospital: self.name.clone(), folder, parquet: None }
            })
            .collect();
        for site in &sites {
            fs::create_dir_all(&site.folder)
                .map_err(|source| SplitError::Io { path: site.folder.clone(), source })?;
        }
        for file in self.csv_files()? {
            let rows = cut_file(&self.folder.join(&file), &sites, options)?;
            if file.as_os_str() == "train.csv"
                && let Some(empty) = rows.iter().position(|&rows| rows == 0)
            {
                return Err(SplitError::Empty { site: sites[empty].site.clone() });
            }
        }
        Ok(sites)
    }

    fn csv_files(&self) -> Result<Vec<PathBuf>, SplitError> {
        let io = |source| SplitError::Io { path: self.folder.clone(), source };
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(io)? {
            let path = entry.map_err(io)?.path();
            if path.extension().is_some_and(|e| e == "csv")
                && let Some(name) = path.file_name()
            {
                files.push(PathBuf::from(name));
            }
        }
        files.sort();
        Ok(files)
    }
}

/// Writes each row of `path` to the part of its patient; returns the rows of each part.
fn cut_file(path: &Path, sites: &[SiteFolder], options: SplitOptions<'_>) -> Result<Vec<u64>, SplitError> {
    let failed = |source| SplitError::Csv { path: path.to_owned(), source };
    let mut reader = reader(path)?;
    let header = reader.byte_headers().map_err(failed)?.clone();
    let column = unit_column(path, &header, options.unit_column)?;
    let name = path.file_name().unwrap_or_default();
    let mut writers = Vec::with_capacity(sites.len());
    for site in sites {
        let mut writer = Writer::from_path(site.folder.join(name)).map_err(failed)?;
        writer.write_byte_record(&header).map_err(failed)?;
        writers.push(writer);
    }
    let mut rows = vec![0; sites.len()];
    let mut row = ByteRecord::new();
    let mut position: u64 = 0;
    while reader.read_byte_record(&mut row).map_err(failed)? {
        let part = match column {
            Some(index) => part_of(&row[index], options.seed, sites.len()),
            None => part_of(&position.to_le_bytes(), options.seed, sites.len()),
        };
        writers[part].write_byte_record(&row).map_err(failed)?;
        rows[part] += 1;
        position += 1;
    }
    for mut writer in writers {
        writer.flush().map_err(|source| SplitError::Io { path: path.to_owned(), source })?;
    }
    Ok(rows)
}

fn unit_column(path: &Path, header: &ByteRecord, column: Option<&str>) -> Result<Option<usize>, SplitError> {
    let Some(column) = column else { return Ok(None) };
    let found = header.iter().position(|cell| cell == column.as_bytes());
    found.map(Some).ok_or_else(|| SplitError::NoColumn {
        path: path.to_owned(),
        column: column.to_owned(),
        found: header.iter().map(String::from_utf8_lossy).collect::<Vec<_>>().join(","),
    })
}

/// The part of a patient: the first eight bytes of a keyed hash, modulo the parts (bias below 2^-58).
fn part_of(id: &[u8], seed: u64, parts: usize) -> usize {
    let mut hash = Sha256::new();
    hash.update(b"fusiondp split 1");
    hash.update(seed.to_le_bytes());
    hash.update(id);
    let digest = hash.finalize();
    let mut word = [0; 8];
    word.copy_from_slice(&digest[..8]);
    (u64::from_le_bytes(word) % parts as u64) as usize
}
