//! Learning: from a declared schema to gradients, a server step, metrics and ONNX.
//!
//! Pure: no files, no clock, no network, and no privacy. Noise and clipping guarantees live in `fusiondp-dp`;
//! this crate computes the per-unit gradients that are clipped there. The two crates do not know each other.
//!
//! # Where a value goes
//!
//! | module | from | to |
//! |---|---|---|
//! | [`schema`], [`table`] | a study's declaration; cells | checked columns; public, sensitive and imputed features |
//! | [`imputer`] | public features | imputed sensitive features |
//! | [`encode`] | features | [`model::View`]: encoded input, real or hybrid |
//! | [`model`] | views and parameters | logits, the public gradient, one clipped gradient per privacy unit |
//! | [`server`], [`optimiser`] | what sites released | the next parameters |
//! | [`metrics`] | logits and labels | AUROC, average precision, Brier score |
//! | [`onnx`] | schema, model, parameters | a file that takes raw columns |
//! | [`network`], [`real`] | | the engine below models and imputers, in `f32` and `f64` |
//! | [`vectors`] | reference files | errors of the engine against them |
//!
//! # Symbols
//!
//! | symbol | name here |
//! |---|---|
//! | B, U, N | records, privacy units of a batch; records or units of a site |
//! | P, P' | [`model::Model::parameters`]; length of [`model::Model::private_range`] |
//! | x, x_hyb | [`model::PairedBatch::real`], [`model::PairedBatch::hybrid`] |
//! | C | `clip_norm` |
//! | alpha | [`server::ServerSettings::calibration_weight`] |
//! | beta, c_h | [`model::PrivateObjective::consistency_weight`], [`model::PrivateObjective::representation_scale`] |
//! | h | last hidden layer, [`model::Model::hidden`] |
//! | q | [`server::PrivateScale::sampling_probability`] |
//! | a, b | input of a linear layer; derivative of the loss with respect to its output |
//!
//! # Dependencies
//!
//! Numeric and format crates only: ndarray for the shape of public arguments, pulp for vector instructions, libm, chacha20
//! for initial parameters, serde, prost, safetensors. Nothing that opens, waits or asks the operating system.

pub mod encode;
pub mod imputer;
mod kernel;
pub mod metrics;
pub mod model;
pub mod network;
pub mod onnx;
pub mod optimiser;
pub mod real;
pub mod schema;
pub mod server;
pub mod table;
pub mod vectors;
