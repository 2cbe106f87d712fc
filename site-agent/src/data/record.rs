//! The seam between where cells come from and what they become: one file of either format, record by record.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;

use fusiondp_learn::schema::{Column, Role, Value};
use sha2::Sha256;

use super::csv::CsvFile;
use super::error::Position;
use super::files::Format;
#[cfg(feature = "parquet")]
use super::parquet::ParquetFile;
use super::{DataError, Progress};

/// Hashes the bytes of one file after another.
pub(crate) type Hasher = Rc<RefCell<Sha256>>;

/// One record of a file.
pub(crate) trait Record {
    /// Where it stands.
    fn at(&self) -> Position;
    /// Its cell in the column of that place in the file; missing beyond the last.
    fn cell(&self, place: usize) -> Value<'_>;
}

/// A file whose columns are known.
pub(crate) enum RecordFile {
    /// Comma-separated text.
    Csv(CsvFile),
    /// Parquet.
    #[cfg(feature = "parquet")]
    Parquet(ParquetFile),
}

impl RecordFile {
    /// Opens a file whose bytes shall go into `hasher`.
    ///
    /// # Errors
    /// The file cannot be read, or is not what its suffix says.
    pub(crate) fn open(
        path: &Path,
        format: Format,
        hasher: &Hasher,
        progress: &mut Progress,
    ) -> Result<Self, DataError> {
        match format {
            Format::Csv => CsvFile::open_hashing(path, Rc::clone(hasher)).map(Self::Csv),
            #[cfg(feature = "parquet")]
            Format::Parquet => ParquetFile::open_hashing(path, hasher, progress).map(Self::Parquet),
            #[cfg(not(feature = "parquet"))]
            Format::Parquet => {
                let _ = progress;
                Err(no_parquet(path))
            }
        }
    }

    /// Name of the file, without its folder.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Csv(file) => file.name(),
            #[cfg(feature = "parquet")]
            Self::Parquet(file) => file.name(),
        }
    }

    /// Number of records, where the file says so before it is read.
    pub(crate) fn records(&self) -> Option<usize> {
        match self {
            Self::Csv(_) => None,
            #[cfg(feature = "parquet")]
            Self::Parquet(file) => Some(file.records()),
        }
    }

    /// Place of a column, `None` if the file has none of that name.
    ///
    /// # Errors
    /// The name stands twice, or the column's type does not fit the schema.
    pub(crate) fn find(&self, column: &Column) -> Result<Option<usize>, DataError> {
        match self {
            Self::Csv(file) => file.find(&column.name),
            #[cfg(feature = "parquet")]
            Self::Parquet(file) => file.find(column),
        }
    }

    /// Place of a column that has to be there.
    ///
    /// # Errors
    /// As [`RecordFile::find`], and [`DataError::MissingColumn`].
    pub(crate) fn require(&self, column: &Column) -> Result<usize, DataError> {
        self.find(column)?.ok_or_else(|| DataError::MissingColumn {
            file: self.name().to_owned(),
            column: column.name.clone(),
            role: role_name(column.role),
        })
    }

    /// Hands every record to `take`; the columns at other places than `places` are not read where the format allows it.
    ///
    /// # Errors
    /// What `take` finds; a damaged file; no record at all.
    pub(crate) fn read(
        self,
        places: &[usize],
        mut take: impl FnMut(&dyn Record) -> Result<(), DataError>,
    ) -> Result<(), DataError> {
        match self {
            Self::Csv(file) => {
                // A line is read as a whole.
                let _ = places;
                file.read(|line| take(&line)).map(|_| ())
            }
            #[cfg(feature = "parquet")]
            Self::Parquet(file) => file.read(places, |row| take(row)),
        }
    }
}

/// A role as messages spell it.
pub(crate) fn role_name(role: Role) -> &'static str {
    match role {
        Role::Public => "public",
        Role::Sensitive => "sensitive",
        Role::Label => "label",
        Role::UnitId => "unit-id",
    }
}

/// What the head of a file says, after its name: for `fusiondp-site check` without a study.
///
/// # Errors
/// The file cannot be read, or is not what its suffix says.
pub fn describe(path: &Path, format: Format) -> Result<String, DataError> {
    match format {
        Format::Csv => CsvFile::open(path).map(|_| "has a header".to_owned()),
        #[cfg(feature = "parquet")]
        Format::Parquet => {
            let file = ParquetFile::open(path)?;
            Ok(format!("has {} columns and {} records", file.columns(), file.records()))
        }
        #[cfg(not(feature = "parquet"))]
        Format::Parquet => Err(no_parquet(path)),
    }
}

/// A list of Parquet files cannot be made in a program without Parquet, so this is not seen.
#[cfg(not(feature = "parquet"))]
fn no_parquet(path: &Path) -> DataError {
    let problem = "this program was built without Parquet; give .csv files";
    DataError::Parquet { file: super::csv::file_name(path), problem }
}
