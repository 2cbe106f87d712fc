//! Reference vectors: a model, a batch in both views and the figures an independent implementation got for them.
//!
//! A file holds a safetensors header with `dims`, `clip_norm`, `rep_clip` and `beta`, and `F64` tensors named `param.*`,
//! `input.*` and `expect.*`. [`check`] computes every expected figure in both precisions and says how far off it is;
//! what is near enough is the caller's decision.

use std::collections::HashMap;
use std::str::FromStr;

use ndarray::Array2;
use safetensors::{Dtype, SafeTensors};

use crate::model::{
    InputShape, Model, ModelError, ModelSpec, PairedBatch, PrivateObjective, Tensor, View, Workspace,
};
use crate::real::Real;

/// Why a file could not be checked.
#[derive(Debug, thiserror::Error)]
pub enum VectorError {
    /// Not a safetensors file.
    #[error("not a readable safetensors file")]
    Format(#[from] safetensors::SafeTensorError),
    /// Metadata that is missing or does not parse.
    #[error("header field {field} is missing or malformed")]
    Header {
        /// Name of the field.
        field: &'static str,
    },
    /// A tensor that is missing, not `F64`, or of another length than the model asks for.
    #[error("tensor {name} is missing, not F64, or not of the length that the file's dims and batch ask for")]
    Tensor {
        /// Name of the tensor.
        name: String,
    },
    /// The model refused the file's dims or batch.
    #[error("the file's model or batch is refused")]
    Model(#[from] ModelError),
}

/// Error of one quantity: the largest absolute difference over the largest absolute expected value of its tensor, and the
/// worst of its tensors where there are several.
#[derive(Debug, Clone, PartialEq)]
pub struct QuantityError {
    /// What was compared, for example `paired.norms`.
    pub quantity: String,
    /// Error of the `f64` engine.
    pub double: f64,
    /// Error of the `f32` engine.
    pub single: f64,
}

/// Errors of every quantity of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct VectorReport {
    /// In the order logits, hidden layers, paired loss, direct loss, public gradient.
    pub quantities: Vec<QuantityError>,
}

impl VectorReport {
    /// Largest error of the `f64` engine.
    pub fn worst_double(&self) -> f64 {
        self.quantities.iter().map(|q| q.double).fold(0.0, f64::max)
    }

    /// Largest error of the `f32` engine.
    pub fn worst_single(&self) -> f64 {
        self.quantities.iter().map(|q| q.single).fold(0.0, f64::max)
    }
}

/// Computes the figures of a vector file in `f64` and in `f32` and compares them with the expected ones.
///
/// # Errors
/// A file that is not of this form.
pub fn check(bytes: &[u8]) -> Result<VectorReport, VectorError> {
    let file = File::read(bytes)?;
    let double = file.errors::<f64>()?;
    let single = file.errors::<f32>()?;
    let quantities = double
        .into_iter()
        .zip(single)
        .map(|((quantity, double), (_, single))| QuantityError { quantity, double, single })
        .collect();
    Ok(VectorReport { quantities })
}

/// A parsed vector file.
struct File<'a> {
    tensors: SafeTensors<'a>,
    model: Model,
    clip_norm: f64,
    objective: PrivateObjective,
}

impl<'a> File<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, VectorError> {
        let (_, metadata) = SafeTensors::read_metadata(bytes)?;
        let tensors = SafeTensors::deserialize(bytes)?;
        let empty = HashMap::new();
        let header = metadata.metadata().as_ref().unwrap_or(&empty);
        let dims = dims(header).ok_or(VectorError::Header { field: "dims" })?;
        let [inputs, widths @ .., _] = &dims[..] else { return Err(VectorError::Header { field: "dims" }) };
        let layer_norm = tensors.tensor("param.N.0.weight").is_ok();
        let spec = ModelSpec::mlp(widths, layer_norm, 0.0);
        let model = Model::new(&spec, InputShape { dense: *inputs, bins: Vec::new() })?;
        let objective = PrivateObjective {
            consistency_weight: field(header, "beta")?,
            representation_scale: field(header, "rep_clip")?,
            representation_clip: true,
            ..PrivateObjective::default()
        };
        Ok(Self { tensors, model, clip_norm: field(header, "clip_norm")?, objective })
    }

    /// Error of every quantity for one precision.
    fn errors<F: Real>(&self) -> Result<Vec<(String, f64)>, VectorError> {
        let params = self.params::<F>()?;
        let mut workspace = Workspace::default();
        let labels = self.values::<F>("input.y", None)?;
        let (real, hybrid) = (self.view("input.x")?, self.view("input.x_hybrid")?);
        let mut errors = Vec::new();
        for (view, suffix) in [(&real, ""), (&hybrid, "_hybrid")] {
            let logits = self.model.logits(&params, view, &mut workspace)?;
            let hidden = self.model.hidden(&params, view, &mut workspace)?;
            errors.push(self.compare(format!("logits{suffix}"), &logits)?);
            errors.push(self.compare(format!("hidden{suffix}"), hidden.as_slice().unwrap_or(&[]))?);
        }
        let batch = PairedBatch::of_single_records(real, hybrid, labels);
        for (prefix, objective) in [("paired", self.objective), ("dpsgd", PrivateObjective::direct())] {
            errors.extend(self.private_errors(prefix, &params, &batch, &objective, &mut workspace)?);
        }
        errors.push(self.public_error(&params, &mut workspace)?);
        Ok(errors)
    }

    fn private_errors<F: Real>(
        &self,
        prefix: &str,
        params: &[F],
        batch: &PairedBatch<F>,
        objective: &PrivateObjective,
        workspace: &mut Workspace<F>,
    ) -> Result<[(String, f64); 3], VectorError> {
        let norms = self.model.private_norms(params, batch, objective, workspace)?;
        let factors: Vec<f64> = norms.iter().map(|norm| (self.clip_norm / norm).min(1.0)).collect();
        // Summed in f64, so that the figure is the error of the gradients and not that of this sum.
        let mut sum = vec![0.0; self.model.parameters()];
        let add = |_: usize, unit: &[F]| sum.iter_mut().zip(unit).for_each(|(sum, &g)| *sum += g.wide());
        self.model.private_gradients(params, batch, objective, self.clip_norm, workspace, add)?;
        Ok([
            self.compare(format!("{prefix}.norms"), &norms)?,
            self.compare(format!("{prefix}.clip_factors"), &factors)?,
            self.compare_parameters(format!("{prefix}.clipped_sum"), &sum)?,
        ])
    }

    fn public_error<F: Real>(
        &self,
        params: &[F],
        workspace: &mut Workspace<F>,
    ) -> Result<(String, f64), VectorError> {
        let (view, labels) = (self.view("input.x_public")?, self.values::<F>("input.y_public", None)?);
        let mut gradient = vec![F::zero(); self.model.parameters()];
        self.model.public_gradient(params, &view, &labels, None, &mut gradient, workspace)?;
        self.compare_parameters("public_mean_gradient".to_owned(), &gradient)
    }

    /// Error of one expected tensor.
    fn compare<F: Real>(&self, quantity: String, found: &[F]) -> Result<(String, f64), VectorError> {
        let expected = self.values::<f64>(&format!("expect.{quantity}"), Some(found.len()))?;
        Ok((quantity, relative_error(found, &expected)))
    }

    /// Worst error over the expected tensors of a parameter vector.
    fn compare_parameters<F: Real>(
        &self,
        quantity: String,
        found: &[F],
    ) -> Result<(String, f64), VectorError> {
        let error = |tensor: &Tensor| {
            let name = format!("expect.{quantity}.{}", tensor.name());
            let expected = self.values::<f64>(&name, Some(tensor.range().len()))?;
            Ok(relative_error(&found[tensor.range()], &expected))
        };
        let errors: Result<Vec<f64>, VectorError> = self.model.layout().iter().map(error).collect();
        Ok((quantity, errors?.into_iter().fold(0.0, worse)))
    }

    fn params<F: Real>(&self) -> Result<Vec<F>, VectorError> {
        let mut params = Vec::with_capacity(self.model.parameters());
        for tensor in self.model.layout() {
            params.extend(self.values::<F>(&format!("param.{}", tensor.name()), Some(tensor.range().len()))?);
        }
        Ok(params)
    }

    fn view<F: Real>(&self, name: &str) -> Result<View<F>, VectorError> {
        let columns = self.model.input_shape().dense;
        let values = self.values::<F>(name, None)?;
        let rows = values.len() / columns;
        let dense = Array2::from_shape_vec((rows, columns), values)
            .map_err(|_| VectorError::Tensor { name: name.to_owned() })?;
        Ok(View { dense, bins: Array2::from_shape_fn((rows, 0), |_| 0) })
    }

    /// Values of a tensor, which must have `length` of them if one is given.
    fn values<F: Real>(&self, name: &str, length: Option<usize>) -> Result<Vec<F>, VectorError> {
        let refuse = || VectorError::Tensor { name: name.to_owned() };
        let tensor = self.tensors.tensor(name).map_err(|_| refuse())?;
        let (chunks, rest) = tensor.data().as_chunks::<8>();
        let fits = length.is_none_or(|length| chunks.len() == length);
        if tensor.dtype() != Dtype::F64 || !rest.is_empty() || !fits {
            return Err(refuse());
        }
        Ok(chunks.iter().map(|&bytes| F::of(f64::from_le_bytes(bytes))).collect())
    }
}

/// Largest difference over the largest expected value; infinite where a value is not a number.
fn relative_error<F: Real>(found: &[F], expected: &[f64]) -> f64 {
    let largest = expected.iter().fold(0.0_f64, |largest, value| largest.max(value.abs()));
    let difference = found.iter().zip(expected).map(|(&f, e)| (f.wide() - e).abs()).fold(0.0, worse);
    if difference == 0.0 { 0.0 } else { difference / largest }
}

/// The larger value; infinite if either is not a number.
fn worse(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::INFINITY } else { a.max(b) }
}

/// Layer widths from `[36, 64, 1]`.
fn dims(header: &HashMap<String, String>) -> Option<Vec<usize>> {
    let list = header.get("dims")?.trim().strip_prefix('[')?.strip_suffix(']')?;
    list.split(',').map(|width| width.trim().parse().ok()).collect()
}

fn field<T: FromStr>(header: &HashMap<String, String>, field: &'static str) -> Result<T, VectorError> {
    header.get(field).and_then(|text| text.parse().ok()).ok_or(VectorError::Header { field })
}
