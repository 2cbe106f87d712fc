//! Epsilons of charged events, each list of them accounted once.

use fusiondp_dp::{AccountantError, Delta, DpEvent, Epsilon, NeighboringRelation, epsilon};
use serde::Serialize;

/// A pair of upper bounds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct EpsilonPair {
    pub(crate) replace: f64,
    pub(crate) zero_out: f64,
}

impl EpsilonPair {
    pub(crate) const ZERO: Self = Self { replace: 0.0, zero_out: 0.0 };

    /// The larger figure under each relation.
    pub(crate) fn max(self, other: Self) -> Self {
        Self { replace: self.replace.max(other.replace), zero_out: self.zero_out.max(other.zero_out) }
    }

    /// Basic composition: holds at the sum of the deltas.
    pub(crate) fn plus(self, other: Self) -> Self {
        Self { replace: self.replace + other.replace, zero_out: self.zero_out + other.zero_out }
    }
}

/// Remembers what it has computed: most sites of a study have the same events, and one run takes seconds.
pub(crate) struct Accounting {
    delta: Delta,
    known: Vec<(Vec<DpEvent>, EpsilonPair)>,
}

impl Accounting {
    pub(crate) fn new(delta: Delta) -> Self {
        Self { delta, known: Vec::new() }
    }

    /// Both figures of events that compose in sequence.
    ///
    /// # Errors
    /// Whatever the accountant refuses.
    pub(crate) fn of(
        &mut self,
        events: impl IntoIterator<Item = DpEvent>,
    ) -> Result<EpsilonPair, AccountantError> {
        let events = merged(events);
        if let Some((_, known)) = self.known.iter().find(|(other, _)| *other == events) {
            return Ok(*known);
        }
        let of = |relation| epsilon(&events, self.delta, relation).map(Epsilon::get);
        let pair = EpsilonPair {
            replace: of(NeighboringRelation::Replace)?,
            zero_out: of(NeighboringRelation::ZeroOut)?,
        };
        self.known.push((events, pair));
        Ok(pair)
    }
}

/// Equal neighbors become one event of their steps together.
pub(crate) fn merged(events: impl IntoIterator<Item = DpEvent>) -> Vec<DpEvent> {
    let mut merged: Vec<DpEvent> = Vec::new();
    for event in events {
        match merged.last_mut().and_then(|last| Some((last.merged_with(&event)?, last))) {
            Some((sum, last)) => *last = sum,
            None => merged.push(event),
        }
    }
    merged
}
