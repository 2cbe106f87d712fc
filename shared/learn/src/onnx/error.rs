//! Why a model was not exported or not accepted.

use thiserror::Error;

use crate::encode::EncodeError;

/// A failed export or a refused file.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum OnnxError {
    /// Schema and model do not fit together.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// Two inputs or outputs would share a name.
    #[error("the exported model would have two values named \"{name}\"; rename the column of that name")]
    DuplicateName {
        /// The name.
        name: String,
    },
    /// The model or its parameters are of another shape than the schema's encoding.
    #[error(
        "{what}: {found} found, {wanted} wanted; export with the schema and model that were trained together"
    )]
    Shape {
        /// What differs.
        what: &'static str,
        /// What was given.
        found: usize,
        /// What the schema and model need.
        wanted: usize,
    },
    /// A parameter is infinite or NaN.
    #[error("parameter {index} is not finite; a diverged model is not exported, lower the learning rate")]
    NotFinite {
        /// Index in the flat parameter vector.
        index: usize,
    },
    /// The bytes are not an ONNX model.
    #[error("not an ONNX model: {source}; pass the bytes of a .onnx file")]
    Decode {
        /// What the decoder found.
        #[from]
        source: prost::DecodeError,
    },
    /// A model without a graph.
    #[error("the ONNX model has no graph; export it again")]
    NoGraph,
    /// An operator outside the standard domains.
    #[error(
        "the ONNX model holds the custom operator {domain}::{operator}; only the domains \"ai.onnx\" and \"ai.onnx.ml\" \
         are accepted, since another operator would run code from outside the file"
    )]
    CustomOperator {
        /// Domain of the operator.
        domain: String,
        /// Its type.
        operator: String,
    },
    /// Functions defined in the file, which can shadow standard operators.
    #[error("the ONNX model defines the function \"{name}\"; inline functions before export (onnx.inliner)")]
    LocalFunction {
        /// Name of the function.
        name: String,
    },
    /// Tensor data in another file, which the digest of this file does not pin.
    #[error("the ONNX model keeps the data of tensor \"{tensor}\" in another file; save it as one file")]
    ExternalData {
        /// Name of the tensor.
        tensor: String,
    },
}
