//! Support data for fitting imputers, from CSV files.
//!
//! Errors name file, line and column; values are quoted nowhere, because a support file holds sensitive ones.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use fusiondp_learn::schema::{CellProblem, Column, Schema};
use fusiondp_learn::table::{PublicFeatures, SensitiveFeatures, TableError};
use fusiondp_protocol::support::SupportUnits;

/// Feature columns of all support files.
pub struct Support {
    /// Public features.
    pub public: PublicFeatures,
    /// Sensitive features.
    pub sensitive: SensitiveFeatures,
    /// Whom the records are of; `None` where the schema has no unit column or a file lacks it.
    pub units: Option<SupportUnits>,
}

/// Why support data does not serve.
#[derive(Debug, thiserror::Error)]
pub enum SupportError {
    /// The file cannot be opened.
    #[error("cannot open {}: {source}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: csv::Error,
    },
    /// A line is no CSV.
    #[error("{}, line {line}: not a CSV record of the header's length in UTF-8; is a comma or a quote missing?", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// Line, from 1, header included.
        line: u64,
    },
    /// A feature has no column.
    #[error("{} has no column {column}; the support data needs every feature of the schema", path.display())]
    MissingColumn {
        /// The file.
        path: PathBuf,
        /// Name in the schema.
        column: String,
    },
    /// A name stands twice in the header.
    #[error("{} has column {column} twice; rename or drop one", path.display())]
    DuplicateColumn {
        /// The file.
        path: PathBuf,
        /// The name.
        column: String,
    },
    /// A cell does not fit its declaration.
    #[error("{}, line {line}, column {column}: {problem}", path.display())]
    Cell {
        /// The file.
        path: PathBuf,
        /// Line, from 1, header included.
        line: u64,
        /// Name in the schema.
        column: String,
        /// What is wrong, without the value.
        problem: CellProblem,
    },
    /// No records at all.
    #[error("the support files hold no records; name files with a header and data")]
    Empty,
    /// The columns do not make tables.
    #[error(transparent)]
    Table(#[from] TableError),
}

/// Reads the feature columns of `files`, one below the other. Other columns are ignored.
///
/// # Errors
/// [`SupportError`] with file, line and column, never with a value.
pub fn read(schema: &Schema, files: &[PathBuf]) -> Result<Support, SupportError> {
    let columns: Vec<&Column> = schema.public().chain(schema.sensitive()).collect();
    let mut cells: Vec<Vec<f32>> = vec![Vec::new(); columns.len()];
    let mut ids = schema.unit_id().map(|_| BTreeSet::new());
    for path in files {
        read_file(path, (&columns, schema.unit_id()), &mut cells, &mut ids)?;
    }
    if cells.first().is_none_or(Vec::is_empty) {
        return Err(SupportError::Empty);
    }
    let sensitive = cells.split_off(schema.public().count());
    Ok(Support {
        public: PublicFeatures::new(schema, cells)?,
        sensitive: SensitiveFeatures::new(schema, sensitive)?,
        units: ids.and_then(|ids| SupportUnits::of(ids.iter().map(String::as_str))),
    })
}

/// Adds the file's cells and unit ids; without an id in one record, `ids` becomes `None`: half a list would mislead.
fn read_file(
    path: &Path,
    (columns, unit): (&[&Column], Option<&Column>),
    cells: &mut [Vec<f32>],
    ids: &mut Option<BTreeSet<String>>,
) -> Result<(), SupportError> {
    let opened = csv::ReaderBuilder::new().from_path(path);
    let mut reader = opened.map_err(|source| SupportError::Open { path: path.to_owned(), source })?;
    let header = reader.headers().map_err(|_| SupportError::Record { path: path.to_owned(), line: 1 })?;
    let places = places(path, header, columns)?;
    let unit = unit.and_then(|unit| header.iter().position(|name| name.trim() == unit.name));
    let mut record = csv::StringRecord::new();
    loop {
        let line = reader.position().line();
        let bad_record = |_| SupportError::Record { path: path.to_owned(), line };
        if !reader.read_record(&mut record).map_err(bad_record)? {
            return Ok(());
        }
        let line = record.position().map_or(line, csv::Position::line);
        let id = unit.and_then(|place| record.get(place)).map(str::trim).filter(|id| !id.is_empty());
        match (&mut *ids, id) {
            (Some(ids), Some(id)) => drop(ids.insert(id.to_owned())),
            (_, None) => *ids = None,
            (None, _) => {}
        }
        for ((column, place), values) in columns.iter().zip(&places).zip(cells.iter_mut()) {
            let parsed = column.parse(record.get(*place).unwrap_or_default());
            values.push(parsed.map_err(|problem| SupportError::Cell {
                path: path.to_owned(),
                line,
                column: column.name.clone(),
                problem,
            })?);
        }
    }
}

/// Where each feature stands in the file.
fn places(path: &Path, header: &csv::StringRecord, columns: &[&Column]) -> Result<Vec<usize>, SupportError> {
    let mut seen = BTreeSet::new();
    for name in header.iter().map(str::trim) {
        if !seen.insert(name) {
            return Err(SupportError::DuplicateColumn { path: path.to_owned(), column: name.to_owned() });
        }
    }
    let place = |column: &&Column| {
        let found = header.iter().position(|name| name.trim() == column.name);
        found
            .ok_or_else(|| SupportError::MissingColumn { path: path.to_owned(), column: column.name.clone() })
    };
    columns.iter().map(place).collect()
}
