//! The site's records: from files to checked tables, grouped by privacy unit.
//!
//! * [`source`]: where records come from; [`source::FileSource`] reads files
//! * [`files`]: which files, and in what format
//! * `record`: the seam between the formats and what reads them: records of cells, text or typed
//! * [`csv`], `parquet`: one pass over a file, with file, line or row, and column in every error
//! * [`dataset`]: checked tables of one file or several, rows grouped by unit
//! * [`units`]: which rows belong to which privacy unit
//! * [`identity`]: what makes two files the same data for the privacy budget
//! * [`progress`]: a line every two seconds for what takes long

pub mod csv;
pub mod dataset;
pub mod error;
pub mod files;
pub mod identity;
#[cfg(feature = "parquet")]
pub(crate) mod parquet;
pub mod progress;
pub(crate) mod record;
pub mod source;
pub mod units;

pub use dataset::Dataset;
pub use error::DataError;
pub use files::RecordFiles;
pub use progress::Progress;
pub use record::describe;
pub use source::{DataSource, FileSource, Part};
pub use units::Units;

#[cfg(test)]
mod tests;
