//! Back-propagation.

use ndarray::ArrayView2;
use pulp::{Arch, Simd, WithSimd};

use super::tape::LayerTape;
use super::{Layer, Mlp, NetworkError, Tape, hidden};
use crate::kernel::{Accumulate, Matrix, add_columns, axpy, matmul};
use crate::real::Real;

impl Mlp {
    /// Adds to `gradient` `[P]` the derivative of a loss whose derivative with respect to the output is `d_output`
    /// `[N, O]`.
    ///
    /// `params`, `input` and `tape` are those of the forward pass before; a tape serves one backward pass.
    ///
    /// # Errors
    /// A size that does not fit the network or the tape's forward pass, or a matrix that is not row-major.
    pub fn backward<F: Real>(
        &self,
        params: &[F],
        input: ArrayView2<'_, F>,
        d_output: ArrayView2<'_, F>,
        tape: &mut Tape<F>,
        gradient: &mut [F],
    ) -> Result<(), NetworkError> {
        let matrix = self.check(params, input)?;
        let size = |what, unit, expected, found| NetworkError::Size { what, unit, expected, found };
        if tape.rows != input.nrows() || tape.layers.len() != self.layers().len() {
            return Err(size("input", "rows", tape.rows, input.nrows()));
        }
        if d_output.dim() != (tape.rows, self.outputs()) {
            return Err(size("output derivative", "values", tape.output().len(), d_output.len()));
        }
        if gradient.len() != self.parameters() {
            return Err(size("gradient", "values", self.parameters(), gradient.len()));
        }
        let d_output = d_output.to_slice().ok_or(NetworkError::Strided { what: "output derivative" })?;
        self.propagate(params, d_output, None, tape);
        self.accumulate(matrix, tape, gradient);
        Ok(())
    }

    /// Fills `delta` and `slope` of every layer from the derivative with respect to the output, and, if given, a
    /// further derivative with respect to the last hidden layer.
    pub(crate) fn propagate<F: Real>(
        &self,
        params: &[F],
        d_output: &[F],
        d_hidden: Option<&[F]>,
        tape: &mut Tape<F>,
    ) {
        let rows = tape.rows;
        let last = self.layers().len() - 1;
        tape.layers[last].delta.copy_from_slice(d_output);
        for index in (0..last).rev() {
            let next = &self.layers()[index + 1];
            let (before, after) = tape.layers.split_at_mut(index + 1);
            let current = &mut before[index];
            let upstream = Matrix::new(&after[0].delta, rows, next.outputs);
            let weight = Matrix::new(&params[next.weight.clone()], next.outputs, next.inputs);
            matmul(upstream, weight, &mut current.delta, Accumulate::Replace);
            if let (Some(d_hidden), true) = (d_hidden, index + 1 == last) {
                axpy(F::one(), d_hidden, &mut current.delta);
            }
            let layer = &self.layers()[index];
            Arch::new().dispatch(hidden::Backward { layer, params, tape: current });
        }
    }

    /// Adds the gradient over all rows of a propagated tape.
    pub(crate) fn accumulate<F: Real>(&self, input: Matrix<'_, F>, tape: &Tape<F>, gradient: &mut [F]) {
        for (index, layer) in self.layers().iter().enumerate() {
            let source = match index.checked_sub(1) {
                None => input,
                Some(previous) => Matrix::new(&tape.layers[previous].activation, tape.rows, layer.inputs),
            };
            let values = &tape.layers[index];
            let delta = Matrix::new(&values.delta, tape.rows, layer.outputs);
            matmul(delta.t(), source, &mut gradient[layer.weight.clone()], Accumulate::Add);
            Arch::new().dispatch(Vectors { layer, tape: values, gradient });
        }
    }
}

/// Adds the gradients of bias, gain and shift.
struct Vectors<'a, F> {
    layer: &'a Layer,
    tape: &'a LayerTape<F>,
    gradient: &'a mut [F],
}

impl<F: Real> WithSimd for Vectors<'_, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { layer, tape, gradient } = self;
        add_columns(simd, &tape.delta, None, &mut gradient[layer.bias.clone()]);
        let Some(norm) = &layer.norm else { return };
        add_columns(simd, &tape.slope, Some(&tape.normalized), &mut gradient[norm.gain.clone()]);
        add_columns(simd, &tape.slope, None, &mut gradient[norm.shift.clone()]);
    }
}
