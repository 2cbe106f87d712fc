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

/// Multiples of the tilt at which moments are kept, for Chernoff bounds on both tails of the tilted loss.
const FACTORS: [f64; 12] = [0.0, 0.4, 0.7, 0.9, 1.0, 1.1, 1.3, 1.6, 2.0, 3.0, 5.0, 9.0];
/// Place of the tilt itself among [`FACTORS`].
const SELF: usize = 4;

/// The tilt with the least moment bound on epsilon at `delta`, for as many steps of each kind as `counts` says.
pub(super) fn best_tilt(losses: &[LossDistribution], counts: &[u64], delta: f64) -> f64 {
    let bound = |log_tilt: f64| {
        let tilt = log_tilt.exp();
        let log_moment: f64 = losses.iter().zip(counts).map(|(l, &n)| n as f64 * l.log_moment(tilt)).sum();
        moment_bound(log_moment, tilt, delta)
    };
    search::minimum(LOG_TILTS, 34, 12, bound).at.exp()
}

/// The epsilon that `ln E[e^(λL)]` alone proves.
fn moment_bound(log_moment: f64, tilt: f64, delta: f64) -> f64 {
    (log_moment + conversion(tilt) - delta.ln()) / tilt
}

/// One kind of step under a tilt.
#[derive(Debug, Clone)]
pub(super) struct TiltedStep {
    /// The distribution, not tilted.
    pub(super) losses: LossDistribution,
    /// `ln E[e^(f λ L); L finite]` for each of [`FACTORS`].
    log_moments: [f64; FACTORS.len()],
    mean: f64,
    variance: f64,
}

impl TiltedStep {
    pub(super) fn new(losses: LossDistribution, tilt: f64) -> Self {
        let log_moments = FACTORS.map(|factor| losses.log_moment(factor * tilt));
        let (mut mean, mut square) = (0.0, 0.0);
        for (index, p) in losses.tilted(tilt, log_moments[SELF]) {
            let loss = index as f64 * losses.interval;
            mean += p * loss;
            square += p * loss * loss;
        }
        Self { losses, log_moments, mean, variance: (square - mean * mean).max(0.0) }
    }

    /// Grid index and probability of each tilted loss.
    pub(super) fn tilted(&self, tilt: f64) -> impl Iterator<Item = (i64, f64)> + '_ {
        self.losses.tilted(tilt, self.log_moments[SELF])
    }
}

/// What is known about a composition under its tilt without composing it.
#[derive(Debug, Clone)]
pub(super) struct TiltedSum {
    /// `λ`.
    pub(super) tilt: f64,
    /// The epsilon that the moment at the tilt proves.
    pub(super) epsilon: f64,
    log_moments: [f64; FACTORS.len()],
    mean: f64,
    variance: f64,
    /// The largest finite loss.
    largest: f64,
}

impl TiltedSum {
    /// The sum of `counts[k]` steps of each kind `k`.
    pub(super) fn of(steps: &[TiltedStep], counts: &[u64], tilt: f64, delta: f64) -> Self {
        let mut sum = Self {
            tilt,
            epsilon: 0.0,
            log_moments: [0.0; FACTORS.len()],
            mean: 0.0,
            variance: 0.0,
            largest: 0.0,
        };
        for (step, &count) in steps.iter().zip(counts) {
            let count = count as f64;
            for (total, moment) in sum.log_moments.iter_mut().zip(step.log_moments) {
                *total += count * moment;
            }
            sum.mean += count * step.mean;
            sum.variance += count * step.variance;
            sum.largest += count * step.losses.last() as f64 * step.losses.interval;
        }
        sum.epsilon = moment_bound(sum.log_moment(), tilt, delta).max(0.0);
        sum
    }

    /// `ln E[e^(λL)]`.
    pub(super) fn log_moment(&self) -> f64 {
        self.log_moments[SELF]
    }

    /// Standard deviation of the tilted loss.
    pub(super) fn deviation(&self) -> f64 {
        self.variance.sqrt()
    }

    /// A loss below which epsilon is not expected.
    pub(super) fn lower_guess(&self) -> f64 {
        (self.mean - 8.0 * self.deviation()).min(self.epsilon).max(0.0)
    }

    /// A loss below which the tilted loss is not expected, which may be negative.
    pub(super) fn least_expected(&self) -> f64 {
        self.mean - 12.0 * self.deviation()
    }

    /// How far above epsilon a window must reach so that neither tail, folded back into it, adds more than a fraction
    /// `1e-6` to delta.
    ///
    /// Losses below the window reappear at its top with weight at most `e^(-λ span)`; the tilted mass above it reappears
    /// near its bottom and is bounded by moments of larger tilts.
    pub(super) fn span(&self, delta: f64) -> f64 {
        let log_negligible = (1e-6 * delta).ln();
        let from_below = -log_negligible / self.tilt;
        let from_above = self
            .moments(SELF + 1..FACTORS.len())
            .map(|(larger, moment)| (moment - larger * self.epsilon - log_negligible) / (larger - self.tilt))
            .filter(|span: &f64| !span.is_nan())
            .fold(f64::INFINITY, |least, span| least.min(span.max(0.0)));
        from_below.max(from_above.min(self.largest - self.epsilon))
    }

    /// Bound on the probability that the composed loss is finite and at least `top` (Chernoff).
    pub(super) fn probability_above(&self, top: f64) -> f64 {
        if self.largest < top {
            return 0.0;
        }
        self.moments(SELF..FACTORS.len())
            // The factor covers the rounding of the moments; NaN loses against any number.
            .map(|(tilt, moment)| (moment - tilt * top).exp() * (1.0 + 1e-6))
            .fold(1.0, f64::min)
    }

    /// Logarithm of a bound on the tilted probability that the composed loss is below `low` (Chernoff), times
    /// `e^log_moment`.
    pub(super) fn log_tilted_mass_below(&self, low: f64) -> f64 {
        self.moments(0..SELF + 1)
            // A little more, for the rounding of the moments.
            .map(|(tilt, moment)| moment + (self.tilt - tilt) * low + 1e-6)
            .fold(f64::INFINITY, f64::min)
    }

    /// Tilts and the composition's log-moments there.
    fn moments(&self, of: std::ops::Range<usize>) -> impl Iterator<Item = (f64, f64)> + '_ {
        FACTORS[of.clone()].iter().map(|factor| factor * self.tilt).zip(self.log_moments[of].iter().copied())
    }
}
