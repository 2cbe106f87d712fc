//! Why an imputer was not fitted or did not impute.

use thiserror::Error;

use super::OutputProblem;
use crate::{encode::EncodeError, network::NetworkError, optimiser::OptimizerError, table::TableError};

/// A failed fit or imputation. Never holds a value of a cell.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum ImputerError {
    /// An option out of range.
    #[error("imputer option {field} = {value}: {problem}")]
    Option {
        /// Field of [`super::ImputerFit`].
        field: &'static str,
        /// Its value.
        value: String,
        /// What is wrong and what is accepted.
        problem: &'static str,
    },
    /// The schema or a table does not fit.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The schema has nothing to impute.
    #[error(
        "the schema declares no sensitive column, so there is nothing to impute; give a column role = \"sensitive\""
    )]
    NothingSensitive,
    /// Public and sensitive tables of different records.
    #[error("{public} rows of public and {sensitive} of sensitive features; pass tables of the same records")]
    RowCount {
        /// Rows of the public table.
        public: usize,
        /// Rows of the sensitive table.
        sensitive: usize,
    },
    /// Too few records to hold some out.
    #[error("{found} support records, at least {wanted} needed; add support data or use another imputer")]
    TooFewRecords {
        /// Records given.
        found: usize,
        /// Records needed.
        wanted: usize,
    },
    /// A feature that the support data never shows.
    #[error(
        "column \"{column}\" is missing in all support records used for fitting; add records that hold it"
    )]
    NeverObserved {
        /// Name of the column.
        column: String,
    },
    /// The loss left the finite numbers.
    #[error("the fit diverged in epoch {epoch}; lower learning_rate")]
    Diverged {
        /// Epoch, from 1.
        epoch: usize,
    },
    /// The network could not be built or run.
    #[error("imputer network: {0}")]
    Network(#[from] NetworkError),
    /// The optimizer refused a setting.
    #[error("imputer optimizer: {0}")]
    Optimizer(#[from] OptimizerError),
    /// The network's output is not a cell.
    #[error("imputed column \"{column}\": {source}")]
    Output {
        /// Name of the column.
        column: String,
        /// What is wrong.
        source: OutputProblem,
    },
    /// Imputed cells do not make a table.
    #[error(transparent)]
    Table(#[from] TableError),
}
