//! The whole privacy profile of a composition, and how to read it.
//!
//! One epsilon at one delta is a point of a curve. The curve says more: what an attacker's test can achieve at any rate of
//! false alarms, which Gaussian mechanism is as private, and by how much anybody's odds about one unit can change.

use serde::Serialize;

use super::{Accountant, AccountantError};
use crate::{
    normal::Tail,
    params::{Delta, Epsilon, NeighboringRelation},
    steps::StepCounts,
};

/// Epsilons below this count as zero: bounds near zero have an absolute error.
const RESOLVED: f64 = 1e-3;
/// Epsilons above this have no equivalent Gaussian mechanism that doubles resolve.
const MOST_EQUIVALENT: f64 = 300.0;

/// One point of a profile.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ProfilePoint {
    /// Delta, in (0, 1).
    pub delta: f64,
    /// Upper bound on epsilon at that delta.
    pub epsilon: Epsilon,
}

/// Upper bounds on epsilon at many deltas.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(transparent)]
pub struct PrivacyProfile(Vec<ProfilePoint>);

impl PrivacyProfile {
    /// The profile of `steps` at 32 deltas from 1e-12 to 0.9, denser where a trade-off curve bends.
    ///
    /// # Errors
    /// As [`PrivacyAccountant::epsilon`](super::PrivacyAccountant::epsilon).
    pub fn of_steps(steps: &StepCounts, relation: NeighboringRelation) -> Result<Self, AccountantError> {
        let mut accountant = Accountant::default();
        let point = |delta: f64| {
            let epsilon = accountant.epsilon_of_steps(steps, Delta::new(delta)?, relation)?;
            Ok(ProfilePoint { delta, epsilon })
        };
        deltas().map(point).collect::<Result<_, _>>().map(Self)
    }

    /// The points, delta ascending.
    #[must_use]
    pub fn points(&self) -> &[ProfilePoint] {
        &self.0
    }

    /// The trade-off curve: a lower bound on the rate at which any test for one unit fails to notice, if it raises false
    /// alarms at the rate `false_alarms` in [0, 1] (Dong, Roth, Su 2022).
    #[must_use]
    pub fn least_miss_rate(&self, false_alarms: f64) -> f64 {
        let bound = |point: &ProfilePoint| {
            let (delta, factor) = (point.delta, point.epsilon.get().exp());
            (1.0 - delta - factor * false_alarms).max((1.0 - delta - false_alarms) / factor)
        };
        self.0.iter().map(bound).filter(|bound| !bound.is_nan()).fold(0.0, f64::max)
    }

    /// Upper bound on an attacker's advantage: rate of hits minus rate of false alarms, for any test; 0 is guessing.
    #[must_use]
    pub fn largest_advantage(&self) -> f64 {
        let bound = |point: &ProfilePoint| {
            let half = (0.5 * point.epsilon.get()).tanh();
            // (e^ε - 1 + 2δ) / (e^ε + 1), without overflow.
            half + point.delta * (1.0 - half)
        };
        // Outward by more than the rounding of three operations.
        (self.0.iter().map(bound).filter(|bound| !bound.is_nan()).fold(1.0, f64::min) * (1.0 + 1e-12))
            .min(1.0)
    }

    /// The least `mu` whose Gaussian mechanism is at most as private at every point with an epsilon of 0.001 or more;
    /// infinite if there is none that doubles resolve. If no epsilon is that large, the least delta alone decides.
    #[must_use]
    pub fn equivalent_gaussian(&self) -> f64 {
        let decides = self.0.iter().filter(|point| point.epsilon.get() >= RESOLVED);
        let largest = decides.map(|point| gaussian_mu(point.epsilon, point.delta)).fold(0.0, f64::max);
        match self.0.first() {
            Some(point) if largest == 0.0 => gaussian_mu(point.epsilon, point.delta),
            _ => largest,
        }
    }
}

/// The deltas of a profile, ascending: each decade, then half and quarter decades, then steps of 0.075.
fn deltas() -> impl Iterator<Item = f64> {
    let decades = (-12..-6).map(f64::from);
    let halves = (-12..-6).map(|half| 0.5 * f64::from(half));
    let quarters = (-12..=-4).map(|quarter| 0.25 * f64::from(quarter));
    let large = (2..13).map(|step| 0.075 * f64::from(step));
    decades.chain(halves).chain(quarters).map(|exponent| 10_f64.powf(exponent)).chain(large)
}

/// The sensitivity in noise deviations, `mu`, of the Gaussian mechanism without sampling whose epsilon at `delta` is
/// `epsilon` or a little more (Balle, Wang 2018; Dong, Roth, Su 2022). Infinite above an epsilon of 300.
#[must_use]
pub fn gaussian_mu(epsilon: Epsilon, delta: f64) -> f64 {
    let epsilon = epsilon.get();
    if epsilon > MOST_EQUIVALENT {
        return f64::INFINITY;
    }
    let (mut low, mut high) = (0.0, 64.0);
    // Halving 60 times leaves nothing between the two.
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        if gaussian_delta(epsilon, middle) < delta { low = middle } else { high = middle }
    }
    high
}

/// Delta of the Gaussian mechanism `N(0, 1)` against `N(mu, 1)` at `epsilon`.
fn gaussian_delta(epsilon: f64, mu: f64) -> f64 {
    let missed = Tail::at(epsilon / mu + 0.5 * mu).mass_above();
    Tail::at(epsilon / mu - 0.5 * mu).mass_above() - (epsilon + missed.ln()).exp()
}

/// The largest factor by which an attacker's odds about one unit can grow, but with probability `delta`: `e^epsilon`.
#[must_use]
pub fn largest_odds_factor(epsilon: Epsilon) -> f64 {
    epsilon.get().exp() * (1.0 + 4.0 * f64::EPSILON)
}

/// How sure an attacker can at most be of what it held possible with probability `prior` in [0, 1], but with probability
/// `delta`.
#[must_use]
pub fn largest_posterior(prior: f64, epsilon: Epsilon) -> f64 {
    let factor = (-epsilon.get()).exp();
    (prior / (prior + (1.0 - prior) * factor) * (1.0 + 1e-12)).min(1.0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::num::NonZeroU32;

    use super::*;
    use crate::{
        event::DpEvent,
        params::{NoiseMultiplier, SamplingProbability},
    };

    /// A Gaussian mechanism with `mu = 2 / noise` under `replace`.
    fn gaussian(noise: f64) -> PrivacyProfile {
        let event = DpEvent::PoissonSampledGaussian {
            noise_multiplier: NoiseMultiplier::new(noise).unwrap(),
            sampling_probability: SamplingProbability::new(1.0).unwrap(),
            steps: NonZeroU32::MIN,
        };
        PrivacyProfile::of_steps(&StepCounts::of(&[event]), NeighboringRelation::Replace).unwrap()
    }

    #[test]
    fn a_gaussian_mechanism_is_its_own_equivalent() {
        for mu in [0.2, 1.0, 3.0] {
            let found = gaussian(2.0 / mu).equivalent_gaussian();
            // Near zero, epsilon has an absolute error.
            assert!(found >= mu * (1.0 - 1e-9) && found <= mu * 1.002, "{mu}: {found}");
        }
    }

    #[test]
    fn trade_off_and_advantage_are_those_of_the_gaussian_but_never_more_private() {
        let profile = gaussian(2.0);
        for alpha in [1e-6, 0.001, 0.05, 0.3, 0.7, 0.99] {
            // Misses of the likelihood-ratio test: the normal distribution function at z(1 - alpha) - mu.
            let (mut low, mut high) = (-10.0, 10.0);
            for _ in 0..200 {
                let middle = 0.5 * (low + high);
                if Tail::at(middle).mass_above() > alpha { low = middle } else { high = middle }
            }
            let truth = Tail::at(high - 1.0).mass_below();
            let bound = profile.least_miss_rate(alpha);
            assert!(bound <= truth + 1e-12 && bound > 0.8 * truth, "{alpha}: {bound} {truth}");
        }
        assert_eq!((profile.least_miss_rate(0.0) > 0.999, profile.least_miss_rate(1.0)), (true, 0.0));
        let truth = 1.0 - 2.0 * Tail::at(0.5).mass_above();
        let advantage = profile.largest_advantage();
        assert!(advantage >= truth && advantage < truth + 0.02, "{advantage} {truth}");
    }

    #[test]
    fn epsilon_falls_with_delta_and_nothing_is_hidden_where_there_is_no_bound() {
        let profile = gaussian(1.0);
        assert!(profile.points().windows(2).all(|pair| pair[0].delta < pair[1].delta));
        assert!(profile.points().windows(2).all(|pair| pair[0].epsilon >= pair[1].epsilon));
        let none = PrivacyProfile(vec![ProfilePoint { delta: 1e-5, epsilon: Epsilon::INFINITE }]);
        assert_eq!(none.equivalent_gaussian(), f64::INFINITY);
        assert!(none.largest_advantage() > 0.9999 && none.least_miss_rate(0.5) < 1e-12);
    }

    #[test]
    fn odds_and_posteriors_agree() {
        let epsilon = Epsilon::new(1.0).unwrap();
        assert!((largest_odds_factor(epsilon) - std::f64::consts::E).abs() < 1e-12);
        for prior in [0.0, 1e-6, 0.1, 0.5, 1.0] {
            let posterior = largest_posterior(prior, epsilon);
            let odds = prior / (1.0 - prior) * std::f64::consts::E;
            let expected = if prior == 1.0 { 1.0 } else { odds / (1.0 + odds) };
            assert!((posterior - expected).abs() < 1e-11, "{prior}");
        }
        assert_eq!(largest_posterior(0.5, Epsilon::INFINITE), 1.0);
    }
}
