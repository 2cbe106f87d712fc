//! The elementwise part of a hidden layer: bias, LayerNorm, GELU and dropout, forward and backward, row by row.

use pulp::{Simd, WithSimd};

use super::tape::LayerTape;
use super::{Dropout, LAYER_NORM_EPSILON, Layer};
use crate::kernel::{add_and_sum, scale_and_sum, squares_about};
use crate::real::Real;

/// From the linear map's output in `normalized` (without bias) to `normalized`, `scale`, `slope` and `activation`.
pub(super) struct Forward<'a, F> {
    pub(super) layer: &'a Layer,
    pub(super) params: &'a [F],
    /// Dropout, and the index of the layer.
    pub(super) dropout: Option<(Dropout, usize)>,
    pub(super) tape: &'a mut LayerTape<F>,
}

impl<F: Real> WithSimd for Forward<'_, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { layer, params, dropout, tape } = self;
        let width = layer.outputs;
        let bias = &params[layer.bias.clone()];
        let affine =
            layer.norm.as_ref().map(|norm| (&params[norm.gain.clone()], &params[norm.shift.clone()]));
        let rows = tape
            .normalized
            .chunks_exact_mut(width)
            .zip(tape.slope.chunks_exact_mut(width))
            .zip(tape.activation.chunks_exact_mut(width))
            .zip(&mut tape.scale)
            .enumerate();
        for (row, (((normalized, slope), activation), scale)) in rows {
            let sum = add_and_sum(simd, normalized, bias);
            match affine {
                Some((gain, shift)) => {
                    let mean = sum / F::of(width as f64);
                    *scale = deviation(simd, mean, normalized).recip();
                    normalize(normalized, (mean, *scale), (gain, shift), activation, slope);
                }
                None => {
                    for ((&x, a), slope) in normalized.iter().zip(activation.iter_mut()).zip(slope.iter_mut())
                    {
                        (*a, *slope) = x.gelu();
                    }
                }
            }
            if let Some((dropout, index)) = dropout {
                dropout.apply(index, row, activation, slope);
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

/// Centers and scales a row in place, then GELU of `x gain + shift` and its slope.
#[inline(always)]
fn normalize<F: Real>(
    row: &mut [F],
    (mean, scale): (F, F),
    (gain, shift): (&[F], &[F]),
    activation: &mut [F],
    slope: &mut [F],
) {
    let inputs = row.iter_mut().zip(gain).zip(shift);
    for (((x, &gain), &shift), (activation, slope)) in inputs.zip(activation.iter_mut().zip(slope)) {
        *x = (*x - mean) * scale;
        (*activation, *slope) = (*x * gain + shift).gelu();
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
    for (delta, &x) in delta.iter_mut().zip(normalized) {
        *delta = scale * (*delta - mean - x * correlation);
    }
}
