//! The elementwise part of a hidden layer: bias, LayerNorm, GELU and dropout, forward and backward, row by row.

use pulp::{Simd, WithSimd};

use super::tape::LayerTape;
use super::{Dropout, LAYER_NORM_EPSILON, Layer};
use crate::kernel::{axpy, dot, sum};
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
            axpy(F::one(), bias, normalized);
            match affine {
                Some((gain, shift)) => {
                    *scale = normalize(simd, normalized);
                    stretch(normalized, gain, shift, activation);
                }
                None => activation.copy_from_slice(normalized),
            }
            for (a, slope) in activation.iter_mut().zip(slope.iter_mut()) {
                (*a, *slope) = a.gelu();
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
            for (slope, &delta) in slope.iter_mut().zip(&*delta) {
                *slope *= delta;
            }
            match gain {
                Some(gain) => normalize_backward(simd, gain, slope, normalized, scale, delta),
                None => delta.copy_from_slice(slope),
            }
        }
    }
}

/// `x gain + shift`.
#[inline(always)]
fn stretch<F: Real>(x: &[F], gain: &[F], shift: &[F], into: &mut [F]) {
    for (((into, &x), &gain), &shift) in into.iter_mut().zip(x).zip(gain).zip(shift) {
        *into = x * gain + shift;
    }
}

/// Centers and scales one row in place; returns one over the deviation.
#[inline(always)]
fn normalize<F: Real, S: Simd>(simd: S, row: &mut [F]) -> F {
    let count = F::of(row.len() as f64);
    let mean = sum(simd, row) / count;
    for value in row.iter_mut() {
        *value -= mean;
    }
    let variance = dot(simd, row, row) / count;
    let scale = (variance + F::of(LAYER_NORM_EPSILON)).sqrt().recip();
    for value in row.iter_mut() {
        *value *= scale;
    }
    scale
}

/// `delta = scale (g - mean(g) - x mean(g x))` with `g = gain * upstream` and `x` the normalized row.
#[inline(always)]
fn normalize_backward<F: Real, S: Simd>(
    simd: S,
    gain: &[F],
    upstream: &[F],
    normalized: &[F],
    scale: F,
    delta: &mut [F],
) {
    let count = F::of(delta.len() as f64);
    for ((delta, &gain), &upstream) in delta.iter_mut().zip(gain).zip(upstream) {
        *delta = gain * upstream;
    }
    let mean = sum(simd, delta) / count;
    let correlation = dot(simd, delta, normalized) / count;
    for (delta, &x) in delta.iter_mut().zip(normalized) {
        *delta = scale * (*delta - mean - x * correlation);
    }
}
