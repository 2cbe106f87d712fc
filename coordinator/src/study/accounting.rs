//! Epsilons of charged steps, each list of them accounted once.

use std::collections::HashMap;
use std::fmt;

use fusiondp_dp::{Accountant, AccountantError, Delta, Epsilon, NeighboringRelation, StepCounts};
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

/// Figures kept; a study of many rounds asks for others after each.
const MAX_FIGURES: usize = 1024;

/// Remembers what it has computed: most sites of a study make the same steps, and one run takes seconds.
pub(crate) struct Accounting {
    delta: Delta,
    accountant: Accountant,
    known: HashMap<StepCounts, EpsilonPair>,
}

impl fmt::Debug for Accounting {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Accounting").field("delta", &self.delta).finish_non_exhaustive()
    }
}

impl Accounting {
    pub(crate) fn new(delta: Delta) -> Self {
        Self { delta, accountant: Accountant::default(), known: HashMap::new() }
    }

    /// Both figures of steps that compose in sequence.
    ///
    /// # Errors
    /// Whatever the accountant refuses.
    pub(crate) fn of(&mut self, steps: &StepCounts) -> Result<EpsilonPair, AccountantError> {
        if let Some(known) = self.known.get(steps) {
            return Ok(*known);
        }
        if self.known.len() >= MAX_FIGURES {
            self.known.clear();
        }
        let mut of =
            |relation| self.accountant.epsilon_of_steps(steps, self.delta, relation).map(Epsilon::get);
        let pair = EpsilonPair {
            replace: of(NeighboringRelation::Replace)?,
            zero_out: of(NeighboringRelation::ZeroOut)?,
        };
        self.known.insert(steps.clone(), pair);
        Ok(pair)
    }
}
