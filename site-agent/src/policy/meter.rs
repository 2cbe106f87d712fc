//! Epsilons of event lists, each computed once.
//!
//! Composition does not depend on order, so steps are counted by kind first. All sites of a study make the same steps;
//! one meter shared by the agents of a simulation therefore computes each figure once for all of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

pub use fusiondp_dp::StepCounts;
use fusiondp_dp::{Accountant, AccountantError, Delta, Epsilon, NeighboringRelation};

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

/// A figure, or the place where it is being computed.
type Figure = Arc<Mutex<Option<Epsilon>>>;

/// Computes and remembers epsilons.
#[derive(Debug, Default)]
pub struct EpsilonMeter {
    figures: Mutex<HashMap<(StepCounts, u64, NeighboringRelation), Figure>>,
    /// Knows the kinds of steps of earlier figures.
    accountant: Mutex<Accountant>,
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
        let figure = self.figure((steps.clone(), delta.get().to_bits(), relation));
        // Held while computing: who asks for the same figure meanwhile waits for it instead of computing it too. A panic
        // leaves nothing behind, so a poisoned lock holds what it held.
        let mut figure = figure.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = *figure {
            return Ok(known);
        }
        let computed = self
            .accountant
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .epsilon_of_steps(steps, delta, relation)?;
        *figure = Some(computed);
        Ok(computed)
    }

    fn figure(&self, key: (StepCounts, u64, NeighboringRelation)) -> Figure {
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
