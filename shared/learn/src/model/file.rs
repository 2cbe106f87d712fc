//! Parameters as a safetensors file: one float32 tensor per name of the layout, as PyTorch reads them.

use std::collections::HashMap;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensorError, SafeTensors, serialize};

use super::{Model, ModelError, check_length};

/// Bytes of a value.
const WIDTH: usize = size_of::<f32>();

/// Why a file does not hold this model's parameters.
#[derive(Debug, thiserror::Error)]
pub enum ParameterFileError {
    /// Not a safetensors file.
    #[error("not a readable safetensors file: {0}")]
    Format(#[from] SafeTensorError),
    /// A tensor that is not there.
    #[error("no tensor {name:?}, which this model has; is the file of another study?")]
    Missing {
        /// Name of the tensor.
        name: String,
    },
    /// A tensor of another kind or shape.
    #[error(
        "tensor {name:?} is {found}, where this model has float32 {wanted:?}; is the file of another study?"
    )]
    Shape {
        /// Name of the tensor.
        name: String,
        /// What there is.
        found: String,
        /// Shape of the model's.
        wanted: Vec<usize>,
    },
    /// A tensor that this model does not have.
    #[error("tensor {name:?} is not one of this model; is the file of another study?")]
    Unknown {
        /// Name of the tensor.
        name: String,
    },
    /// Parameters of another length.
    #[error(transparent)]
    Model(#[from] ModelError),
}

impl Model {
    /// The parameters `[P]` as a safetensors file, tensors named as in the layout. Equal parameters and note give equal bytes.
    ///
    /// `note` is one entry of the file's metadata, fit for publication. There is room for one only: the format's writer orders
    /// several at random.
    ///
    /// # Errors
    /// Another number of parameters.
    pub fn to_safetensors(&self, params: &[f32], note: (&str, &str)) -> Result<Vec<u8>, ParameterFileError> {
        check_length("parameters", self.parameters(), params.len())?;
        let bytes: Vec<u8> = params.iter().flat_map(|value| value.to_le_bytes()).collect();
        let mut tensors = Vec::new();
        for tensor in self.layout() {
            let range = tensor.range();
            let data = &bytes[WIDTH * range.start..WIDTH * range.end];
            let view = TensorView::new(Dtype::F32, tensor.shape().to_vec(), data)?;
            tensors.push((tensor.name(), view));
        }
        Ok(serialize(tensors, Some(HashMap::from([(note.0.to_owned(), note.1.to_owned())])))?)
    }

    /// The parameters `[P]` of a file that [`Model::to_safetensors`] wrote.
    ///
    /// # Errors
    /// A file that does not hold exactly this model's tensors.
    pub fn from_safetensors(&self, bytes: &[u8]) -> Result<Vec<f32>, ParameterFileError> {
        let file = SafeTensors::deserialize(bytes)?;
        if let Some(name) = file.names().into_iter().find(|name| self.layout().get(name).is_none()) {
            return Err(ParameterFileError::Unknown { name: name.to_owned() });
        }
        let mut params = Vec::with_capacity(self.parameters());
        for tensor in self.layout() {
            let name = || tensor.name().to_owned();
            let found =
                file.tensor(tensor.name()).map_err(|_| ParameterFileError::Missing { name: name() })?;
            if found.dtype() != Dtype::F32 || found.shape() != tensor.shape() {
                return Err(ParameterFileError::Shape {
                    name: name(),
                    found: format!("{:?} {:?}", found.dtype(), found.shape()),
                    wanted: tensor.shape().to_vec(),
                });
            }
            let (values, _) = found.data().as_chunks::<WIDTH>();
            params.extend(values.iter().map(|&bytes| f32::from_le_bytes(bytes)));
        }
        Ok(params)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::model::{InputShape, ModelSpec};

    fn model(width: usize) -> Model {
        Model::new(&ModelSpec::mlp([width], true, 0.0), InputShape { dense: 3, bins: vec![] }).unwrap()
    }

    #[test]
    fn parameters_come_back_bit_for_bit_and_equal_ones_give_equal_files() {
        let model = model(4);
        let params: Vec<f32> = (0..model.parameters()).map(|i| (i as f32 - 3.5) / 7.0).collect();
        let bytes = model.to_safetensors(&params, ("fusiondp.study.digest", "ab")).unwrap();
        assert_eq!(bytes, model.to_safetensors(&params, ("fusiondp.study.digest", "ab")).unwrap());
        assert_eq!(model.from_safetensors(&bytes).unwrap(), params);
        let names = SafeTensors::deserialize(&bytes).unwrap();
        assert!(names.tensor("L.0.weight").is_ok_and(|weight| weight.shape() == [4, 3]));
    }

    #[test]
    fn files_of_other_models_are_refused_by_name() {
        let (model, other) = (model(4), model(5));
        let bytes = other.to_safetensors(&vec![0.0; other.parameters()], ("k", "v")).unwrap();
        let error = model.from_safetensors(&bytes).unwrap_err().to_string();
        assert!(error.contains("L.0.weight") && error.contains("[5, 3]"), "{error}");
        let linear = Model::new(&ModelSpec::Linear {}, InputShape { dense: 3, bins: vec![] }).unwrap();
        let bytes = linear.to_safetensors(&[0.0; 4], ("k", "v")).unwrap();
        let error = model.from_safetensors(&bytes).unwrap_err();
        assert!(
            matches!(error, ParameterFileError::Shape { .. } | ParameterFileError::Missing { .. }),
            "{error}"
        );
        assert!(matches!(linear.from_safetensors(b"{}"), Err(ParameterFileError::Format(_))));
        assert!(matches!(linear.to_safetensors(&[0.0; 3], ("k", "v")), Err(ParameterFileError::Model(_))));
    }
}
