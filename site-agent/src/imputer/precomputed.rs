//! Imputed values that were computed elsewhere, in a file keyed by unit id.
//!
//! The file has the unit-id column and every sensitive column of the schema, values as the imputer gave them: a number
//! for continuous columns, a probability of 1 or 0/1 for binary ones, a word for categorical ones. A unit with several
//! records has as many rows, in the order of the training data. Where records are the units, rows correspond one to one.
//! An empty cell is filled, see [`gaps`]. Whoever made the file vouches that it was made from public columns alone: the agent cannot see that.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use fusiondp_dp::Digest;
use fusiondp_learn::imputer::imputed_value;
use fusiondp_learn::schema::{CellProblem, Column, ColumnKind, OutOfRange, Schema};
use fusiondp_learn::table::ImputedFeatures;
use fusiondp_runtime::clock::Clock;

use super::{Imputer, ImputerError, ImputerInput, gaps};
use crate::data::csv::{CsvFile, Line, file_name};
use crate::data::error::Position;
use crate::data::{DataError, Progress, Units};

/// A file of imputed values.
pub struct Precomputed {
    path: PathBuf,
    wanted: Option<Digest>,
    clock: Arc<dyn Clock>,
}

/// The file's content: values by column, and the id of each row where units have ids.
struct Rows {
    columns: Vec<Vec<f32>>,
    ids: Vec<String>,
    digest: Digest,
}

impl Precomputed {
    /// A file, and the digest that the study pins, if it pins one.
    pub fn new(path: PathBuf, wanted: Option<Digest>, clock: Arc<dyn Clock>) -> Self {
        Self { path, wanted, clock }
    }

    fn read(&self, schema: &Schema, by_unit: bool) -> Result<Rows, ImputerError> {
        let mut progress = Progress::start(Arc::clone(&self.clock), "reading imputed values");
        let file = CsvFile::open(&self.path)?;
        let name = file.name().to_owned();
        let unit = match schema.unit_id().filter(|_| by_unit) {
            Some(column) => Some((file.require(&column.name, "unit-id")?, column.name.clone())),
            None => None,
        };
        let places = schema
            .sensitive()
            .map(|column| Ok((file.require(&column.name, "sensitive")?, column)))
            .collect::<Result<Vec<_>, DataError>>()?;
        let mut columns = vec![Vec::new(); places.len()];
        let mut first_gaps = vec![None; places.len()];
        let mut ids = Vec::new();
        let mut rows = 0;
        let digest = file.read(|line| {
            rows += 1;
            progress.advance(rows, None);
            for (((place, column), cells), gap) in places.iter().zip(&mut columns).zip(&mut first_gaps) {
                let cell = parse(&name, column, *place, &line)?;
                if cell.is_none() {
                    gap.get_or_insert(line.number);
                }
                cells.push(cell.unwrap_or(f32::NAN));
            }
            if let Some((place, column)) = &unit {
                ids.push(unit_id(&name, column, *place, &line)?);
            }
            Ok(())
        })?;
        for (((_, column), cells), gap) in places.iter().zip(&mut columns).zip(first_gaps) {
            fill_gaps(&name, column, cells, gap)?;
        }
        Ok(Rows { columns, ids, digest })
    }

    /// Row of the file for each record of the training data.
    fn order(&self, rows: &Rows, units: &Units) -> Result<Vec<usize>, ImputerError> {
        let file = || file_name(&self.path);
        if !units.have_ids() {
            let found = rows.columns.first().map_or(0, Vec::len);
            let wanted = units.records();
            let one_to_one = found == wanted;
            return if one_to_one {
                Ok((0..wanted).collect())
            } else {
                Err(ImputerError::RecordCount { file: file(), found, wanted })
            };
        }
        let mut rows_of: HashMap<&str, Vec<usize>> = HashMap::new();
        for (row, id) in rows.ids.iter().enumerate() {
            rows_of.entry(id).or_default().push(row);
        }
        let (mut order, mut missing, mut differ) = (Vec::with_capacity(units.records()), 0, 0);
        for unit in 0..units.count() {
            match units.id(unit).and_then(|id| rows_of.get(id)) {
                None => missing += 1,
                Some(found) if found.len() != units.rows(unit).len() => differ += 1,
                Some(found) => order.extend(found),
            }
        }
        match (missing, differ) {
            (0, 0) => Ok(order),
            (0, units) => Err(ImputerError::RowsDiffer { file: file(), units }),
            (units, _) => Err(ImputerError::UnitsMissing { file: file(), units }),
        }
    }
}

impl Imputer for Precomputed {
    fn impute(&self, input: &ImputerInput<'_>) -> Result<ImputedFeatures, ImputerError> {
        let rows = self.read(input.schema, input.units.have_ids())?;
        if let Some(wanted) = self.wanted.filter(|wanted| *wanted != rows.digest) {
            let file = file_name(&self.path);
            return Err(ImputerError::DigestMismatch { file, actual: rows.digest, wanted });
        }
        let order = self.order(&rows, input.units)?;
        let pick = |cells: &Vec<f32>| order.iter().map(|&row| cells[row]).collect();
        Ok(ImputedFeatures::new(input.schema, rows.columns.iter().map(pick).collect())?)
    }

    fn cache_key(&self) -> Option<Digest> {
        None
    }
}

fn unit_id(file: &str, column: &str, place: usize, line: &Line<'_>) -> Result<String, DataError> {
    let id = line.cells.get(place).unwrap_or_default().trim();
    if id.is_empty() {
        return Err(DataError::EmptyUnit {
            file: file.to_owned(),
            at: Position::Line(line.number),
            column: column.to_owned(),
        });
    }
    Ok(id.to_owned())
}

/// Fills the empty cells of a column; `first` is the line of the first one.
fn fill_gaps(file: &str, column: &Column, cells: &mut [f32], first: Option<u64>) -> Result<(), DataError> {
    let Some(line) = first else { return Ok(()) };
    let Some(filled) = gaps::fill(column.kind.as_ref(), cells) else {
        return Err(cell_error(file, column, line, CellProblem::Missing));
    };
    tracing::warn!(
        file,
        column = column.name,
        filled,
        "imputed values are missing in the file; filled in from the others"
    );
    Ok(())
}

/// `None` where the cell is empty.
fn parse(file: &str, column: &Column, place: usize, line: &Line<'_>) -> Result<Option<f32>, DataError> {
    let text = line.cells.get(place).unwrap_or_default().trim();
    if text.is_empty() {
        return Ok(None);
    }
    imputed_cell(column, text).map(Some).map_err(|problem| cell_error(file, column, line.number, problem))
}

fn cell_error(file: &str, column: &Column, line: u64, problem: CellProblem) -> DataError {
    let at = Position::Line(line);
    DataError::Cell { file: file.to_owned(), at, column: column.name.clone(), problem, public_value: None }
}

fn imputed_cell(column: &Column, text: &str) -> Result<f32, CellProblem> {
    if let Some(kind @ ColumnKind::Categorical { .. }) = &column.kind {
        return kind.parse(text, OutOfRange::Refuse)?.ok_or(CellProblem::UnknownWord);
    }
    let number: f64 = text.parse().map_err(|_| CellProblem::NotANumber)?;
    imputed_value(column, &[number as f32]).map_err(|_| CellProblem::NotANumber)
}
