//! Low-rank adapters of linear maps.
//!
//! A network with adapters is the same network on other weights: `W + scale * A B` takes the place of `W` once per pass,
//! and everything behind it reads that. Gradients follow from those of the sum, which needs no further pass:
//!
//! ```text
//! dA = scale * dW B^T          dB = scale * A^T dW                           mean gradient
//! dA = sum_t d_t (scale B x_t)^T     dB = sum_t (scale A^T d_t) x_t^T        one unit, dW = sum_t d_t x_t^T
//! ```

use std::borrow::Cow;
use std::ops::Range;

use chacha20::ChaCha8Rng;
use rand::{Rng, SeedableRng};

use super::Model;
use super::private::Factor;
use crate::kernel::{Accumulate, Matrix, matmul, transpose};
use crate::real::Real;

/// Sets adapters apart from the network, which is drawn from the plain seed.
const STREAM: u64 = 0xada9_7e25;

/// One adapter, as ranges of the flat parameter vector.
#[derive(Debug, Clone)]
pub(crate) struct Adapter {
    /// The layer that it belongs to.
    pub(crate) layer: usize,
    pub(crate) outputs: usize,
    pub(crate) inputs: usize,
    pub(crate) rank: usize,
    pub(crate) scale: f64,
    /// Weight W of the layer.
    pub(crate) weight: Range<usize>,
    /// A, `[outputs, rank]`; starts at zero.
    pub(crate) up: Range<usize>,
    /// B, `[rank, inputs]`; starts at random.
    pub(crate) down: Range<usize>,
}

/// What one adapter makes of a layer's factors, and scratch.
pub(crate) struct AdapterRows<F> {
    /// `scale A^T d_t` of each factor, `[rows, rank]`.
    pub(crate) left: [Vec<F>; 2],
    /// `scale B x_t` of each factor, `[rows, rank]`.
    pub(crate) right: [Vec<F>; 2],
    /// Either matrix, scaled and laid out for the product.
    matrix: Vec<F>,
    scaled: Vec<F>,
}

impl<F> Default for AdapterRows<F> {
    fn default() -> Self {
        Self {
            left: [Vec::new(), Vec::new()],
            right: [Vec::new(), Vec::new()],
            matrix: Vec::new(),
            scaled: Vec::new(),
        }
    }
}

impl Adapter {
    /// Fills B with values uniform on `±1/sqrt(inputs)` that follow from the seed alone; A stays zero, so that the network is
    /// at first the one without adapters.
    fn initialise<F: Real>(&self, rng: &mut ChaCha8Rng, params: &mut [F]) {
        let bound = 1.0 / (self.inputs as f64).sqrt();
        for value in &mut params[self.down.clone()] {
            let uniform = (rng.next_u64() >> 11) as f64 * 2.0_f64.powi(-53);
            *value = F::of(bound * (2.0 * uniform - 1.0));
        }
    }

    fn up<'p, F>(&self, params: &'p [F]) -> Matrix<'p, F> {
        Matrix::new(&params[self.up.clone()], self.outputs, self.rank)
    }

    fn down<'p, F>(&self, params: &'p [F]) -> Matrix<'p, F> {
        Matrix::new(&params[self.down.clone()], self.rank, self.inputs)
    }

    /// Adds `scale A B` to the weight.
    fn fold<F: Real>(&self, params: &mut [F]) {
        let mut product = vec![F::zero(); self.outputs * self.inputs];
        matmul(self.up(params), self.down(params), &mut product, Accumulate::Replace);
        let scale = F::of(self.scale);
        for (weight, value) in params[self.weight.clone()].iter_mut().zip(product) {
            *weight += scale * value;
        }
    }

    /// Writes the gradients of A and B that follow from the weight's.
    fn follow<F: Real>(&self, params: &[F], gradient: &mut [F]) {
        let scale = F::of(self.scale);
        let mut of_weight = gradient[self.weight.clone()].to_vec();
        of_weight.iter_mut().for_each(|value| *value *= scale);
        let of_weight = Matrix::new(&of_weight, self.outputs, self.inputs);
        let mut transposed = Vec::new();
        transpose(&params[self.down.clone()], self.rank, self.inputs, &mut transposed);
        let down = Matrix::new(&transposed, self.inputs, self.rank);
        matmul(of_weight, down, &mut gradient[self.up.clone()], Accumulate::Replace);
        matmul(self.up(params).t(), of_weight, &mut gradient[self.down.clone()], Accumulate::Replace);
    }

    /// Computes the adapter's sides of a layer's factors.
    pub(crate) fn rows<F: Real>(&self, params: &[F], factors: &[Factor<'_, F>], rows: &mut AdapterRows<F>) {
        let AdapterRows { left, right, matrix, scaled } = rows;
        let scale = F::of(self.scale);
        let scale_of = |range: &Range<usize>, scaled: &mut Vec<F>| {
            scaled.clear();
            scaled.extend(params[range.clone()].iter().map(|&value| scale * value));
        };
        scale_of(&self.up, scaled);
        for (factor, into) in factors.iter().zip(left) {
            let count = factor.left.len() / self.outputs;
            into.resize(count * self.rank, F::zero());
            let up = Matrix::new(scaled, self.outputs, self.rank);
            matmul(Matrix::new(factor.left, count, self.outputs), up, into, Accumulate::Replace);
        }
        scale_of(&self.down, scaled);
        transpose(scaled, self.rank, self.inputs, matrix);
        for (factor, into) in factors.iter().zip(right) {
            let count = factor.right.len() / self.inputs;
            into.resize(count * self.rank, F::zero());
            let down = Matrix::new(matrix, self.inputs, self.rank);
            matmul(Matrix::new(factor.right, count, self.inputs), down, into, Accumulate::Replace);
        }
    }
}

impl Model {
    /// The parameters that passes read: with adapters, their products added to the weights; else as they are.
    ///
    /// # Panics
    /// If `params` is shorter than [`Self::parameters`].
    pub(crate) fn effective<'p, F: Real>(&self, params: &'p [F]) -> Cow<'p, [F]> {
        if self.adapters.is_empty() {
            return Cow::Borrowed(params);
        }
        let mut folded = params.to_vec();
        self.adapters.iter().for_each(|adapter| adapter.fold(&mut folded));
        Cow::Owned(folded)
    }

    /// Fills the adapters of initial parameters.
    pub(super) fn initialise_adapters<F: Real>(&self, seed: u64, params: &mut [F]) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed ^ STREAM);
        self.adapters.iter().for_each(|adapter| adapter.initialise(&mut rng, params));
    }

    /// Completes a mean gradient over all coordinates by that of the adapters.
    pub(super) fn follow_adapters<F: Real>(&self, params: &[F], gradient: &mut [F]) {
        self.adapters.iter().for_each(|adapter| adapter.follow(params, gradient));
    }
}
