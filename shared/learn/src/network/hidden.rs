//! The elementwise part of a hidden layer: bias, LayerNorm, GELU and dropout, forward and backward, row by row.

use pulp::{Simd, WithSimd};

use super::dropout::{Dropout, MASK_BLOCK};
use super::tape::LayerTape;
use super::{LAYER_NORM_EPSILON, Layer};
use crate::kernel::{add_and_sum, center_and_scale, scale_and_sum, squares_about};
use crate::real::Real;

/// From the linear map's output in `normalized` (without bias) to `normalized`, `scale`, `slope` and `activation`.
pub(super) struct Forward<'a, F> {
    pub(super) layer: &'a Layer,
    pub(super) params: &'a [F],
    /// Dropout, and the index of the layer.
    pub(super) dropout: Option<(Dropout, usize)>,
    pub(super) tape: &'a mut LayerTape<F>,
}

/// Rows whose statistics are computed before their activations, so that the sums of one row need not wait for the last.
const ROWS: usize = 8;

impl<F: Real> WithSimd for Forward<'_, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { layer, params, dropout, tape } = self;
        let width = layer.outputs;
        let bias = &params[layer.bias.clone()];
        let affine =
            layer.norm.as_ref().map(|norm| (&params[norm.gain.clone()], &params[norm.shift.clone()]));
        if dropout.is_some() {
            tape.mask.resize(width.next_multiple_of(MASK_BLOCK), F::zero());
        }
        let chunks = tape
            .normalized
            .chunks_mut(ROWS * width)
            .zip(tape.slope.chunks_mut(ROWS * width))
            .zip(tape.activation.chunks_mut(ROWS * width))
            .zip(tape.scale.chunks_mut(ROWS))
            .enumerate();
        for (chunk, (((normalized, slope), activation), scale)) in chunks {
            let mut means = [F::zero(); ROWS];
            for ((row, mean), scale) in normalized.chunks_exact_mut(width).zip(&mut means).zip(&mut *scale) {
                *mean = add_and_sum(simd, row, bias) / F::of(width as f64);
                if affine.is_some() {
                    *scale = deviation(simd, *mean, row).recip();
                }
            }
            let rows = normalized.chunks_exact_mut(width).zip(slope.chunks_exact_mut(width));
            let rows =
                rows.zip(activation.chunks_exact_mut(width)).zip(means.iter().zip(&*scale)).enumerate();
            for (row, (((normalized, slope), activation), (&mean, &scale))) in rows {
                if let Some((dropout, index)) = dropout {
                    dropout.fill(simd, index, chunk * ROWS + row, &mut tape.mask);
                }
                let norm = affine.map(|(gain, shift)| Norm { mean, scale, gain, shift });
                let mask = dropout.is_some().then_some(&tape.mask[..]);
                activate(simd, Constants { norm, mask }, Row { normalized, slope, activation });
            }
        }
    }
}

/// From the derivative with respect to the layer's output in `delta` to the derivative with respect to LayerNorm's
/// output in `slope` and with respect to the linear map's output in `delta`.
pub(super) struct Backward<'a, F> {
    pub(super) layer: &'a Layer,
    pub(super) params: &'a [F],
    pub(super) tape: &'a mut LayerTape<F>,
}

impl<F: Real> WithSimd for Backward<'_, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { layer, params, tape } = self;
        let width = layer.outputs;
        let rows = tape
            .delta
            .chunks_exact_mut(width)
            .zip(tape.slope.chunks_exact_mut(width))
            .zip(tape.normalized.chunks_exact(width))
            .zip(&tape.scale);
        let gain = layer.norm.as_ref().map(|norm| &params[norm.gain.clone()]);
        for (((delta, slope), normalized), &scale) in rows {
            match gain {
                Some(gain) => normalize_backward(simd, gain, slope, normalized, scale, delta),
                None => {
                    for (slope, delta) in slope.iter_mut().zip(delta) {
                        *slope *= *delta;
                        *delta = *slope;
                    }
                }
            }
        }
    }
}

/// Square root of the variance of a row, and of a little more.
#[inline(always)]
fn deviation<F: Real, S: Simd>(simd: S, mean: F, row: &[F]) -> F {
    let variance = squares_about(simd, mean, row) / F::of(row.len() as f64);
    (variance + F::of(LAYER_NORM_EPSILON)).sqrt()
}

/// What a row is activated with.
#[derive(Clone, Copy)]
struct Constants<'a, F> {
    /// Mean and one over the deviation of the row, gain and shift of the layer; `None` without LayerNorm.
    norm: Option<Norm<'a, F>>,
    /// Dropout multipliers of the row.
    mask: Option<&'a [F]>,
}

#[derive(Clone, Copy)]
struct Norm<'a, F> {
    mean: F,
    scale: F,
    gain: &'a [F],
    shift: &'a [F],
}

/// Values of one row.
struct Row<'a, F> {
    normalized: &'a mut [F],
    slope: &'a mut [F],
    activation: &'a mut [F],
}

/// Centers and scales a row in place, then GELU of `x gain + shift` and its slope, both times the dropout multiplier.
#[inline(always)]
fn activate<F: Real, S: Simd>(simd: S, constants: Constants<'_, F>, row: Row<'_, F>) {
    let Row { normalized, slope, activation } = row;
    let whole = F::whole::<S>(normalized).len();
    let vectors = F::whole_mut::<S>(normalized).iter_mut();
    let vectors = vectors.zip(F::whole_mut::<S>(slope)).zip(F::whole_mut::<S>(activation)).enumerate();
    for (index, ((x, slope), activation)) in vectors {
        (*x, *activation, *slope) = activate_vector(simd, constants, index, *x);
    }
    let first = whole * F::lanes::<S>();
    if first < normalized.len() {
        let x = F::load(simd, &normalized[first..]);
        let (x, value, derivative) = activate_vector(simd, constants.from(first), 0, x);
        F::store(simd, &mut normalized[first..], x);
        F::store(simd, &mut activation[first..], value);
        F::store(simd, &mut slope[first..], derivative);
    }
}

/// Normalized value, activation and slope of one vector of a row: the vector `index`, which may be partial.
#[inline(always)]
fn activate_vector<F: Real, S: Simd>(
    simd: S,
    constants: Constants<'_, F>,
    index: usize,
    mut x: F::Vector<S>,
) -> (F::Vector<S>, F::Vector<S>, F::Vector<S>) {
    let mut argument = x;
    if let Some(Norm { mean, scale, gain, shift }) = constants.norm {
        x = F::times(simd, F::minus(simd, x, F::splat(simd, mean)), F::splat(simd, scale));
        argument = F::fused(simd, x, vector(simd, gain, index), vector(simd, shift, index));
    }
    let (mut activation, mut slope) = F::gelu(simd, argument);
    if let Some(mask) = constants.mask {
        let mask = vector(simd, mask, index);
        activation = F::times(simd, activation, mask);
        slope = F::times(simd, slope, mask);
    }
    (x, activation, slope)
}

/// A whole vector of a slice, or the partial one at its end.
#[inline(always)]
fn vector<F: Real, S: Simd>(simd: S, values: &[F], index: usize) -> F::Vector<S> {
    match F::whole::<S>(values).get(index) {
        Some(&vector) => vector,
        None => F::load(simd, &values[index * F::lanes::<S>()..]),
    }
}

impl<F> Constants<'_, F> {
    /// The same for the values from `first` on.
    #[inline(always)]
    fn from(self, first: usize) -> Self {
        let norm =
            self.norm.map(|norm| Norm { gain: &norm.gain[first..], shift: &norm.shift[first..], ..norm });
        let mask = self.mask.map(|mask| &mask[first..]);
        Self { norm, mask }
    }
}

/// `slope = slope delta`, then `delta = scale (g - mean(g) - x mean(g x))` with `g = gain slope` and `x` the normalized row.
#[inline(always)]
fn normalize_backward<F: Real, S: Simd>(
    simd: S,
    gain: &[F],
    slope: &mut [F],
    normalized: &[F],
    scale: F,
    delta: &mut [F],
) {
    let count = F::of(delta.len() as f64);
    let (sum, product) = scale_and_sum(simd, (gain, normalized), slope, delta);
    let (mean, correlation) = (sum / count, product / count);
    center_and_scale(simd, (normalized, mean, correlation), scale, delta);
}
