//! The site's records: from files to checked tables, grouped by privacy unit.
//!
//! * [`source`]: where records come from; [`source::CsvSource`] reads comma-separated files
//! * [`csv`]: one pass over a file, with file, line and column in every error
//! * [`dataset`]: checked tables of one file, rows grouped by unit
//! * [`units`]: which rows belong to which privacy unit
//! * [`identity`]: what makes two files the same data for the privacy budget
//! * [`progress`]: a line every two seconds for what takes long

pub mod csv;
pub mod dataset;
pub mod error;
pub mod identity;
pub mod progress;
pub mod source;
pub mod units;

pub use dataset::Dataset;
pub use error::DataError;
pub use progress::Progress;
pub use source::{CsvSource, DataSource, Part};
pub use units::Units;

#[cfg(test)]
mod tests;
