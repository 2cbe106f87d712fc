//! The least noise for a target epsilon.

use std::num::NonZeroU32;

use super::{AccountantError, epsilon};
use crate::{
    event::DpEvent,
    params::{Delta, Epsilon, NeighboringRelation, NoiseMultiplier, SamplingProbability},
};

/// Logarithms of the least and greatest multiplier that a private step accepts, 2^-10 and 2^12.
const LOG_MULTIPLIERS: (f64, f64) = (-10.0 * std::f64::consts::LN_2, 12.0 * std::f64::consts::LN_2);
/// Relative tolerance of the multiplier.
const TOLERANCE: f64 = 1e-4;
/// How far inside the bracket every trial lies, so that both of its ends move.
const MARGIN: f64 = 0.4 * TOLERANCE;

/// The smallest noise multiplier, to a relative 1e-4, with which `steps` releases at probability `q` cost at most
/// `target` by [`epsilon`].
///
/// The bound of the returned multiplier itself has been computed and is at most `target`.
///
/// # Errors
/// [`AccountantError::UnboundedTarget`] for an infinite target, [`AccountantError::UnreachableTarget`] if a multiplier
/// of 2^12 does not suffice.
pub fn calibrate_noise(
    target: Epsilon,
    delta: Delta,
    relation: NeighboringRelation,
    q: SamplingProbability,
    steps: NonZeroU32,
) -> Result<NoiseMultiplier, AccountantError> {
    if !target.is_finite() {
        return Err(AccountantError::UnboundedTarget);
    }
    Calibration { target, delta, relation, q, steps }.solve()
}

struct Calibration {
    target: Epsilon,
    delta: Delta,
    relation: NeighboringRelation,
    q: SamplingProbability,
    steps: NonZeroU32,
}

/// A tried multiplier.
#[derive(Debug, Clone, Copy)]
struct Trial {
    log_multiplier: f64,
    multiplier: NoiseMultiplier,
    /// `ln(epsilon / target)`, not above zero if the target is met.
    excess: f64,
}

impl Trial {
    fn meets(&self) -> bool {
        self.excess <= 0.0
    }
}

impl Calibration {
    fn solve(&self) -> Result<NoiseMultiplier, AccountantError> {
        let mut bracket = match self.bracket()? {
            Ok((fails, meets)) => Bracket::new(fails, meets),
            Err(least) => return Ok(least),
        };
        while bracket.width() > TOLERANCE {
            bracket.narrow(self.trial(bracket.next_guess())?);
        }
        Ok(bracket.meets.multiplier)
    }

    /// A failing multiplier and one that meets the target, found by doubling from 1; or the least permitted multiplier
    /// if even that meets it.
    fn bracket(&self) -> Result<Result<(Trial, Trial), NoiseMultiplier>, AccountantError> {
        let (least, greatest) = LOG_MULTIPLIERS;
        let mut last = self.trial(0.0)?;
        let (direction, end) = if last.meets() { (-1.0, least) } else { (1.0, greatest) };
        loop {
            let log_multiplier = last.log_multiplier + direction * std::f64::consts::LN_2;
            let next = self.trial(log_multiplier.clamp(least, greatest))?;
            match (last.meets(), next.meets()) {
                (false, true) => return Ok(Ok((last, next))),
                (true, false) => return Ok(Ok((next, last))),
                _ if next.log_multiplier != end => last = next,
                (true, true) => return Ok(Err(next.multiplier)),
                (false, false) => return Err(self.unreachable(next.multiplier)),
            }
        }
    }

    fn unreachable(&self, largest: NoiseMultiplier) -> AccountantError {
        AccountantError::UnreachableTarget { target: self.target.get(), largest: largest.get() }
    }

    fn trial(&self, log_multiplier: f64) -> Result<Trial, AccountantError> {
        // The bracket is inside the range of multipliers, so this fails for NaN only.
        let multiplier = NoiseMultiplier::new(log_multiplier.exp()).map_err(|_| {
            AccountantError::UnreachableTarget { target: self.target.get(), largest: f64::NAN }
        })?;
        let event = DpEvent::PoissonSampledGaussian {
            noise_multiplier: multiplier,
            sampling_probability: self.q,
            steps: self.steps,
        };
        let spent = epsilon(&[event], self.delta, self.relation)?;
        // Comparing first keeps a target of zero exact.
        let excess = if spent <= self.target {
            (spent.get() / self.target.get()).ln().min(0.0)
        } else {
            (spent.get() / self.target.get()).ln().max(f64::MIN_POSITIVE)
        };
        Ok(Trial { log_multiplier, multiplier, excess })
    }
}

/// A failing trial and one that meets the target, between which the answer lies.
struct Bracket {
    fails: Trial,
    meets: Trial,
    /// How many trials in a row replaced the same end, and which.
    repeats: u32,
    last_met: bool,
}

impl Bracket {
    fn new(fails: Trial, meets: Trial) -> Self {
        Self { fails, meets, repeats: 0, last_met: false }
    }

    fn width(&self) -> f64 {
        self.meets.log_multiplier - self.fails.log_multiplier
    }

    /// Where the line through both trials meets the target, kept inside the bracket; its middle if there is no such
    /// line, or if two trials have left the same end where it was.
    fn next_guess(&self) -> f64 {
        let (low, high) = (self.fails.log_multiplier, self.meets.log_multiplier);
        let (above, below) = (self.fails.excess, self.meets.excess);
        let is_line = above.is_finite() && below.is_finite() && self.width() > 2.0 * MARGIN;
        if !is_line || self.repeats >= 2 {
            return low + 0.5 * self.width();
        }
        let secant = low + self.width() * above / (above - below);
        // The curve is convex in this scale, so the line overshoots: aim a little lower to move the other end too.
        (secant - 0.5 * MARGIN).clamp(low + MARGIN, high - MARGIN)
    }

    fn narrow(&mut self, trial: Trial) {
        let end = if trial.meets() { &mut self.meets } else { &mut self.fails };
        *end = trial;
        self.repeats = if self.last_met == trial.meets() { self.repeats + 1 } else { 1 };
        self.last_met = trial.meets();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn calibration(target: f64, delta: f64, q: f64, steps: u32) -> Calibration {
        Calibration {
            target: Epsilon::new(target).unwrap(),
            delta: Delta::new(delta).unwrap(),
            relation: NeighboringRelation::Replace,
            q: SamplingProbability::new(q).unwrap(),
            steps: NonZeroU32::new(steps).unwrap(),
        }
    }

    fn calibrate(target: f64, delta: f64, q: f64, steps: u32) -> Result<NoiseMultiplier, AccountantError> {
        let Calibration { target, delta, relation, q, steps } = calibration(target, delta, q, steps);
        calibrate_noise(target, delta, relation, q, steps)
    }

    fn spent(noise: f64, delta: f64, q: f64, steps: u32) -> f64 {
        let event = DpEvent::PoissonSampledGaussian {
            noise_multiplier: NoiseMultiplier::new(noise).unwrap(),
            sampling_probability: SamplingProbability::new(q).unwrap(),
            steps: NonZeroU32::new(steps).unwrap(),
        };
        epsilon(&[event], Delta::new(delta).unwrap(), NeighboringRelation::Replace).unwrap().get()
    }

    #[test]
    fn the_target_is_met_and_less_noise_would_not_do() {
        for (target, delta, q, steps) in
            [(1.0, 1e-5, 0.07, 400), (0.01, 1e-8, 0.001, 10), (30.0, 1e-6, 1.0, 100), (3.0, 1e-5, 0.5, 1)]
        {
            let noise = calibrate(target, delta, q, steps).unwrap().get();
            assert!(spent(noise, delta, q, steps) <= target);
            // More than one tolerance, as the bound itself moves by about 0.01 % with its interval.
            assert!(spent(noise * (1.0 - 5e-4), delta, q, steps) > target, "{target} {noise}");
        }
    }

    /// Trials until the bracket is narrow.
    fn trials(mut bracket: Bracket, mut trial: impl FnMut(f64) -> Trial) -> u32 {
        let mut count = 0;
        while bracket.width() > TOLERANCE && count < 100 {
            bracket.narrow(trial(bracket.next_guess()));
            count += 1;
        }
        count
    }

    /// With a large delta the target's end of the bracket has epsilon zero, so no line leads through it.
    #[test]
    fn few_trials_suffice_also_where_epsilon_falls_to_zero_at_once() {
        for (target, delta, q, steps) in
            [(0.01, 0.2, 0.5, 1), (0.01, 0.1, 1.0, 1), (1.0, 1e-5, 0.07, 400), (30.0, 1e-6, 1.0, 100)]
        {
            let calibration = calibration(target, delta, q, steps);
            let (fails, meets) = calibration.bracket().unwrap().unwrap();
            let count = trials(Bracket::new(fails, meets), |at| calibration.trial(at).unwrap());
            assert!(count <= 20, "{target} {delta} {q} {steps}: {count} trials");
        }
    }

    /// Whatever the curve looks like: here a cliff, seen as steep from above, flat from below, or both.
    #[test]
    fn every_third_trial_at_least_halves_the_bracket() {
        for (above, below) in [(1e-3, -1e3), (1e3, -1e-3), (1.0, -1.0), (f64::INFINITY, -1.0)] {
            for cliff in [0.01, 0.3, 0.68] {
                let trial = |log_multiplier: f64| Trial {
                    log_multiplier,
                    multiplier: NoiseMultiplier::new(log_multiplier.exp()).unwrap(),
                    excess: if log_multiplier < cliff { above } else { below },
                };
                let bracket = Bracket::new(trial(0.0), trial(std::f64::consts::LN_2));
                let count = trials(bracket, trial);
                assert!(count <= 3 * 13, "{above} {below} {cliff}: {count} trials");
            }
        }
    }

    #[test]
    fn what_cannot_be_calibrated_is_an_error() {
        assert_eq!(calibrate(f64::INFINITY, 1e-5, 0.1, 1), Err(AccountantError::UnboundedTarget));
        let unreachable = calibrate(1e-7, 1e-12, 1.0, u32::MAX);
        assert!(matches!(unreachable, Err(AccountantError::UnreachableTarget { .. })), "{unreachable:?}");
    }

    #[test]
    fn a_loose_target_takes_the_least_noise_that_a_step_accepts() {
        assert_eq!(calibrate(1.0, 0.5, 1e-6, 1).unwrap().get(), 1.0 / 1024.0);
    }
}
