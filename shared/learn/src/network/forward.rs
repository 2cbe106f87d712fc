//! Forward pass.

use ndarray::ArrayView2;
use pulp::Arch;

use super::tape::Weights;
use super::{Dropout, Mlp, NetworkError, Tape, hidden};
use crate::kernel::{Accumulate, Matrix, matmul};
use crate::real::Real;

impl Mlp {
    /// Output `[N, O]` for the input `[N, I]`.
    ///
    /// `params` holds [`Self::parameters`] values; `dropout` is `None` outside training. The tape keeps what
    /// [`Self::backward`] needs and lends the output.
    ///
    /// # Errors
    /// A size that does not fit the network, or an input that is not row-major and contiguous.
    pub fn forward<'t, F: Real>(
        &self,
        params: &[F],
        input: ArrayView2<'_, F>,
        dropout: Option<Dropout>,
        tape: &'t mut Tape<F>,
    ) -> Result<ArrayView2<'t, F>, NetworkError> {
        let matrix = self.check(params, input)?;
        let mut weights = std::mem::take(&mut tape.weights);
        weights.load(self, params);
        self.run(params, &weights, matrix, dropout, tape);
        tape.weights = weights;
        let shape = (input.nrows(), self.outputs());
        ArrayView2::from_shape(shape, tape.output()).map_err(|_| NetworkError::Strided { what: "output" })
    }

    /// [`Self::forward`] on arguments that were checked and the weights of these parameters.
    pub(crate) fn run<F: Real>(
        &self,
        params: &[F],
        weights: &Weights<F>,
        input: Matrix<'_, F>,
        dropout: Option<Dropout>,
        tape: &mut Tape<F>,
    ) {
        let rows = input.rows();
        tape.prepare(self.layers(), rows);
        let last = self.layers().len() - 1;
        for (index, layer) in self.layers().iter().enumerate() {
            let (before, after) = tape.layers.split_at_mut(index);
            let tape = &mut after[0];
            let source = match before.last() {
                None => input,
                Some(previous) => Matrix::new(&previous.activation, rows, layer.inputs),
            };
            let target = if index == last { &mut tape.activation } else { &mut tape.normalized };
            let weight = Matrix::new(&weights.0[index], layer.inputs, layer.outputs);
            matmul(source, weight, target, Accumulate::Replace);
            if index == last {
                add_bias(&params[layer.bias.clone()], target);
            } else {
                let dropout = dropout.map(|dropout| (dropout, index));
                Arch::new().dispatch(hidden::Forward { layer, params, dropout, tape });
            }
        }
    }

    /// Checks the sizes of parameters and input, and lends the input's values.
    pub(crate) fn check<'a, F: Real>(
        &self,
        params: &[F],
        input: ArrayView2<'a, F>,
    ) -> Result<Matrix<'a, F>, NetworkError> {
        let size = |what, unit, expected, found| {
            if expected == found { Ok(()) } else { Err(NetworkError::Size { what, unit, expected, found }) }
        };
        size("parameter vector", "values", self.parameters(), params.len())?;
        size("input", "columns", self.inputs(), input.ncols())?;
        let values = input.to_slice().ok_or(NetworkError::Strided { what: "input" })?;
        Ok(Matrix::new(values, input.nrows(), input.ncols()))
    }
}

fn add_bias<F: Real>(bias: &[F], rows: &mut [F]) {
    for row in rows.chunks_exact_mut(bias.len()) {
        for (value, &bias) in row.iter_mut().zip(bias) {
            *value += bias;
        }
    }
}
