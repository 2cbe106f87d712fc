//! Why records could not be read.

use std::fmt;

use fusiondp_learn::schema::CellProblem;
use fusiondp_learn::table::TableError;
use fusiondp_runtime::console::one_line;

use super::source::Part;

/// Where in a file a record stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    /// Line of a text file, counted from 1, which is the header's.
    Line(u64),
    /// Row of a Parquet file, counted from 1 over all its row groups.
    Row(u64),
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Position::Line(line) => write!(f, "line {line}"),
            Position::Row(row) => write!(f, "row {row}"),
        }
    }
}

/// A defect of a data file. `Display` names file, line, column and remedy and never a cell's value, because it may be
/// sent to the coordinator; [`DataError::with_value`] adds the value of a public cell for the site's own eyes.
///
/// In a running agent none of these depends on the content of a sensitive cell: see
/// [`UnfitCells`](super::dataset::UnfitCells).
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The file could not be opened or read.
    #[error("{file}: the file cannot be read; check that it exists and that the agent's user may read it")]
    Read {
        /// Name of the file.
        file: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// No cohort of that name is configured.
    #[error(
        "cohort \"{cohort}\" is not configured; add `{cohort} = \"FILE.csv\"` (or .parquet) to [data.cohorts] in site.toml"
    )]
    UnknownCohort {
        /// The cohort asked for.
        cohort: String,
    },
    /// The file holds no header.
    #[error("{file}: the file is empty; its first line must name the columns")]
    Empty {
        /// Name of the file.
        file: String,
    },
    /// The file holds a header and nothing else.
    #[error("{file}: the file holds no record; export the records again")]
    NoRecords {
        /// Name of the file.
        file: String,
    },
    /// A column that the study needs is absent.
    #[error(
        "{file}: column \"{column}\" is missing; the study's schema declares it as {role}, so add it to the file"
    )]
    MissingColumn {
        /// Name of the file.
        file: String,
        /// Name of the column.
        column: String,
        /// Its role in the schema.
        role: &'static str,
    },
    /// A needed column stands twice in the header.
    #[error("{file}: column \"{column}\" stands twice in the header; remove or rename one of the two")]
    DuplicateColumn {
        /// Name of the file.
        file: String,
        /// Name of the column.
        column: String,
    },
    /// A line with more or fewer cells than the header.
    #[error(
        "{file}, line {line}: {found} cells, the header has {wanted}; correct the line (a cell that holds a comma must \
         be quoted)"
    )]
    CellCount {
        /// Name of the file.
        file: String,
        /// Line, counted from 1, the header's.
        line: u64,
        /// Cells of the line.
        found: u64,
        /// Cells of the header.
        wanted: u64,
    },
    /// Bytes that are no UTF-8.
    #[error("{file}, line {line}: the line is not UTF-8 text; export the file as UTF-8")]
    NotUtf8 {
        /// Name of the file.
        file: String,
        /// Line, counted from 1.
        line: u64,
    },
    /// A record without a unit id.
    #[error("{file}, {at}, column \"{column}\": the unit id is empty; every record needs one")]
    EmptyUnit {
        /// Name of the file.
        file: String,
        /// Where the record stands.
        at: Position,
        /// Name of the unit-id column.
        column: String,
    },
    /// A cell that the schema refuses.
    #[error("{file}, {at}, column \"{column}\": {problem}")]
    Cell {
        /// Name of the file.
        file: String,
        /// Where the cell stands.
        at: Position,
        /// Name of the column.
        column: String,
        /// What is wrong.
        problem: CellProblem,
        /// The cell's value, kept for public columns only.
        public_value: Option<Box<str>>,
    },
    /// A column of a type that cannot be read as what the schema declares.
    #[error(
        "{file}, column \"{column}\": the type {found} cannot be read as {wanted}; export it as {remedy}"
    )]
    ColumnType {
        /// Name of the file.
        file: String,
        /// Name of the column.
        column: Box<str>,
        /// The type in the file.
        found: Box<str>,
        /// What the schema declares.
        wanted: &'static str,
        /// Types that can be read.
        remedy: &'static str,
    },
    /// A Parquet file that cannot be decoded. What the decoder said is left out: it may quote a cell.
    #[error("{file}: {problem}")]
    Parquet {
        /// Name of the file.
        file: String,
        /// What is wrong, and the remedy.
        problem: &'static str,
    },
    /// A file was written to while it was read.
    #[error(
        "{file}: the file changed while it was read; wait until its export has ended, and put a new file in place by \
         renaming it"
    )]
    Changed {
        /// Name of the file.
        file: String,
    },
    /// More units than can be counted.
    #[error("{file}: more than 4,294,967,295 units; split the data among several sites")]
    TooManyUnits {
        /// Name of the file.
        file: String,
    },
    /// The unit column that the study names is not the schema's.
    #[error("privacy.unit_column = \"{column}\" is not the unit-id column of the schema; correct the study")]
    UnitColumn {
        /// The column named.
        column: String,
    },
    /// No record of the file belongs to this part.
    #[error("{file}: no unit falls into {part}; use fewer shares")]
    EmptyPart {
        /// Name of the file.
        file: String,
        /// The part.
        part: Part,
    },
    /// A file has to be split by unit and has no units.
    #[error("{file}: records can be split by unit only; add the unit-id column \"{column}\" to the file")]
    PartWithoutUnits {
        /// Name of the file.
        file: String,
        /// The schema's unit-id column, if any.
        column: String,
    },
    /// Parsed cells that make no table; a defect of the reader.
    #[error("{file}: the parsed cells do not fit the schema; please report this")]
    Table {
        /// Name of the file.
        file: String,
        /// What does not fit.
        #[source]
        source: TableError,
    },
}

impl DataError {
    /// The message with the value of a public cell, for logs and terminals of the site itself.
    pub fn with_value(&self) -> String {
        match self {
            DataError::Cell { public_value: Some(value), .. } => format!("{self} (the cell holds {value:?})"),
            _ => one_line(self),
        }
    }
}
