//! One pass over a comma-separated file: header, lines with their numbers, and the digest of the bytes read.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::rc::Rc;

use csv::{ErrorKind, StringRecord};
use fusiondp_dp::Digest;
use fusiondp_learn::schema::Value;
use sha2::Digest as _;

use super::DataError;
use super::error::Position;
use super::record::{Hasher, Record};

/// Bytes read at once: long rows of many columns, few system calls.
const BUFFER_BYTES: usize = 256 << 10;

/// A file opened for one pass.
pub struct CsvFile {
    name: String,
    reader: csv::Reader<Hashing<File>>,
    header: StringRecord,
    hasher: Hasher,
}

/// One line: its number in the file and its cells.
pub struct Line<'a> {
    /// Counted from 1, which is the header's.
    pub number: u64,
    /// The cells in file order.
    pub cells: &'a StringRecord,
}

impl Record for Line<'_> {
    fn at(&self) -> Position {
        Position::Line(self.number)
    }

    fn cell(&self, place: usize) -> Value<'_> {
        self.cells.get(place).map_or(Value::Missing, Value::Text)
    }
}

impl CsvFile {
    /// Opens a file and reads its header.
    ///
    /// # Errors
    /// The file cannot be read, is empty, or its header is not UTF-8.
    pub fn open(path: &Path) -> Result<Self, DataError> {
        Self::open_hashing(path, Rc::default())
    }

    /// Opens a file whose bytes go behind those that `hasher` has seen.
    ///
    /// # Errors
    /// As [`CsvFile::open`].
    pub(crate) fn open_hashing(path: &Path, hasher: Hasher) -> Result<Self, DataError> {
        let name = file_name(path);
        let file = File::open(path).map_err(|source| DataError::Read { file: name.clone(), source })?;
        let hashing = Hashing { inner: file, hasher: Rc::clone(&hasher) };
        let mut reader = csv::ReaderBuilder::new().buffer_capacity(BUFFER_BYTES).from_reader(hashing);
        let mut header = reader.headers().map_err(|error| translate(&name, error))?.clone();
        header.trim();
        if header.is_empty() {
            return Err(DataError::Empty { file: name });
        }
        // Spreadsheet programs put a byte order mark before the first name.
        let header = header.iter().map(|cell| cell.trim_start_matches('\u{feff}')).collect();
        Ok(Self { name, reader, header, hasher })
    }

    /// Name of the file, without its folder.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Position of a column; `None` if the header does not name it.
    ///
    /// # Errors
    /// [`DataError::DuplicateColumn`].
    pub fn find(&self, column: &str) -> Result<Option<usize>, DataError> {
        let mut places = self.header.iter().enumerate().filter(|(_, cell)| *cell == column);
        match (places.next(), places.next()) {
            (Some(_), Some(_)) => {
                Err(DataError::DuplicateColumn { file: self.name.clone(), column: column.to_owned() })
            }
            (place, _) => Ok(place.map(|(index, _)| index)),
        }
    }

    /// Position of a column that has to be there.
    ///
    /// # Errors
    /// [`DataError::MissingColumn`] or [`DataError::DuplicateColumn`].
    pub fn require(&self, column: &str, role: &'static str) -> Result<usize, DataError> {
        self.find(column)?.ok_or_else(|| DataError::MissingColumn {
            file: self.name.clone(),
            column: column.to_owned(),
            role,
        })
    }

    /// Hands every line to `take`, then returns the digest of all bytes that went through the hasher.
    ///
    /// # Errors
    /// What `take` finds; a line that is not UTF-8 or has another number of cells than the header; no line at all.
    pub fn read(
        mut self,
        mut take: impl FnMut(Line<'_>) -> Result<(), DataError>,
    ) -> Result<Digest, DataError> {
        let mut record = StringRecord::new();
        let mut lines = 0u64;
        loop {
            let more = self.reader.read_record(&mut record).map_err(|error| translate(&self.name, error))?;
            if !more {
                break;
            }
            lines += 1;
            let number = record.position().map_or(0, csv::Position::line);
            take(Line { number, cells: &record })?;
        }
        if lines == 0 {
            return Err(DataError::NoRecords { file: self.name });
        }
        Ok(Digest::from_bytes(self.hasher.borrow().clone().finalize().into()))
    }
}

/// Hashes what passes, so that the digest is that of the bytes the cells came from.
struct Hashing<R> {
    inner: R,
    hasher: Hasher,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.borrow_mut().update(&buffer[..count]);
        Ok(count)
    }
}

/// The last part of a path, which says enough without the site's folders.
pub(crate) fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

fn translate(file: &str, error: csv::Error) -> DataError {
    let file = file.to_owned();
    let line_of = |position: &Option<csv::Position>| position.as_ref().map_or(0, csv::Position::line);
    match error.kind() {
        ErrorKind::UnequalLengths { pos, expected_len, len } => {
            DataError::CellCount { line: line_of(pos), found: *len, wanted: *expected_len, file }
        }
        ErrorKind::Utf8 { pos, .. } => DataError::NotUtf8 { line: line_of(pos), file },
        _ => DataError::Read { file, source: io::Error::from(error) },
    }
}
