//! The least noise for a target epsilon.

use std::num::NonZeroU32;

use super::{AccountantError, epsilon};
use crate::{
    event::DpEvent,
    params::{Delta, Epsilon, NeighboringRelation, NoiseMultiplier, SamplingProbability},
};

/// Logarithms of the least and greatest multiplier that a private step accepts, 2^-10 and 2^20.
const LOG_MULTIPLIERS: (f64, f64) = (-10.0 * std::f64::consts::LN_2, 20.0 * std::f64::consts::LN_2);
/// Relative tolerance of the multiplier.
const TOLERANCE: f64 = 1e-4;
/// How far inside the bracket every trial lies, so that both of its ends move.
const MARGIN: f64 = 0.4 * TOLERANCE;
/// Trials by the secant, of which a few suffice; should they crawl along the curve, halving ends it in 16 more.
const MAX_SECANTS: u32 = 24;

/// The smallest noise multiplier, to a relative 1e-4, with which `steps` releases at probability `q` cost at most
/// `target` by [`epsilon`].
///
/// The bound of the returned multiplier itself has been computed and is at most `target`.
///
/// # Errors
/// [`AccountantError::UnboundedTarget`] for an infinite target, [`AccountantError::UnreachableTarget`] if a multiplier
/// of 2^20 does not suffice.
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
    let (multiplier, _) = Calibration { target, delta, relation, q, steps }.solve()?;
    Ok(multiplier)
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
    /// The multiplier, and how many were tried inside the bracket.
    fn solve(&self) -> Result<(NoiseMultiplier, u32), AccountantError> {
        let (mut fails, mut meets) = match self.bracket()? {
            Ok(bracket) => bracket,
            Err(least) => return Ok((least, 0)),
        };
        let mut trials = 0;
        while meets.log_multiplier - fails.log_multiplier > TOLERANCE {
            let guess =
                if trials < MAX_SECANTS { next_guess(&fails, &meets) } else { middle(&fails, &meets) };
            let trial = self.trial(guess)?;
            trials += 1;
            if trial.meets() {
                meets = trial;
            } else {
                fails = trial;
            }
        }
        Ok((meets.multiplier, trials))
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

/// Where the line through both trials meets the target, kept inside the bracket; its middle if there is no such line.
fn next_guess(fails: &Trial, meets: &Trial) -> f64 {
    let width = meets.log_multiplier - fails.log_multiplier;
    let secant = fails.log_multiplier + width * fails.excess / (fails.excess - meets.excess);
    // The curve is convex in this scale, so the line overshoots: aim a little lower to move the other end too.
    let aim = secant - 0.5 * MARGIN;
    // An epsilon of 0 or of infinity is no point of a line: the "secant" would stay at the other end.
    let is_line = fails.excess.is_finite() && meets.excess.is_finite() && secant.is_finite();
    if is_line && width > 2.0 * MARGIN {
        aim.clamp(fails.log_multiplier + MARGIN, meets.log_multiplier - MARGIN)
    } else {
        middle(fails, meets)
    }
}

fn middle(fails: &Trial, meets: &Trial) -> f64 {
    0.5 * (fails.log_multiplier + meets.log_multiplier)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn calibrate(target: f64, delta: f64, q: f64, steps: u32) -> Result<NoiseMultiplier, AccountantError> {
        calibrate_noise(
            Epsilon::new(target).unwrap(),
            Delta::new(delta).unwrap(),
            NeighboringRelation::Replace,
            SamplingProbability::new(q).unwrap(),
            NonZeroU32::new(steps).unwrap(),
        )
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

    #[test]
    fn no_target_takes_more_than_a_few_dozen_trials() {
        // Where delta alone covers much, epsilon falls to 0 at a finite noise multiplier.
        for (target, delta, q, steps) in [
            (0.01, 0.2, 0.5, 1),
            (0.01, 0.1, 1.0, 1),
            (1e-3, 0.3, 0.9, 3),
            (1.0, 1e-5, 0.07, 400),
            (30.0, 1e-6, 1.0, 100),
        ] {
            let calibration = Calibration {
                target: Epsilon::new(target).unwrap(),
                delta: Delta::new(delta).unwrap(),
                relation: NeighboringRelation::Replace,
                q: SamplingProbability::new(q).unwrap(),
                steps: NonZeroU32::new(steps).unwrap(),
            };
            let (noise, trials) = calibration.solve().unwrap();
            assert!(trials <= MAX_SECANTS + 20, "{target} {delta} {q}: {trials} trials");
            assert!(spent(noise.get(), delta, q, steps) <= target);
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
