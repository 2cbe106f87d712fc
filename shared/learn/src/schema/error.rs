//! Why a schema was refused.

use thiserror::Error;

/// A defect of a study's schema. Every message names the column, the field, the value and the remedy.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SchemaError {
    /// The number of columns with a role is wrong.
    #[error("schema.columns: {found} columns have role = \"{role}\", {wanted} wanted; {remedy}")]
    RoleCount {
        /// The role as it is spelled in a study.
        role: &'static str,
        /// Columns that have it.
        found: usize,
        /// How many there should be.
        wanted: &'static str,
        /// What to change.
        remedy: &'static str,
    },
    /// Two columns share a name.
    #[error("schema.columns: the name \"{column}\" is declared twice; rename or remove one of the two")]
    DuplicateName {
        /// The name.
        column: String,
    },
    /// One field of one column.
    #[error("schema column \"{column}\", {field} = {value}: {problem}; {remedy}")]
    Field {
        /// Name of the column.
        column: String,
        /// Field as it is spelled in a study.
        field: &'static str,
        /// The offending value.
        value: String,
        /// What is wrong.
        problem: &'static str,
        /// What to change.
        remedy: &'static str,
    },
}
