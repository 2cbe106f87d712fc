//! Models as ONNX files, and what a site must know of a file before it runs it.
//!
//! * [`export_model`]: the trained model with the schema's transforms inside
//! * [`export_imputer`]: an imputer network, under the contract that sites accept
//! * [`inspect`]: inputs, outputs, operators and metadata of any file
//!
//! Exported files use standard operators only, opset 17 and `ai.onnx.ml` 3: ONNX Runtime from 1.12 runs them as they
//! are. Raw columns go in: float32 `[N, 1]` with NaN for missing, or string `[N, 1]` with "" for missing.

mod error;
mod features;
mod graph;
mod imputer;
mod inspect;
mod layers;
mod model;
mod proto;
#[cfg(test)]
mod tests;

pub use error::OnnxError;
pub use imputer::export_imputer;
pub use inspect::{ElementType, ModelSummary, Operator, TensorSummary, inspect};
pub use model::export_model;
