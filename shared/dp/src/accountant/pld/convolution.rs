//! Composition of tilted loss distributions by Fourier transform, with a bound on its rounding.

use realfft::{RealFftPlanner, num_complex::Complex64};

use super::{losses::LossDistribution, tilt::Tilt};

/// Unit roundoff of a double.
const ROUNDOFF: f64 = 0.5 * f64::EPSILON;

/// Probabilities of the composed, tilted loss modulo the length of the window.
#[derive(Debug, Clone)]
pub(super) struct Composed {
    /// Entry `i` is the sum over all losses with grid index congruent to `i`.
    pub(super) probabilities: Vec<f64>,
    /// Bound on the error of every entry, in either direction.
    pub(super) error: f64,
}

/// Composes all steps on a cyclic grid of `length` points, a power of two.
///
/// # Error bound
///
/// In a Cooley-Tukey transform every output is a sum over a tree of `log2 length` levels of inputs times factors of
/// modulus one, so its error is at most `γ` times the sum of the inputs' moduli with `γ` a small multiple of the levels
/// times the roundoff (Higham 2002, section 24.1); 16 is more than enough for the factors of the implementation. Folding a
/// step that is `w` times as long as the grid onto it sums up to `w + 1` nonnegative numbers per point, a relative `w`
/// roundoffs, which join that step's `γ`. Raising to the `k`-th power by repeated squaring adds a relative `5 k` roundoffs. With `B` the product of `(|z| + γ)^k` over the
/// steps, the spectrum's error is at most `B · Σ k (γ/(|z|+γ) + 5u)`, and the inverse transform averages it and adds `γ B`.
///
/// Returns `None` if the transform refuses its buffers, which a caller reports as no bound.
pub(super) fn compose(losses: &[LossDistribution], tilt: &Tilt, length: usize) -> Option<Composed> {
    let mut planner = RealFftPlanner::<f64>::new();
    let (forward, inverse) = (planner.plan_fft_forward(length), planner.plan_fft_inverse(length));
    let gamma = 16.0 * ROUNDOFF * (length as f64).log2().max(1.0);
    let mut product = Spectrum::ones(length / 2 + 1);
    let (mut signal, mut transform) = (forward.make_input_vec(), forward.make_output_vec());
    for (losses, &log_moment) in losses.iter().zip(&tilt.log_moments) {
        fold(losses, tilt.value, log_moment, &mut signal);
        forward.process(&mut signal, &mut transform).ok()?;
        product.multiply(&transform, losses.steps, gamma + folding_error(losses, length));
    }
    let error = product.error(gamma);
    // Rounding may leave an imaginary trace where a real signal has none.
    product.values[0].im = 0.0;
    product.values[length / 2].im = 0.0;
    inverse.process(&mut product.values, &mut signal).ok()?;
    let scale = (length as f64).recip();
    signal.iter_mut().for_each(|value| *value *= scale);
    Some(Composed { probabilities: signal, error })
}

/// Writes one tilted step onto the cyclic grid.
fn fold(losses: &LossDistribution, tilt: f64, log_moment: f64, signal: &mut [f64]) {
    signal.fill(0.0);
    let length = signal.len() as i64;
    for (index, p) in losses.tilted(tilt, log_moment) {
        signal[index.rem_euclid(length) as usize] += p;
    }
}

/// Bound on the relative error of the sums in [`fold`].
fn folding_error(losses: &LossDistribution, length: usize) -> f64 {
    ROUNDOFF * losses.probabilities.len() as f64 / length as f64
}

/// A product of powers of transforms, with what its error bound needs.
struct Spectrum {
    values: Vec<Complex64>,
    /// `B` of [`compose`].
    bounds: Vec<f64>,
    /// `Σ k (γ/(|z|+γ) + 5u)` of [`compose`].
    relative_errors: Vec<f64>,
}

impl Spectrum {
    fn ones(length: usize) -> Self {
        Self {
            values: vec![Complex64::new(1.0, 0.0); length],
            bounds: vec![1.0; length],
            relative_errors: vec![0.0; length],
        }
    }

    /// Multiplies by the `steps`-th power of a step's transform.
    fn multiply(&mut self, transform: &[Complex64], steps: f64, gamma: f64) {
        let frequencies = self.values.iter_mut().zip(&mut self.bounds).zip(&mut self.relative_errors);
        for (&z, ((value, bound), relative)) in transform.iter().zip(frequencies) {
            let modulus = z.norm() + gamma;
            *value *= power(z, steps as u64);
            *bound *= modulus.powf(steps);
            *relative += steps * (gamma / modulus + 5.0 * ROUNDOFF);
        }
    }

    /// Bound on the error of each value of the inverse transform.
    fn error(&self, gamma: f64) -> f64 {
        let at = |bound: &f64, relative: &f64| bound * (relative + gamma);
        let half: f64 = self.bounds.iter().zip(&self.relative_errors).map(|(b, r)| at(b, r)).sum();
        // The other half of the spectrum is the conjugate; the mean over all frequencies is at most this.
        2.0 * half / (2 * (self.bounds.len() - 1)) as f64
    }
}

/// `z^exponent` by repeated squaring.
fn power(z: Complex64, mut exponent: u64) -> Complex64 {
    let (mut base, mut result) = (z, Complex64::new(1.0, 0.0));
    while exponent > 0 {
        if exponent & 1 == 1 {
            result *= base;
        }
        base *= base;
        exponent >>= 1;
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Many cells on few points: without the sums' own share the bound would be below the error.
    #[test]
    fn the_error_covers_folding_onto_a_short_grid() {
        let cells = 200_000;
        let losses = LossDistribution {
            interval: 1e-3,
            first: 0,
            probabilities: vec![5e-6; cells],
            at_infinity: 0.0,
            uncertainty: 0.0,
            steps: 1.0,
        };
        let mut signal = [0.0; 2];
        fold(&losses, 0.0, 0.0, &mut signal);
        let error = (2.0 * signal[0] - 1.0).abs();
        assert!(error > 32.0 * ROUNDOFF, "{error}");
        assert!(error < folding_error(&losses, 2), "{error}");
    }
}
