//! Support data as tables, and an imputer fitted on them.

use std::collections::BTreeMap;
use std::path::Path;

use fusiondp_learn::imputer::{ImputerFit, fit};
use fusiondp_learn::onnx::export_imputer;
use fusiondp_learn::schema::{Column, Schema};
use fusiondp_learn::table::{PublicFeatures, SensitiveFeatures};

use super::SimulationError;

/// Fits the project's own imputer network on a support file and returns it as ONNX.
///
/// # Errors
/// [`SimulationError::Fit`], with file, line and column of a cell that does not fit the schema.
pub(super) fn fit_onnx(schema: &Schema, file: &Path, seed: u64) -> Result<Vec<u8>, SimulationError> {
    let (public, sensitive) = read(schema, file)?;
    let options = ImputerFit { seed, ..ImputerFit::default() };
    let network = fit(schema, &public, &sensitive, &options, &mut |_| {}).map_err(failed)?;
    export_imputer(&network, &BTreeMap::new()).map_err(failed)
}

fn read(schema: &Schema, file: &Path) -> Result<(PublicFeatures, SensitiveFeatures), SimulationError> {
    let named = |problem: String| failed(format!("{}: {problem}", file.display()));
    let mut reader = csv::Reader::from_path(file).map_err(|e| named(e.to_string()))?;
    let header = reader.headers().map_err(|e| named(e.to_string()))?.clone();
    let place = |column: &Column| {
        let found = header.iter().position(|name| name == column.name);
        found.ok_or_else(|| named(format!("no column \"{}\", which the schema declares", column.name)))
    };
    let columns: Vec<&Column> = schema.public().chain(schema.sensitive()).collect();
    let places = columns.iter().map(|column| place(column)).collect::<Result<Vec<_>, _>>()?;
    let mut cells = vec![Vec::new(); columns.len()];
    for (index, row) in reader.records().enumerate() {
        let row = row.map_err(|e| named(e.to_string()))?;
        for ((column, &place), cells) in columns.iter().zip(&places).zip(&mut cells) {
            let cell = column.parse(row.get(place).unwrap_or_default());
            cells.push(
                cell.map_err(|e| named(format!("line {}, column \"{}\": {e}", index + 2, column.name)))?,
            );
        }
    }
    let sensitive = cells.split_off(schema.public().count());
    let public = PublicFeatures::new(schema, cells).map_err(failed)?;
    Ok((public, SensitiveFeatures::new(schema, sensitive).map_err(failed)?))
}

fn failed(problem: impl ToString) -> SimulationError {
    SimulationError::Fit(problem.to_string())
}
