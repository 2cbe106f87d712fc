//! An imputer fitted on the support data.

use std::collections::BTreeMap;
use std::path::Path;

use fusiondp_coordinator::support::read;
use fusiondp_learn::imputer::{ImputerFit, fit};
use fusiondp_learn::onnx::export_imputer;
use fusiondp_learn::schema::Schema;

use super::SimulationError;

/// Fits the project's own imputer network on a support file, as `fusiondp-coordinator imputer fit` does, and returns it
/// as ONNX.
///
/// # Errors
/// [`SimulationError::Fit`], with file, line and column of a cell that does not fit the schema.
pub(crate) fn fit_onnx(schema: &Schema, file: &Path, seed: u64) -> Result<Vec<u8>, SimulationError> {
    let support = read(schema, &[file.to_owned()]).map_err(failed)?;
    let options = ImputerFit { seed, ..ImputerFit::default() };
    let network = fit(schema, &support.public, &support.sensitive, &options, &mut |_| {}).map_err(failed)?;
    export_imputer(&network, &BTreeMap::new()).map_err(failed)
}

fn failed(problem: impl ToString) -> SimulationError {
    SimulationError::Fit(problem.to_string())
}
