//! Fully connected networks of any output width: layout, forward pass, back-propagation.
//!
//! Per hidden layer: linear map, optional LayerNorm, exact GELU, optional dropout; the last layer is linear alone.
//! A network holds no parameters: it interprets a flat slice by its [`ParameterLayout`].
//!
//! ```
//! use fusiondp_learn::network::{Mlp, Normalization, Tape};
//! use ndarray::array;
//!
//! let network = Mlp::new(2, &[8], 3, Normalization::Layer)?;
//! let mut params = vec![0.0_f32; network.parameters()];
//! network.initialise(7, &mut params);
//!
//! let input = array![[0.5_f32, -1.0], [2.0, 0.0]];
//! let mut tape = Tape::default();
//! let output = network.forward(&params, input.view(), None, &mut tape)?; // [2, 3]
//! let d_output = output.mapv(|y| y / 2.0); // of the mean of the squared outputs, for example
//!
//! let mut gradient = vec![0.0; network.parameters()];
//! network.backward(&params, input.view(), d_output.view(), &mut tape, &mut gradient)?;
//! # Ok::<(), fusiondp_learn::network::NetworkError>(())
//! ```

mod backward;
mod dropout;
mod forward;
mod hidden;
mod layout;
mod tape;
#[cfg(test)]
mod tests;

use std::ops::Range;

use chacha20::ChaCha8Rng;
use rand::{Rng, SeedableRng};

use crate::real::Real;

pub use dropout::{Dropout, DropoutSeed};
pub use layout::{ParameterLayout, Tensor};
pub use tape::Tape;
pub(crate) use tape::Weights;

/// Added to the variance in LayerNorm, as in PyTorch and ONNX by default.
pub const LAYER_NORM_EPSILON: f64 = 1e-5;

/// What stands between a hidden linear map and its activation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Normalization {
    /// LayerNorm with a gain and a shift per unit.
    Layer,
    /// Nothing.
    None,
}

/// Why a network could not be built or evaluated.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum NetworkError {
    /// A layer without units.
    #[error("network {what} has width 0: every width must be at least 1")]
    ZeroWidth {
        /// Which width.
        what: &'static str,
    },
    /// More parameters than an address can hold.
    #[error("network of widths {widths:?} has too many parameters: use smaller widths")]
    TooLarge {
        /// All widths, input first.
        widths: Vec<usize>,
    },
    /// A dropout rate outside `[0, 1)`.
    #[error("dropout is {rate}: it must be at least 0 and below 1")]
    DropoutRate {
        /// The rate given.
        rate: f64,
    },
    /// A slice or matrix whose size does not fit the network.
    #[error("{what} has {found} {unit}, the network needs {expected}")]
    Size {
        /// Which argument.
        what: &'static str,
        /// Values, rows or columns.
        unit: &'static str,
        /// The size needed.
        expected: usize,
        /// The size given.
        found: usize,
    },
    /// A matrix whose rows do not follow each other in memory.
    #[error("{what} is not row-major and contiguous: pass it in standard layout")]
    Strided {
        /// Which argument.
        what: &'static str,
    },
}

/// One linear map, and for a hidden layer its LayerNorm, as ranges of the flat parameter vector.
#[derive(Debug, Clone)]
pub(crate) struct Layer {
    /// Input width.
    pub(crate) inputs: usize,
    /// Output width.
    pub(crate) outputs: usize,
    /// Weight `[outputs, inputs]`, row-major.
    pub(crate) weight: Range<usize>,
    /// Bias `[outputs]`.
    pub(crate) bias: Range<usize>,
    /// LayerNorm of this layer's output.
    pub(crate) norm: Option<NormRanges>,
}

/// Ranges of a LayerNorm's parameters.
#[derive(Debug, Clone)]
pub(crate) struct NormRanges {
    /// Gain `[outputs]`.
    pub(crate) gain: Range<usize>,
    /// Shift `[outputs]`.
    pub(crate) shift: Range<usize>,
}

/// A fully connected network without its parameters; cheap to clone.
#[derive(Debug, Clone)]
pub struct Mlp {
    layers: Vec<Layer>,
    layout: ParameterLayout,
}

impl Mlp {
    /// A network of `inputs` columns, hidden layers of `widths` (input side first) and `outputs` columns.
    ///
    /// Without hidden layers it is one linear map. Parameters lie in the order `L.0.weight` `[out, in]`, `L.0.bias`,
    /// `N.0.weight`, `N.0.bias` (the LayerNorm, if any), `L.1.weight` and so on.
    ///
    /// # Errors
    /// A width of 0, or more parameters than can be addressed.
    pub fn new(
        inputs: usize,
        widths: &[usize],
        outputs: usize,
        normalization: Normalization,
    ) -> Result<Self, NetworkError> {
        let all: Vec<usize> = [&[inputs], widths, &[outputs]].concat();
        for (index, &width) in all.iter().enumerate() {
            if width == 0 {
                let what = if index == 0 {
                    "input"
                } else if index + 1 == all.len() {
                    "output"
                } else {
                    "hidden layer"
                };
                return Err(NetworkError::ZeroWidth { what });
            }
        }
        Self::check_size(&all)?;
        Ok(Self::build(&all, normalization))
    }

    /// Number of parameters P.
    pub fn parameters(&self) -> usize {
        self.layout.total()
    }

    /// Names, shapes and places of the parameters.
    pub fn layout(&self) -> &ParameterLayout {
        &self.layout
    }

    /// Input width.
    pub fn inputs(&self) -> usize {
        self.layers[0].inputs
    }

    /// Output width.
    pub fn outputs(&self) -> usize {
        self.layers[self.layers.len() - 1].outputs
    }

    /// Width of the last hidden layer; the input width of a network without hidden layers.
    pub fn hidden_width(&self) -> usize {
        self.layers[self.layers.len() - 1].inputs
    }

    /// Fills `params` with initial values: weights and biases uniform on `±1/sqrt(fan_in)` (PyTorch's default for linear
    /// layers, He et al. 2015 with negative slope `sqrt 5`), gains 1, shifts 0.
    ///
    /// The values follow from the seed alone, on every platform: 53-bit uniforms of ChaCha8 in layout order.
    ///
    /// # Panics
    /// If `params` is shorter than [`Self::parameters`].
    pub fn initialise<F: Real>(&self, seed: u64, params: &mut [F]) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        for layer in &self.layers {
            let bound = 1.0 / (layer.inputs as f64).sqrt();
            for value in &mut params[layer.weight.start..layer.bias.end] {
                let uniform = (rng.next_u64() >> 11) as f64 * 2.0_f64.powi(-53);
                *value = F::of(bound * (2.0 * uniform - 1.0));
            }
            if let Some(norm) = &layer.norm {
                params[norm.gain.clone()].fill(F::one());
                params[norm.shift.clone()].fill(F::zero());
            }
        }
    }

    /// The linear layers, input side first; never empty.
    pub(crate) fn layers(&self) -> &[Layer] {
        &self.layers
    }

    fn check_size(all: &[usize]) -> Result<(), NetworkError> {
        let total = all.windows(2).try_fold(0_usize, |total, pair| {
            let weights = pair[0].checked_add(3)?.checked_mul(pair[1])?;
            total.checked_add(weights)
        });
        match total {
            Some(total) if total <= isize::MAX as usize / size_of::<f64>() => Ok(()),
            _ => Err(NetworkError::TooLarge { widths: all.to_vec() }),
        }
    }

    fn build(all: &[usize], normalization: Normalization) -> Self {
        let mut layout = ParameterLayout::default();
        let last = all.len() - 2;
        let layers = (0..=last)
            .map(|i| {
                let (inputs, outputs) = (all[i], all[i + 1]);
                let weight = layout.push(format!("L.{i}.weight"), vec![outputs, inputs]);
                let bias = layout.push(format!("L.{i}.bias"), vec![outputs]);
                let norm = (i < last && normalization == Normalization::Layer).then(|| NormRanges {
                    gain: layout.push(format!("N.{i}.weight"), vec![outputs]),
                    shift: layout.push(format!("N.{i}.bias"), vec![outputs]),
                });
                Layer { inputs, outputs, weight, bias, norm }
            })
            .collect();
        Self { layers, layout }
    }
}
