//! One pass over a Parquet file: its columns, its rows with their numbers, and the digest of its bytes.
//!
//! A file is hashed first and decoded afterwards from the same handle; it is refused if its size or its time of
//! modification has changed by the end. Only the columns asked for are decoded, one row group after another, in batches
//! of a few rows. A column's type has to fit both as Parquet says it and as an Arrow schema in the file's metadata does,
//! where a time may stand that Parquet holds as a number. Cells are decoded as Parquet's types, so a dictionary is read
//! as the values it stands for.

mod column;

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use arrow_schema::SchemaRef;
use fusiondp_learn::schema::{Column, Value};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use sha2::Digest as _;

use self::column::{Cells, misfit};
use super::csv::file_name;
use super::error::Position;
use super::record::{Hasher, Record};
use super::{DataError, Progress};

/// Rows that are decoded at once.
const BATCH_ROWS: usize = 1024;

/// Bytes that are hashed at once.
const HASHED_BYTES: usize = 1 << 20;

/// A file whose columns are known.
pub(crate) struct ParquetFile {
    name: String,
    file: File,
    stamp: Stamp,
    metadata: ArrowReaderMetadata,
    /// Columns as whoever wrote the file called them.
    declared: SchemaRef,
}

/// What shows that a file was written to.
#[derive(PartialEq, Eq)]
struct Stamp {
    bytes: u64,
    modified: SystemTime,
}

impl Stamp {
    fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self { bytes: metadata.len(), modified: metadata.modified()? })
    }
}

impl ParquetFile {
    /// Opens a file and reads its columns.
    ///
    /// # Errors
    /// The file cannot be read, or is no Parquet file.
    pub(crate) fn open(path: &Path) -> Result<Self, DataError> {
        let name = file_name(path);
        let (file, stamp) = opened(path).map_err(|source| DataError::Read { file: name.clone(), source })?;
        Self::new(name, file, stamp)
    }

    /// Opens a file, puts its bytes behind those that `hasher` has seen, and reads its columns.
    ///
    /// # Errors
    /// As [`ParquetFile::open`].
    pub(crate) fn open_hashing(
        path: &Path,
        hasher: &Hasher,
        progress: &mut Progress,
    ) -> Result<Self, DataError> {
        let name = file_name(path);
        let read = |source| DataError::Read { file: name.clone(), source };
        let (mut file, stamp) = opened(path).map_err(read)?;
        let (mut buffer, mut done) = (vec![0; HASHED_BYTES], 0);
        loop {
            match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => {
                    hasher.borrow_mut().update(&buffer[..count]);
                    done += count as u64;
                    progress.hashed(done, stamp.bytes);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(read(error)),
            }
        }
        Self::new(name, file, stamp)
    }

    fn new(name: String, file: File, stamp: Stamp) -> Result<Self, DataError> {
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let failed = |error| translate(&name, &error);
        let metadata = ArrowReaderMetadata::load(&file, options).map_err(failed)?;
        let parsed = Arc::clone(metadata.metadata());
        let declared = ArrowReaderMetadata::try_new(parsed, ArrowReaderOptions::new()).map_err(failed)?;
        let declared = Arc::clone(declared.schema());
        Ok(Self { name, file, stamp, metadata, declared })
    }

    /// Name of the file, without its folder.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Number of records that the file states.
    pub(crate) fn records(&self) -> usize {
        usize::try_from(self.metadata.metadata().file_metadata().num_rows()).unwrap_or(0)
    }

    /// Number of columns.
    pub(crate) fn columns(&self) -> usize {
        self.metadata.schema().fields().len()
    }

    /// Place of a column, `None` if the file has none of that name.
    ///
    /// # Errors
    /// [`DataError::DuplicateColumn`], [`DataError::ColumnType`].
    pub(crate) fn find(&self, column: &Column) -> Result<Option<usize>, DataError> {
        let fields = self.metadata.schema().fields();
        let mut places = fields.iter().enumerate().filter(|(_, field)| *field.name() == column.name);
        let (file, name) = (self.name.clone(), column.name.clone());
        match (places.next(), places.next()) {
            (None, _) => Ok(None),
            (Some(_), Some(_)) => Err(DataError::DuplicateColumn { file, column: name }),
            (Some((place, field)), None) => {
                for found in [self.declared.field(place), field].map(|field| field.data_type()) {
                    if let Some((wanted, remedy)) = misfit(column, found) {
                        let found = found.to_string().into();
                        let column = name.into();
                        return Err(DataError::ColumnType { file, column, found, wanted, remedy });
                    }
                }
                Ok(Some(place))
            }
        }
    }

    /// Hands every row to `take`, with the cells of the columns at `places`.
    ///
    /// # Errors
    /// What `take` finds; damaged bytes; no row at all; the file has changed since it was opened.
    pub(crate) fn read(
        self,
        places: &[usize],
        mut take: impl FnMut(&Row<'_>) -> Result<(), DataError>,
    ) -> Result<(), DataError> {
        let mut wanted = places.to_vec();
        wanted.sort_unstable();
        wanted.dedup();
        let read = |source| DataError::Read { file: self.name.clone(), source };
        let handle = self.file.try_clone().map_err(read)?;
        let batches = self.batches(handle, &wanted)?;
        let mut rows = 0;
        for batch in batches {
            let batch = batch.map_err(|error| translate(&self.name, &error))?;
            let mut columns: Vec<Option<Cells>> = (0..self.columns()).map(|_| None).collect();
            for (&place, array) in wanted.iter().zip(batch.columns()) {
                columns[place] = Some(Cells::of(array).ok_or_else(|| damaged(&self.name))?);
            }
            for index in 0..batch.num_rows() {
                rows += 1;
                take(&Row { number: rows, index, columns: &columns })?;
            }
        }
        if Stamp::of(&self.file).map_err(read)? != self.stamp {
            return Err(DataError::Changed { file: self.name });
        }
        match rows {
            0 => Err(DataError::NoRecords { file: self.name }),
            _ => Ok(()),
        }
    }

    fn batches(&self, handle: File, wanted: &[usize]) -> Result<ParquetRecordBatchReader, DataError> {
        let mask = ProjectionMask::roots(self.metadata.parquet_schema(), wanted.iter().copied());
        ParquetRecordBatchReaderBuilder::new_with_metadata(handle, self.metadata.clone())
            .with_projection(mask)
            .with_batch_size(BATCH_ROWS)
            .build()
            .map_err(|error| translate(&self.name, &error))
    }
}

/// One row: its number in the file and the cells of the columns that were asked for. No `Debug`.
pub(crate) struct Row<'a> {
    number: u64,
    index: usize,
    columns: &'a [Option<Cells>],
}

impl Record for Row<'_> {
    fn at(&self) -> Position {
        Position::Row(self.number)
    }

    fn cell(&self, place: usize) -> Value<'_> {
        let cells = self.columns.get(place).and_then(Option::as_ref);
        cells.map_or(Value::Missing, |cells| cells.value(self.index))
    }
}

fn opened(path: &Path) -> io::Result<(File, Stamp)> {
    let file = File::open(path)?;
    let stamp = Stamp::of(&file)?;
    Ok((file, stamp))
}

/// The decoder's words may quote a cell, so they only choose among words of our own.
fn translate(file: &str, error: &dyn std::error::Error) -> DataError {
    let words = error.to_string();
    if words.contains("Disabled feature") || words.contains("not supported") {
        let problem = "the file uses a compression or an encoding that cannot be read; export it with zstd, snappy or \
                       no compression";
        return DataError::Parquet { file: file.to_owned(), problem };
    }
    damaged(file)
}

fn damaged(file: &str) -> DataError {
    let problem = "the file is no Parquet file, or damaged; export it again, and copy it whole";
    DataError::Parquet { file: file.to_owned(), problem }
}

#[cfg(test)]
mod tests;
