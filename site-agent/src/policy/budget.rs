//! Whether further events fit into the site's limits, each at the delta of the policy: a study with a larger delta of its
//! own buys nothing by it.
//!
//! Epsilon grows with every step, so a list of steps that fits proves that every part of it fits. The first task of a
//! study therefore asks for the study to its end: if that fits together with everything charged before, the rounds that
//! follow need no evaluation. Where it does not fit, each round is evaluated exactly, and the budget is used up to its
//! last whole round. New attempts of a round are further steps; they are evaluated once the proven list is exceeded.
//!
//! Each scope has its own list and its own proof, of counts and never of entries or times. A year's window that moves on
//! drops entries, which leaves a part of what was proven; what other studies charge meanwhile goes beyond it and is
//! evaluated. The limit of a study is the same for every study, so its proof may serve another one with as few steps.

use std::sync::Arc;

use fusiondp_dp::{Digest, DpEvent, LedgerEntry, NeighboringRelation, Protection, Released};

use super::limits::Scope;
use super::meter::{EpsilonMeter, StepCounts};
use super::{PolicyLimits, Refusal};

/// Length of a year's window, in milliseconds.
pub const YEAR_MS: u64 = 365 * 24 * 3600 * 1000;

/// What has been proven to fit, for each scope.
#[derive(Debug)]
pub struct Budget {
    meter: Arc<EpsilonMeter>,
    proven: [Option<Proven>; Scope::ALL.len()],
}

/// One kind of release that a task asks for.
#[derive(Debug, Clone)]
pub struct Planned {
    /// What the noise is added to.
    pub released: Released,
    /// One step.
    pub event: DpEvent,
    /// Steps that the task charges.
    pub steps_now: u64,
    /// Steps to the end of the study, these included.
    pub steps_to_the_end: u64,
}

impl Scope {
    /// Whether a release counts: a public sum holds no sensitive value, and costs whole records alone.
    pub fn counts(self, released: &Released) -> bool {
        self == Self::Records || *released != Released::PublicSum
    }
}

/// Steps charged before, by what they count against.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Past {
    /// On the data set, ever.
    pub data_set: StepCounts,
    /// Of these, by the study.
    pub study: StepCounts,
    /// Of these, by any study in the last 365 days.
    pub year: StepCounts,
    /// On the data set, ever, of whole records.
    pub records: StepCounts,
    /// A study that does not protect whole records is among them: their loss has no bound.
    pub records_lost: bool,
}

#[derive(Debug)]
struct Proven {
    steps: StepCounts,
    limits: PolicyLimits,
}

impl Past {
    /// The entries on one data set as they count at `now_ms` for one study, Unix milliseconds. An entry is of the last year
    /// until its 365 days are over, and also if its time has not come: a clock that was set back buys nothing.
    pub fn of(entries: &[LedgerEntry], data_set: Digest, study: &str, now_ms: u64) -> Self {
        let mut past = Self::default();
        for charge in entries.iter().map(LedgerEntry::charge).filter(|charge| charge.data_set == data_set) {
            let steps = u64::from(charge.event.steps().get());
            past.records.add(&charge.event, steps);
            past.records_lost |= charge.protects != Protection::WholeRecords;
            if !Scope::DataSet.counts(&charge.released) {
                continue;
            }
            past.data_set.add(&charge.event, steps);
            if charge.study == study {
                past.study.add(&charge.event, steps);
            }
            if now_ms.saturating_sub(charge.time_ms) <= YEAR_MS {
                past.year.add(&charge.event, steps);
            }
        }
        past
    }

    /// The steps that count in a scope.
    pub fn in_scope(&self, scope: Scope) -> &StepCounts {
        match scope {
            Scope::DataSet => &self.data_set,
            Scope::Study => &self.study,
            Scope::Year => &self.year,
            Scope::Records => &self.records,
        }
    }
}

impl Budget {
    /// Nothing proven yet.
    pub fn new(meter: Arc<EpsilonMeter>) -> Self {
        Self { meter, proven: [const { None }; Scope::ALL.len()] }
    }

    /// Whether the task's steps fit together with everything charged before, in every scope.
    ///
    /// # Errors
    /// [`Refusal::BudgetExceeded`] with the figure that the task would lead to; [`Refusal::Unaccountable`] when the
    /// accountant gives none.
    pub fn admit(&mut self, limits: &PolicyLimits, past: &Past, planned: &[Planned]) -> Result<(), Refusal> {
        Scope::ALL.into_iter().enumerate().try_for_each(|(index, scope)| {
            let proven = self.proven[index].as_ref();
            if let Some(newer) = self.prove(proven, limits, (scope, past.in_scope(scope)), planned)? {
                self.proven[index] = Some(newer);
            }
            Ok(())
        })
    }

    /// A new proof of one scope, or nothing where the old one covers the task.
    fn prove(
        &self,
        proven: Option<&Proven>,
        limits: &PolicyLimits,
        (scope, before): (Scope, &StepCounts),
        planned: &[Planned],
    ) -> Result<Option<Proven>, Refusal> {
        let counted: Vec<&Planned> = planned.iter().filter(|one| scope.counts(&one.released)).collect();
        if counted.is_empty() {
            return Ok(None);
        }
        let after = |steps: fn(&Planned) -> u64| {
            let mut counts = before.clone();
            for one in counted.iter().filter(|one| steps(one) > 0) {
                counts.add(&one.event, steps(one));
            }
            counts
        };
        let now = after(|one| one.steps_now);
        let covers = |proven: &Proven| proven.limits == *limits && now.within(&proven.steps);
        if proven.is_some_and(covers) {
            return Ok(None);
        }
        let whole = after(|one| one.steps_to_the_end.max(one.steps_now));
        let steps = match self.check(limits, scope, &whole) {
            Ok(()) => whole,
            Err(_) => {
                self.check(limits, scope, &now)?;
                now
            }
        };
        Ok(Some(Proven { steps, limits: limits.clone() }))
    }

    fn check(&self, limits: &PolicyLimits, scope: Scope, steps: &StepCounts) -> Result<(), Refusal> {
        for relation in NeighboringRelation::ALL {
            if limits.max_epsilon(scope, relation).is_none() {
                continue;
            }
            let needed = self
                .meter
                .epsilon(steps, limits.delta, relation)
                .map_err(|error| Refusal::Unaccountable { reason: error.to_string() })?;
            limits.check_epsilon(scope, relation, needed)?;
        }
        Ok(())
    }
}
