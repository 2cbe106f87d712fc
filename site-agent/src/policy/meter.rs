//! Epsilons of event lists, each computed once.
//!
//! Composition does not depend on order, so events are brought into a canonical form first: one entry per kind of step,
//! sorted. All sites of a study make the same steps; one meter shared by the agents of a simulation therefore computes
//! each figure once for all of them.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};

use fusiondp_dp::{AccountantError, Delta, DpEvent, Epsilon, NeighboringRelation, epsilon};

/// Figures kept; beyond it the meter starts over.
const MAX_FIGURES: usize = 65_536;

/// Epsilon under both relations, upper bounds at one delta.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spent {
    /// Under `replace`.
    pub replace: Epsilon,
    /// Under `zero_out`.
    pub zero_out: Epsilon,
}

/// Steps by kind, in canonical order.
#[derive(Debug, Clone, Default)]
pub struct StepCounts(BTreeMap<(u64, u64), (DpEvent, u64)>);

/// Bits of noise multiplier and sampling probability, and steps, per kind.
type CountKey = Vec<(u64, u64, u64)>;

/// A figure, or the place where it is being computed.
type Figure = Arc<Mutex<Option<Epsilon>>>;

/// Computes and remembers epsilons.
#[derive(Debug, Default)]
pub struct EpsilonMeter {
    figures: Mutex<HashMap<(CountKey, u64, NeighboringRelation), Figure>>,
}

impl StepCounts {
    /// Counts the steps of events.
    pub fn of(events: &[DpEvent]) -> Self {
        let mut counts = Self::default();
        events.iter().for_each(|event| counts.add(event, u64::from(event.steps().get())));
        counts
    }

    /// Adds `steps` steps of one kind; the event's own number of steps is ignored.
    pub fn add(&mut self, event: &DpEvent, steps: u64) {
        let DpEvent::PoissonSampledGaussian { noise_multiplier, sampling_probability, .. } = event;
        let kind = (noise_multiplier.get().to_bits(), sampling_probability.get().to_bits());
        let (_, count) = self.0.entry(kind).or_insert((*event, 0));
        *count = count.saturating_add(steps);
    }

    /// Whether every kind has at most as many steps here as there.
    pub fn within(&self, other: &Self) -> bool {
        self.0.iter().all(|(kind, (_, steps))| *steps <= other.0.get(kind).map_or(0, |(_, there)| *there))
    }

    /// As events again: one per kind, or several where one cannot count that far.
    pub fn events(&self) -> Vec<DpEvent> {
        let mut events = Vec::with_capacity(self.0.len());
        for (event, steps) in self.0.values() {
            let DpEvent::PoissonSampledGaussian { noise_multiplier, sampling_probability, .. } = *event;
            let mut left = *steps;
            while let Some(steps) = NonZeroU32::new(u32::try_from(left).unwrap_or(u32::MAX)) {
                left -= u64::from(steps.get());
                events.push(DpEvent::PoissonSampledGaussian {
                    noise_multiplier,
                    sampling_probability,
                    steps,
                });
            }
        }
        events
    }

    fn key(&self) -> CountKey {
        self.0.iter().map(|(&(noise, probability), &(_, steps))| (noise, probability, steps)).collect()
    }
}

impl PartialEq for StepCounts {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl EpsilonMeter {
    /// Epsilon of these steps, upper bound.
    ///
    /// # Errors
    /// Whatever the accountant refuses.
    pub fn epsilon(
        &self,
        steps: &StepCounts,
        delta: Delta,
        relation: NeighboringRelation,
    ) -> Result<Epsilon, AccountantError> {
        let figure = self.figure((steps.key(), delta.get().to_bits(), relation));
        // Held while computing: who asks for the same figure meanwhile waits for it instead of computing it too. A panic
        // leaves nothing behind, so a poisoned lock holds what it held.
        let mut figure = figure.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = *figure {
            return Ok(known);
        }
        let computed = epsilon(&steps.events(), delta, relation)?;
        *figure = Some(computed);
        Ok(computed)
    }

    fn figure(&self, key: (CountKey, u64, NeighboringRelation)) -> Figure {
        let mut figures = self.figures.lock().unwrap_or_else(PoisonError::into_inner);
        if figures.len() >= MAX_FIGURES {
            figures.clear();
        }
        Arc::clone(figures.entry(key).or_default())
    }

    /// Epsilon of these steps under both relations.
    ///
    /// # Errors
    /// Whatever the accountant refuses.
    pub fn spent(&self, steps: &StepCounts, delta: Delta) -> Result<Spent, AccountantError> {
        Ok(Spent {
            replace: self.epsilon(steps, delta, NeighboringRelation::Replace)?,
            zero_out: self.epsilon(steps, delta, NeighboringRelation::ZeroOut)?,
        })
    }
}
