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
    calibrate_noise_beside(&StepCounts::default(), target, delta, relation, q, steps)
}

/// The same where `others` are released from the same data too: all of it together costs at most `target`.
///
/// # Errors
/// As [`calibrate_noise`]; the target is also unreachable where the others alone cost more.
pub fn calibrate_noise_beside(
    others: &StepCounts,
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
    calibration.others = others.clone();
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
    /// What is released besides.
    others: StepCounts,
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
        let (accountant, others) = (Accountant::default(), StepCounts::default());
        Ok(Self { accountant, target, delta, relation, others, range, event })
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
        let mut steps = StepCounts::of(&[event]);
        steps.extend(&self.others);
        let spent = self.accountant.epsilon_of_steps(&steps, self.delta, self.relation)?;
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
mod tests;
