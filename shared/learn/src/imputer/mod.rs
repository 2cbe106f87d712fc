//! Imputers: functions of public features that stand in for sensitive ones.
//!
//! * [`fit`]: one network for all sensitive features, fitted on support data
//! * [`ImputerNetwork`]: the fitted network; `onnx::export_imputer` writes it as a file
//! * [`imputed_value`], [`imputed_column`]: from the output of any imputer to cells of a hybrid view
//!
//! The support data holds true sensitive values of its patients, and a fitted imputer reveals something of them: the
//! privacy guarantee of training does not cover support data.

mod error;
mod fit;
mod head;
mod network;
mod options;
mod output;
mod quality;
mod target;
#[cfg(test)]
mod tests;

pub use error::ImputerError;
pub use fit::{FitProgress, fit};
pub(crate) use head::{Head, HeadKind};
pub use network::ImputerNetwork;
pub use options::ImputerFit;
pub use output::{OutputProblem, imputed_column, imputed_value};
pub use quality::{FeatureQuality, Quality};
pub(crate) use target::{Target, knot_units};
