//! Composition of tilted loss distributions by Fourier transform, with a bound on its rounding.

use std::{cell::RefCell, sync::Arc};

use realfft::{ComplexToReal, RealFftPlanner, num_complex::Complex64};

use super::tilt::TiltedStep;

/// Unit roundoff of a double.
const ROUNDOFF: f64 = 0.5 * f64::EPSILON;
/// Frequencies whose modulus is below `e^` this count as error alone.
const LEAST_LOG_MODULUS: f64 = -90.0;

thread_local! {
    /// Keeps the factors of transforms, which cost more than a transform.
    static PLANNER: RefCell<RealFftPlanner<f64>> = RefCell::new(RealFftPlanner::new());
}

/// Probabilities of the composed, tilted loss modulo the length of the window.
#[derive(Debug, Clone)]
pub(super) struct Composed {
    /// Entry `i` is the sum over all losses with grid index congruent to `i`.
    pub(super) probabilities: Vec<f64>,
    /// Bound on the error of every entry, in either direction.
    pub(super) error: f64,
}

/// The transforms of all kinds of steps on a cyclic grid, from which any number of steps is composed.
///
/// # Error bound
///
/// In a Cooley-Tukey transform every output is a sum over a tree of `log2 length` levels of inputs times factors of
/// modulus one, so its error is at most `γ` times the sum of the inputs' moduli with `γ` a small multiple of the levels
/// times the roundoff (Higham 2002, section 24.1); 16 is more than enough for the factors of the implementation. Folding
/// a step that is `w` times as long as the grid onto it sums up to `w + 1` nonnegative numbers per point, a relative `w`
/// roundoffs, which join that step's `γ`. Raising to the `k`-th power by repeated squaring adds a relative `5 k`
/// roundoffs. With `B` the product of `(|z| + γ)^k` over the steps, the spectrum's error is at most
/// `B · Σ k (γ/(|z|+γ) + 5u)`, and the inverse transform averages it and adds `γ B`. A frequency that is set to zero has
/// an error of at most `B`.
pub(super) struct Transforms {
    length: usize,
    /// `γ` of the transform itself.
    gamma: f64,
    inverse: Arc<dyn ComplexToReal<f64>>,
    kinds: Vec<Transform>,
}

/// The transform of one kind of step.
struct Transform {
    values: Vec<Complex64>,
    /// `ln(|z| + γ)`.
    log_moduli: Vec<f64>,
    /// `γ` of this transform, its folding included.
    gamma: f64,
}

impl Transforms {
    /// Transforms on a grid of `length` points, a power of two.
    ///
    /// Returns `None` if the transform refuses its buffers, which a caller reports as no bound.
    pub(super) fn new(steps: &[TiltedStep], tilt: f64, length: usize) -> Option<Self> {
        let (forward, inverse) = PLANNER
            .with_borrow_mut(|planner| (planner.plan_fft_forward(length), planner.plan_fft_inverse(length)));
        let gamma = 16.0 * ROUNDOFF * (length as f64).log2().max(1.0);
        let mut signal = forward.make_input_vec();
        let kind = |step: &TiltedStep| {
            fold(step.tilted(tilt), &mut signal);
            let mut values = forward.make_output_vec();
            forward.process(&mut signal, &mut values).ok()?;
            Some(Transform::new(values, gamma + folding_error(step.losses.probabilities.len(), length)))
        };
        let kinds = steps.iter().map(kind).collect::<Option<_>>()?;
        Some(Self { length, gamma, inverse, kinds })
    }

    /// Number of points.
    pub(super) fn length(&self) -> usize {
        self.length
    }

    /// Numbers kept.
    pub(super) fn size(&self) -> usize {
        3 * self.kinds.len() * (self.length / 2 + 1)
    }

    /// Composes `counts[k]` steps of each kind `k`; `None` if the transform refuses its buffers.
    pub(super) fn compose(&self, counts: &[u64]) -> Option<Composed> {
        let bounds = self.bounds(counts);
        let (mut values, error) = self.spectrum(counts, &bounds);
        // Rounding may leave an imaginary trace where a real signal has none.
        values[0].im = 0.0;
        values[self.length / 2].im = 0.0;
        let mut probabilities = self.inverse.make_output_vec();
        self.inverse.process(&mut values, &mut probabilities).ok()?;
        let scale = (self.length as f64).recip();
        probabilities.iter_mut().for_each(|value| *value *= scale);
        Some(Composed { probabilities, error })
    }

    /// Logarithm of `B` at each frequency.
    fn bounds(&self, counts: &[u64]) -> Vec<f64> {
        let mut bounds = vec![0.0; self.length / 2 + 1];
        let mut steps = 0.0;
        for (kind, &count) in self.kinds.iter().zip(counts) {
            steps += count as f64;
            for (bound, modulus) in bounds.iter_mut().zip(&kind.log_moduli) {
                *bound += count as f64 * modulus;
            }
        }
        // Each logarithm is near zero with an absolute error, or else far from it with a relative one.
        let rounding = 8.0 * f64::EPSILON * (steps + 1.0);
        bounds.iter_mut().for_each(|bound| *bound += rounding + 4.0 * f64::EPSILON * bound.abs());
        bounds
    }

    /// The product of all powers, and a bound on the error of each value of its inverse transform.
    fn spectrum(&self, counts: &[u64], bounds: &[f64]) -> (Vec<Complex64>, f64) {
        let mut sum = 0.0;
        let values = bounds
            .iter()
            .enumerate()
            .map(|(frequency, bound)| {
                // Also what is not a number is multiplied out, so that it shows.
                if *bound < LEAST_LOG_MODULUS {
                    sum += bound.exp();
                    return Complex64::new(0.0, 0.0);
                }
                let (mut value, mut relative) = (Complex64::new(1.0, 0.0), self.gamma);
                for (kind, &count) in self.kinds.iter().zip(counts) {
                    value *= power(kind.values[frequency], count);
                    relative += count as f64 * kind.relative_error(frequency);
                }
                sum += bound.exp() * relative;
                value
            })
            .collect();
        // The other half of the spectrum is the conjugate; the mean over all frequencies is at most this.
        (values, 2.0 * sum * (1.0 + 1e-9) / self.length as f64)
    }
}

impl Transform {
    fn new(values: Vec<Complex64>, gamma: f64) -> Self {
        let log_moduli = values.iter().map(|&z| (modulus(z) + gamma).ln()).collect();
        Self { values, log_moduli, gamma }
    }

    /// `γ/(|z|+γ) + 5u`.
    fn relative_error(&self, frequency: usize) -> f64 {
        self.gamma / (modulus(self.values[frequency]) + self.gamma) + 5.0 * ROUNDOFF
    }
}

/// Probabilities have transforms of modulus one at most, so squares do not overflow.
fn modulus(z: Complex64) -> f64 {
    (z.re * z.re + z.im * z.im).sqrt()
}

/// Writes one tilted step onto the cyclic grid.
fn fold(tilted: impl Iterator<Item = (i64, f64)>, signal: &mut [f64]) {
    signal.fill(0.0);
    let length = signal.len() as i64;
    for (index, p) in tilted {
        signal[index.rem_euclid(length) as usize] += p;
    }
}

/// Bound on the relative error of the sums in [`fold`].
fn folding_error(cells: usize, length: usize) -> f64 {
    ROUNDOFF * cells as f64 / length as f64
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
        let mut signal = [0.0; 2];
        fold((0..cells).map(|index| (index, 5e-6)), &mut signal);
        let error = (2.0 * signal[0] - 1.0).abs();
        assert!(error > 32.0 * ROUNDOFF, "{error}");
        assert!(error < folding_error(cells as usize, 2), "{error}");
    }
}
