//! Whether further events fit into the site's limits, over all studies on the same data, at the delta of the policy: a
//! study with a larger delta of its own buys nothing by it.
//!
//! Epsilon grows with every step, so a list of steps that fits proves that every part of it fits. The first task of a
//! study therefore asks for the study to its end: if that fits together with everything charged before, the rounds that
//! follow need no evaluation. Where it does not fit, each round is evaluated exactly, and the budget is used up to its
//! last whole round. New attempts of a round are further steps; they are evaluated once the proven list is exceeded.

use std::sync::Arc;

use fusiondp_dp::{DpEvent, NeighboringRelation};

use super::meter::{EpsilonMeter, StepCounts};
use super::{PolicyLimits, Refusal};

/// What has been proven to fit for one data set.
#[derive(Debug)]
pub struct Budget {
    meter: Arc<EpsilonMeter>,
    proven: Option<Proven>,
}

/// What a task asks for.
#[derive(Debug, Clone, Copy)]
pub struct Planned {
    /// One step.
    pub event: DpEvent,
    /// Steps that the task charges, >= 1.
    pub steps_now: u64,
    /// Steps to the end of the study, these included.
    pub steps_to_the_end: u64,
}

#[derive(Debug)]
struct Proven {
    steps: StepCounts,
    limits: PolicyLimits,
}

impl Budget {
    /// Nothing proven yet.
    pub fn new(meter: Arc<EpsilonMeter>) -> Self {
        Self { meter, proven: None }
    }

    /// Whether the task's steps fit together with everything charged on the same data.
    ///
    /// # Errors
    /// [`Refusal::BudgetExceeded`] with the figure that the task would lead to; [`Refusal::Unaccountable`] when the
    /// accountant gives none.
    pub fn admit(
        &mut self,
        limits: &PolicyLimits,
        charged: &[DpEvent],
        planned: &Planned,
    ) -> Result<(), Refusal> {
        let before = StepCounts::of(charged);
        let after = |steps| {
            let mut counts = before.clone();
            counts.add(&planned.event, steps);
            counts
        };
        let now = after(planned.steps_now);
        let covers = |proven: &Proven| proven.limits == *limits && now.within(&proven.steps);
        if self.proven.as_ref().is_some_and(covers) {
            return Ok(());
        }
        let whole = after(planned.steps_to_the_end.max(planned.steps_now));
        let steps = match self.check(limits, &whole) {
            Ok(()) => whole,
            Err(_) => {
                self.check(limits, &now)?;
                now
            }
        };
        self.proven = Some(Proven { steps, limits: limits.clone() });
        Ok(())
    }

    fn check(&self, limits: &PolicyLimits, steps: &StepCounts) -> Result<(), Refusal> {
        for relation in NeighboringRelation::ALL {
            let needed = self
                .meter
                .epsilon(steps, limits.delta, relation)
                .map_err(|error| Refusal::Unaccountable { reason: error.to_string() })?;
            limits.check_epsilon(relation, needed)?;
        }
        Ok(())
    }
}
