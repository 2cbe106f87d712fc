//! The exponential tilt under which a composition is computed.
//!
//! Summing tiny tail probabilities with a transform whose errors are relative to the largest probability would lose
//! them. So every step's distribution is tilted, `p_i e^(λ L_i) / E[e^(λL)]`, with the `λ` whose moment bound on epsilon
//! is best: under it the losses that decide delta are the likely ones (the saddle point of Alghamdi et al. 2023, arXiv
//! 2208.09595). The tilt is undone exactly after composition, and any tilt gives a valid bound.

use super::losses::LossDistribution;
use crate::accountant::{rdp::conversion, search};

/// Least and greatest `ln λ` that are tried.
const LOG_TILTS: (f64, f64) = (-12.0, 21.0);

/// A tilt with what is known about the composition under it.
#[derive(Debug, Clone)]
pub(super) struct Tilt {
    /// `λ`.
    pub(super) value: f64,
    /// `ln E[e^(λL)]` of one step, for each distribution.
    pub(super) log_moments: Vec<f64>,
    /// The same for the whole composition.
    pub(super) log_moment: f64,
    /// The epsilon that the moment alone proves.
    pub(super) epsilon: f64,
    /// Mean of the composed loss under the tilt.
    mean: f64,
    /// Its variance.
    variance: f64,
}

impl Tilt {
    /// The tilt with the least moment bound on epsilon at `delta`.
    pub(super) fn best(losses: &[LossDistribution], delta: f64) -> Self {
        let bound = |log_tilt: f64| {
            let tilt = log_tilt.exp();
            (composed_log_moment(losses, tilt) + conversion(tilt) - delta.ln()) / tilt
        };
        let best = search::minimum(LOG_TILTS, 34, 12, bound);
        let value = best.at.exp();
        let log_moments: Vec<f64> = losses.iter().map(|losses| losses.log_moment(value)).collect();
        let (mut log_moment, mut mean, mut variance) = (0.0, 0.0, 0.0);
        for (losses, &moment) in losses.iter().zip(&log_moments) {
            let (one_mean, one_variance) = tilted_moments(losses, value, moment);
            log_moment += losses.steps * moment;
            mean += losses.steps * one_mean;
            variance += losses.steps * one_variance;
        }
        Self { value, log_moments, log_moment, epsilon: best.value.max(0.0), mean, variance }
    }

    /// A loss below which epsilon is not expected.
    pub(super) fn lower_guess(&self) -> f64 {
        (self.mean - 8.0 * self.variance.sqrt()).min(self.epsilon).max(0.0)
    }

    /// How far above epsilon a window must reach so that neither tail, folded back into it, adds more than a fraction
    /// `1e-6` to delta.
    ///
    /// Losses below the window reappear at its top with weight at most `e^(-λ span)`; the tilted mass above it reappears
    /// near its bottom and is bounded by moments of larger tilts.
    pub(super) fn span(&self, losses: &[LossDistribution], delta: f64) -> f64 {
        let log_negligible = (1e-6 * delta).ln();
        let from_below = -log_negligible / self.value;
        let from_above = [1.1, 1.3, 1.6, 2.0, 3.0, 5.0, 9.0]
            .into_iter()
            .map(|factor| {
                let larger = factor * self.value;
                let excess = composed_log_moment(losses, larger) - larger * self.epsilon - log_negligible;
                excess / (larger - self.value)
            })
            .filter(|span: &f64| !span.is_nan())
            .fold(f64::INFINITY, |least, span| least.min(span.max(0.0)));
        from_below.max(from_above.min(largest_loss(losses) - self.epsilon))
    }

    /// Bound on the probability that the composed loss is finite and at least `top` (Chernoff).
    pub(super) fn probability_above(&self, losses: &[LossDistribution], top: f64) -> f64 {
        if largest_loss(losses) < top {
            return 0.0;
        }
        [1.0, 1.3, 1.6, 2.0, 3.0, 5.0, 9.0]
            .into_iter()
            .map(|factor| factor * self.value)
            // The factor covers the rounding of the moments; NaN loses against any number.
            .map(|tilt| (composed_log_moment(losses, tilt) - tilt * top).exp() * (1.0 + 1e-6))
            .fold(1.0, f64::min)
    }
}

/// `ln E[e^(tilt L)]` of the whole composition.
fn composed_log_moment(losses: &[LossDistribution], tilt: f64) -> f64 {
    losses.iter().map(|losses| losses.steps * losses.log_moment(tilt)).sum()
}

/// The largest finite loss of the whole composition.
fn largest_loss(losses: &[LossDistribution]) -> f64 {
    losses.iter().map(|losses| losses.steps * losses.last() as f64 * losses.interval).sum()
}

/// Mean and variance of one tilted step.
fn tilted_moments(losses: &LossDistribution, tilt: f64, log_moment: f64) -> (f64, f64) {
    let (mut mean, mut square) = (0.0, 0.0);
    for (index, p) in losses.tilted(tilt, log_moment) {
        let loss = index as f64 * losses.interval;
        mean += p * loss;
        square += p * loss * loss;
    }
    (mean, (square - mean * mean).max(0.0))
}
