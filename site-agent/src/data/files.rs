//! Which files hold a site's records, and in what format.

use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};

use fusiondp_runtime::config::resolve;
use serde::de::{self, Deserialize, Deserializer, SeqAccess, Visitor};

use super::csv::file_name;

/// What a file is written as; its suffix says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Comma-separated text, `.csv`.
    Csv,
    /// Parquet, `.parquet`.
    Parquet,
}

/// Files of one format that make one table, in this order. The records of a unit may lie in several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordFiles {
    paths: Vec<PathBuf>,
    format: Format,
}

/// Why files make no table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilesError {
    /// An empty list.
    #[error("no file is listed; name at least one .csv or .parquet file")]
    None,
    /// A suffix that stands for no format.
    #[error("{file}: the suffix stands for no known format; name a file that ends in .csv or .parquet")]
    Suffix {
        /// Name of the file.
        file: String,
    },
    /// Files of both formats.
    #[error("{first} and {other} are of two formats; list files of one format, all .csv or all .parquet")]
    Mixed {
        /// Name of the first file.
        first: String,
        /// Name of a file of the other format.
        other: String,
    },
    /// A file twice.
    #[error("{file} is listed twice, so its records would count twice; remove one of the two")]
    Twice {
        /// Name of the file.
        file: String,
    },
    /// Parquet, in a program that cannot read it.
    #[error(
        "{file}: this program was built without Parquet; give .csv files, or build with the feature parquet"
    )]
    NoParquet {
        /// Name of the file.
        file: String,
    },
}

impl Format {
    fn of(path: &Path) -> Result<Self, FilesError> {
        let suffix = path.extension().map(|suffix| suffix.to_string_lossy().to_ascii_lowercase());
        match suffix.as_deref() {
            Some("csv") => Ok(Self::Csv),
            Some("parquet") if cfg!(feature = "parquet") => Ok(Self::Parquet),
            Some("parquet") => Err(FilesError::NoParquet { file: file_name(path) }),
            _ => Err(FilesError::Suffix { file: file_name(path) }),
        }
    }
}

impl RecordFiles {
    /// Files in the order in which they are read and hashed.
    ///
    /// # Errors
    /// [`FilesError`]: no file, an unknown suffix, two formats, or a path twice.
    pub fn new(paths: Vec<PathBuf>) -> Result<Self, FilesError> {
        let first = paths.first().ok_or(FilesError::None)?;
        let format = Format::of(first)?;
        let mut seen = HashSet::new();
        for path in &paths {
            if Format::of(path)? != format {
                return Err(FilesError::Mixed { first: file_name(first), other: file_name(path) });
            }
            if !seen.insert(path) {
                return Err(FilesError::Twice { file: file_name(path) });
            }
        }
        Ok(Self { paths, format })
    }

    /// One comma-separated file, whatever its suffix.
    pub fn csv(path: PathBuf) -> Self {
        Self { paths: vec![path], format: Format::Csv }
    }

    /// The files in order; at least one.
    pub fn paths(&self) -> &[PathBuf] {
        &self.paths
    }

    /// What they are written as.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Names of the files without their folders, for a log.
    pub fn names(&self) -> String {
        self.paths.iter().map(|path| file_name(path)).collect::<Vec<_>>().join(", ")
    }

    /// Makes relative paths count from a folder.
    pub fn resolve(&mut self, base: &Path) {
        for path in &mut self.paths {
            *path = resolve(base, path);
        }
    }
}

/// A path, or a list of paths.
impl<'de> Deserialize<'de> for RecordFiles {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OneOrMany)
    }
}

struct OneOrMany;

impl<'de> Visitor<'de> for OneOrMany {
    type Value = RecordFiles;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a file name, or a list of file names")
    }

    fn visit_str<E: de::Error>(self, path: &str) -> Result<RecordFiles, E> {
        RecordFiles::new(vec![path.into()]).map_err(E::custom)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<RecordFiles, A::Error> {
        let mut paths = Vec::new();
        while let Some(path) = list.next_element::<PathBuf>()? {
            paths.push(path);
        }
        RecordFiles::new(paths).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn of(paths: &[&str]) -> Result<RecordFiles, String> {
        RecordFiles::new(paths.iter().map(PathBuf::from).collect()).map_err(|error| error.to_string())
    }

    #[test]
    fn the_suffix_decides_and_every_other_list_is_refused_by_name() {
        assert_eq!(of(&["a.csv", "b.CSV"]).unwrap().format(), Format::Csv);
        if cfg!(feature = "parquet") {
            assert_eq!(of(&["/x/a.parquet"]).unwrap().format(), Format::Parquet);
            let mixed = of(&["a.csv", "x/b.parquet"]).unwrap_err();
            assert!(mixed.contains("a.csv") && mixed.contains("b.parquet"), "{mixed}");
        }
        for (paths, named) in [
            (&["secret/a.xlsx"][..], "a.xlsx"),
            (&["train"], "train"),
            (&[], "no file"),
            (&["a.csv", "b.csv", "a.csv"], "a.csv is listed twice"),
        ] {
            let error = of(paths).unwrap_err();
            assert!(error.contains(named) && !error.contains("secret"), "{error}");
        }
    }

    #[cfg(not(feature = "parquet"))]
    #[test]
    fn a_program_without_parquet_says_so() {
        assert!(of(&["a.parquet"]).unwrap_err().contains("built without Parquet"));
    }
}
