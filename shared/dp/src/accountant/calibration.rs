//! The least noise, the largest sampling probability and the most steps for a target epsilon.

use std::num::NonZeroU32;

use super::{Accountant, AccountantError};
use crate::{
    event::DpEvent,
    params::{Delta, Epsilon, NeighboringRelation, NoiseMultiplier, SamplingProbability},
    steps::StepCounts,
};

/// Logarithms of the least and greatest multiplier that a private step accepts, 2^-10 and 2^12.
const LOG_MULTIPLIERS: (f64, f64) = (-10.0 * std::f64::consts::LN_2, 12.0 * std::f64::consts::LN_2);
/// Logarithms of one over the greatest and least sampling probability that are tried, 1 and 2^-40.
const LOG_PERIODS: (f64, f64) = (0.0, 40.0 * std::f64::consts::LN_2);
/// Relative tolerance of noise multiplier and sampling probability.
const TOLERANCE: f64 = 1e-4;
/// How far inside the bracket every trial lies, so that both of its ends move.
const MARGIN: f64 = 0.4 * TOLERANCE;

/// The smallest noise multiplier, to a relative 1e-4, with which `steps` releases at probability `q` cost at most
/// `target` by [`epsilon`](super::epsilon).
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
    let event = |log: f64| {
        let noise_multiplier = NoiseMultiplier::new(log.exp())?;
        let event = DpEvent::PoissonSampledGaussian { noise_multiplier, sampling_probability: q, steps };
        Ok((noise_multiplier, event))
    };
    let mut calibration = Calibration::new((target, delta, relation), LOG_MULTIPLIERS, event)?;
    calibration.solve()?.ok_or_else(|| AccountantError::UnreachableTarget {
        target: target.get(),
        largest: LOG_MULTIPLIERS.1.exp().round(),
    })
}

/// The largest sampling probability, to a relative 1e-4, at which `steps` releases with this noise multiplier cost at most
/// `target`.
///
/// The bound of the returned probability itself has been computed and is at most `target`.
///
/// # Errors
/// [`AccountantError::UnboundedTarget`] for an infinite target, [`AccountantError::UnreachableByRate`] if 2^-40 costs
/// more.
pub fn calibrate_rate(
    target: Epsilon,
    delta: Delta,
    relation: NeighboringRelation,
    noise_multiplier: NoiseMultiplier,
    steps: NonZeroU32,
) -> Result<SamplingProbability, AccountantError> {
    let event = |log: f64| {
        let sampling_probability = SamplingProbability::new((-log).exp())?;
        let event = DpEvent::PoissonSampledGaussian { noise_multiplier, sampling_probability, steps };
        Ok((sampling_probability, event))
    };
    let mut calibration = Calibration::new((target, delta, relation), LOG_PERIODS, event)?;
    calibration.solve()?.ok_or(AccountantError::UnreachableByRate { target: target.get() })
}

/// The most steps with this noise multiplier and sampling probability that cost at most `target`, up to `u32::MAX`.
///
/// # Errors
/// [`AccountantError::UnboundedTarget`] for an infinite target, [`AccountantError::UnreachableBySteps`] if one step costs
/// more.
pub fn calibrate_steps(
    target: Epsilon,
    delta: Delta,
    relation: NeighboringRelation,
    noise_multiplier: NoiseMultiplier,
    q: SamplingProbability,
) -> Result<NonZeroU32, AccountantError> {
    if !target.is_finite() {
        return Err(AccountantError::UnboundedTarget);
    }
    let mut accountant = Accountant::default();
    let mut meets = |steps: NonZeroU32| {
        let event = DpEvent::PoissonSampledGaussian { noise_multiplier, sampling_probability: q, steps };
        accountant.epsilon_of_steps(&StepCounts::of(&[event]), delta, relation).map(|spent| spent <= target)
    };
    let (mut enough, mut too_many) = (NonZeroU32::MIN, None);
    if !meets(enough)? {
        return Err(AccountantError::UnreachableBySteps { target: target.get() });
    }
    while let Some(next) = between(enough, too_many) {
        if meets(next)? {
            enough = next;
        } else {
            too_many = Some(next);
        }
    }
    Ok(enough)
}

/// The next number of steps to try: twice as many until there are too many, then the middle.
fn between(enough: NonZeroU32, too_many: Option<NonZeroU32>) -> Option<NonZeroU32> {
    let next = match too_many {
        None => enough.saturating_mul(NonZeroU32::MIN.saturating_add(1)),
        Some(too_many) => enough.saturating_add((too_many.get() - enough.get()) / 2),
    };
    (next != enough).then_some(next)
}

/// The search for the least logarithm that meets a target: privacy grows with it.
struct Calibration<F> {
    accountant: Accountant,
    target: Epsilon,
    delta: Delta,
    relation: NeighboringRelation,
    /// Least and greatest logarithm.
    range: (f64, f64),
    /// The parameter at a logarithm, and what is released with it.
    event: F,
}

/// A tried parameter.
#[derive(Debug, Clone, Copy)]
struct Trial<P> {
    at: f64,
    parameter: P,
    /// `ln(epsilon / target)`, not above zero if the target is met.
    excess: f64,
}

impl<P> Trial<P> {
    fn meets(&self) -> bool {
        self.excess <= 0.0
    }
}

/// What the first trials found.
enum Start<P> {
    Between(Bracket<P>),
    /// Even the least logarithm meets the target.
    Least(P),
    /// Not even the greatest does.
    Nowhere,
}

impl<P: Copy, F: Fn(f64) -> Result<(P, DpEvent), AccountantError>> Calibration<F> {
    fn new(
        (target, delta, relation): (Epsilon, Delta, NeighboringRelation),
        range: (f64, f64),
        event: F,
    ) -> Result<Self, AccountantError> {
        if !target.is_finite() {
            return Err(AccountantError::UnboundedTarget);
        }
        Ok(Self { accountant: Accountant::default(), target, delta, relation, range, event })
    }

    /// The parameter of the least logarithm that meets the target; none if not even the greatest does.
    fn solve(&mut self) -> Result<Option<P>, AccountantError> {
        let mut bracket = match self.start()? {
            Start::Between(bracket) => bracket,
            Start::Least(parameter) => return Ok(Some(parameter)),
            Start::Nowhere => return Ok(None),
        };
        while bracket.width() > TOLERANCE {
            bracket.narrow(self.trial(bracket.next_guess())?);
        }
        Ok(Some(bracket.meets.parameter))
    }

    /// A failing trial and one that meets the target, found by steps of a factor of two from zero.
    fn start(&mut self) -> Result<Start<P>, AccountantError> {
        let (least, greatest) = self.range;
        let mut last = self.trial(0.0)?;
        let (direction, end) = if last.meets() { (-1.0, least) } else { (1.0, greatest) };
        loop {
            let at = (last.at + direction * std::f64::consts::LN_2).clamp(least, greatest);
            let next = self.trial(at)?;
            match (last.meets(), next.meets()) {
                (false, true) => return Ok(Start::Between(Bracket::new(last, next))),
                (true, false) => return Ok(Start::Between(Bracket::new(next, last))),
                _ if next.at != end => last = next,
                (true, true) => return Ok(Start::Least(next.parameter)),
                (false, false) => return Ok(Start::Nowhere),
            }
        }
    }

    fn trial(&mut self, at: f64) -> Result<Trial<P>, AccountantError> {
        let (parameter, event) = (self.event)(at)?;
        let spent = self.accountant.epsilon_of_steps(&StepCounts::of(&[event]), self.delta, self.relation)?;
        // Comparing first keeps a target of zero exact.
        let excess = if spent <= self.target {
            (spent.get() / self.target.get()).ln().min(0.0)
        } else {
            (spent.get() / self.target.get()).ln().max(f64::MIN_POSITIVE)
        };
        Ok(Trial { at, parameter, excess })
    }
}

/// A failing trial and one that meets the target, between which the answer lies.
struct Bracket<P> {
    fails: Trial<P>,
    meets: Trial<P>,
    /// How many trials in a row replaced the same end, and which.
    repeats: u32,
    last_met: bool,
}

impl<P> Bracket<P> {
    fn new(fails: Trial<P>, meets: Trial<P>) -> Self {
        Self { fails, meets, repeats: 0, last_met: false }
    }

    fn width(&self) -> f64 {
        self.meets.at - self.fails.at
    }

    /// Where the line through both trials meets the target, kept inside the bracket; its middle if there is no such
    /// line, or if two trials have left the same end where it was.
    fn next_guess(&self) -> f64 {
        let (low, high) = (self.fails.at, self.meets.at);
        let (above, below) = (self.fails.excess, self.meets.excess);
        let is_line = above.is_finite() && below.is_finite() && self.width() > 2.0 * MARGIN;
        if !is_line || self.repeats >= 2 {
            return low + 0.5 * self.width();
        }
        let secant = low + self.width() * above / (above - below);
        // The curve is convex in this scale, so the line overshoots: aim a little lower to move the other end too.
        (secant - 0.5 * MARGIN).clamp(low + MARGIN, high - MARGIN)
    }

    fn narrow(&mut self, trial: Trial<P>) {
        let met = trial.meets();
        let end = if met { &mut self.meets } else { &mut self.fails };
        *end = trial;
        self.repeats = if self.last_met == met { self.repeats + 1 } else { 1 };
        self.last_met = met;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const RELATION: NeighboringRelation = NeighboringRelation::Replace;

    fn goal(target: f64, delta: f64) -> (Epsilon, Delta) {
        (Epsilon::new(target).unwrap(), Delta::new(delta).unwrap())
    }

    fn rate(q: f64) -> SamplingProbability {
        SamplingProbability::new(q).unwrap()
    }

    fn calibrate(target: f64, delta: f64, q: f64, steps: u32) -> Result<NoiseMultiplier, AccountantError> {
        let (target, delta) = goal(target, delta);
        calibrate_noise(target, delta, RELATION, rate(q), NonZeroU32::new(steps).unwrap())
    }

    fn spent(noise: f64, delta: f64, q: f64, steps: u32) -> f64 {
        let event = DpEvent::PoissonSampledGaussian {
            noise_multiplier: NoiseMultiplier::new(noise).unwrap(),
            sampling_probability: SamplingProbability::new(q).unwrap(),
            steps: NonZeroU32::new(steps).unwrap(),
        };
        crate::epsilon(&[event], Delta::new(delta).unwrap(), RELATION).unwrap().get()
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
    fn trials<P>(mut bracket: Bracket<P>, mut trial: impl FnMut(f64) -> Trial<P>) -> u32 {
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
            let event = |log: f64| {
                let noise_multiplier = NoiseMultiplier::new(log.exp()).unwrap();
                let steps = NonZeroU32::new(steps).unwrap();
                let sampling_probability = rate(q);
                Ok(((), DpEvent::PoissonSampledGaussian { noise_multiplier, sampling_probability, steps }))
            };
            let (target_epsilon, delta) = goal(target, delta);
            let mut calibration =
                Calibration::new((target_epsilon, delta, RELATION), LOG_MULTIPLIERS, event).unwrap();
            let Start::Between(bracket) = calibration.start().unwrap() else { panic!("no bracket") };
            let count = trials(bracket, |at| calibration.trial(at).unwrap());
            assert!(count <= 20, "{target} {delta} {q} {steps}: {count} trials");
        }
    }

    /// Whatever the curve looks like: here a cliff, seen as steep from above, flat from below, or both.
    #[test]
    fn every_third_trial_at_least_halves_the_bracket() {
        for (above, below) in [(1e-3, -1e3), (1e3, -1e-3), (1.0, -1.0), (f64::INFINITY, -1.0)] {
            for cliff in [0.01, 0.3, 0.68] {
                let trial =
                    |at: f64| Trial { at, parameter: (), excess: if at < cliff { above } else { below } };
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

    #[test]
    fn the_largest_rate_meets_the_target_and_a_larger_one_does_not() {
        for (target, delta, noise, steps) in
            [(1.0, 1e-5, 1.5, 400), (0.2, 1e-7, 5.0, 30), (8.0, 1e-6, 0.8, 100)]
        {
            let (epsilon, bound) = goal(target, delta);
            let (multiplier, count) = (NoiseMultiplier::new(noise).unwrap(), NonZeroU32::new(steps).unwrap());
            let q = calibrate_rate(epsilon, bound, RELATION, multiplier, count).unwrap().get();
            assert!(spent(noise, delta, q, steps) <= target);
            assert!(spent(noise, delta, (q * (1.0 + 1e-3)).min(1.0), steps) > target, "{target} {q}");
        }
        let (epsilon, bound) = goal(50.0, 1e-5);
        let (multiplier, count) = (NoiseMultiplier::new(10.0).unwrap(), NonZeroU32::MIN);
        assert_eq!(calibrate_rate(epsilon, bound, RELATION, multiplier, count).unwrap().get(), 1.0);
    }

    #[test]
    fn one_step_more_than_the_most_is_too_many() {
        for (target, delta, noise, q) in
            [(1.0, 1e-5, 1.5, 0.01), (0.5, 1e-7, 8.0, 0.2), (3.0, 1e-6, 20.0, 1.0)]
        {
            let (epsilon, bound) = goal(target, delta);
            let multiplier = NoiseMultiplier::new(noise).unwrap();
            let steps = calibrate_steps(epsilon, bound, RELATION, multiplier, rate(q)).unwrap().get();
            assert!(spent(noise, delta, q, steps) <= target, "{target} {steps}");
            assert!(spent(noise, delta, q, steps + 1) > target, "{target} {steps}");
        }
        let (epsilon, bound) = goal(0.01, 1e-5);
        let refused =
            calibrate_steps(epsilon, bound, RELATION, NoiseMultiplier::new(1.0).unwrap(), rate(1.0));
        assert_eq!(refused, Err(AccountantError::UnreachableBySteps { target: 0.01 }));
    }
}
