//! Values of the forward pass that back-propagation needs, and its results per layer.

use crate::kernel::transpose;
use crate::real::Real;

use super::{Layer, Mlp};

/// Buffers of one forward and backward pass. They grow on first use and are reused afterwards.
///
/// Has no `Debug`: activations derive from patients' values.
pub struct Tape<F> {
    /// Rows of the last forward pass.
    pub(crate) rows: usize,
    /// One per layer; the last layer's `activation` is the output.
    pub(crate) layers: Vec<LayerTape<F>>,
    /// Of the last parameters that [`Mlp::forward`](super::Mlp::forward) was given.
    pub(super) weights: Weights<F>,
}

/// The weight of each layer, transposed to `[inputs, outputs]`: what a forward pass multiplies by. Made once for all passes
/// over the same parameters.
pub(crate) struct Weights<F>(pub(super) Vec<Vec<F>>);

// By hand: a derive would ask for `F: Default`.
impl<F> Default for Weights<F> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<F: Real> Weights<F> {
    /// Takes over the weights of a parameter vector; memory is used again.
    pub(crate) fn load(&mut self, network: &Mlp, params: &[F]) {
        self.0.resize_with(network.layers().len(), Vec::new);
        for (layer, transposed) in network.layers().iter().zip(&mut self.0) {
            transpose(&params[layer.weight.clone()], layer.outputs, layer.inputs, transposed);
        }
    }
}

/// Buffers of one layer, `[rows, outputs]` each but `scale` `[rows]`.
pub(crate) struct LayerTape<F> {
    /// LayerNorm's input, centered and scaled; without LayerNorm the linear map's output.
    pub(crate) normalized: Vec<F>,
    /// One over the deviation that LayerNorm divided by.
    pub(crate) scale: Vec<F>,
    /// Derivative of the activation including the dropout multiplier; after back-propagation the derivative of the
    /// loss with respect to LayerNorm's output.
    pub(crate) slope: Vec<F>,
    /// Output of the layer.
    pub(crate) activation: Vec<F>,
    /// Derivative of the loss with respect to the linear map's output.
    pub(crate) delta: Vec<F>,
    /// Dropout multipliers of one row.
    pub(crate) mask: Vec<F>,
}

// By hand: a derive would ask for `F: Default`.
impl<F> Default for Tape<F> {
    fn default() -> Self {
        Self { rows: 0, layers: Vec::new(), weights: Weights::default() }
    }
}

impl<F> Default for LayerTape<F> {
    fn default() -> Self {
        Self {
            normalized: Vec::new(),
            scale: Vec::new(),
            slope: Vec::new(),
            activation: Vec::new(),
            delta: Vec::new(),
            mask: Vec::new(),
        }
    }
}

impl<F: Real> Tape<F> {
    /// Makes room for `rows` rows of these layers.
    pub(crate) fn prepare(&mut self, layers: &[Layer], rows: usize) {
        self.rows = rows;
        self.layers.resize_with(layers.len(), LayerTape::default);
        for (index, (tape, layer)) in self.layers.iter_mut().zip(layers).enumerate() {
            let size = rows * layer.outputs;
            tape.activation.resize(size, F::zero());
            tape.delta.resize(size, F::zero());
            if index + 1 < layers.len() {
                tape.normalized.resize(size, F::zero());
                tape.scale.resize(rows, F::zero());
                tape.slope.resize(size, F::zero());
            }
        }
    }

    /// Output of the last forward pass, `[rows, outputs]` row-major.
    pub(crate) fn output(&self) -> &[F] {
        self.layers.last().map_or(&[], |layer| &layer.activation)
    }

    /// Last hidden layer of the last forward pass, `[rows, width]`; `None` for a network without hidden layers.
    pub(crate) fn hidden(&self) -> Option<&[F]> {
        let index = self.layers.len().checked_sub(2)?;
        Some(&self.layers[index].activation)
    }
}
