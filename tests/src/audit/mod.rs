//! Proof by attack: what an attacker achieves against the private step, beside what is claimed.
//!
//! Canaries are units that an adversary chose: each contributes its own direction at the full clip norm, with a sign that
//! one secret bit decides (`replace`), or is present or absent (`zero_out`). In tables of counts the bit decides in which of
//! two cells a canary lies. They go through the real mechanism of each [`Mechanism`] with
//! real charges, the attacker sees every release, and guesses bits. [`bound`] turns the number of right guesses into a
//! lower bound on epsilon with stated confidence. Honest code stays below its claim; with a planted [`Fault`] the bound
//! exceeds it, which shows that the attack would notice. [`attribute`] attacks a whole training run by records whose
//! sensitive values a bit chooses.

pub mod attack;
pub mod attribute;
pub mod bound;
mod charges;
pub mod fault;
pub mod mechanism;
mod plot;
pub mod setting;
mod sums;
mod tables;

use fusiondp_dp::{Delta, Epsilon, NeighboringRelation};
use serde::{Deserialize, Serialize};

pub use self::attack::AuditError;
pub use self::fault::Fault;
pub use self::mechanism::Mechanism;
pub use self::plot::{attribute_svg, svg};
pub use self::setting::{Series, Setting};

/// Probability with which a lower bound may be wrong.
pub const ERROR_PROBABILITY: f64 = 0.01;

/// One canary in so many is guessed: the surest. Fixed beforehand, as a choice by outcome would spoil the confidence.
const GUESSED_SHARE: usize = 50;

/// What an attack showed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuditResult {
    /// What was attacked.
    pub mechanism: Mechanism,
    /// `None` for the code as it is.
    pub fault: Option<Fault>,
    /// What the canaries' bits decide.
    pub relation: NeighboringRelation,
    /// Upper bound that the accountant gives for the charges that were claimed.
    pub claim: Epsilon,
    /// Delta of claim and bounds.
    pub delta: Delta,
    /// Canaries, and how many of them were guessed, and how many rightly.
    pub canaries: usize,
    /// Guesses.
    pub guesses: usize,
    /// Right guesses.
    pub right: usize,
    /// Bits that were guessed wrongly where all canaries are guessed.
    pub wrong: usize,
    /// Epsilon is at least this, with a confidence of 99 %, whatever the mechanism is (Steinke, Nasr, Jagielski 2023).
    pub lower_bound: f64,
    /// The same if the mechanism is as private as some Gaussian one (Nasr et al. 2023): sharper, and less certain.
    pub gaussian_bound: f64,
}

impl AuditResult {
    /// Whether the attack refutes the claim.
    #[must_use]
    pub fn refutes(&self) -> bool {
        self.lower_bound > self.claim.get()
    }

    /// Whether it refutes the claim, or would if the mechanism is as private as some Gaussian one.
    #[must_use]
    pub fn alarms(&self) -> bool {
        self.refutes() || self.gaussian_bound > self.claim.get()
    }
}

/// Attacks one setting; `seed` decides bits and, in this simulation, noise.
///
/// # Errors
/// A setting that the accountant or the private step refuses.
pub fn audit(setting: &Setting, fault: Option<Fault>, seed: u64) -> Result<AuditResult, AuditError> {
    let relation = fault.map_or(NeighboringRelation::Replace, Fault::relation);
    let claim = setting.claim(fault)?;
    let canaries = attack::run(setting, fault, seed)?;
    let guesses = canaries.len().div_ceil(GUESSED_SHARE);
    let right = attack::right_guesses(&canaries, guesses);
    let wrong = canaries.len() - attack::right_guesses(&canaries, canaries.len());
    let delta = setting.delta;
    Ok(AuditResult {
        mechanism: setting.mechanism(),
        fault,
        relation,
        claim,
        delta,
        canaries: canaries.len(),
        guesses,
        right,
        wrong,
        lower_bound: bound::epsilon((canaries.len(), guesses, right), delta.get(), ERROR_PROBABILITY),
        gaussian_bound: bound::gaussian_epsilon((canaries.len(), wrong), delta.get(), ERROR_PROBABILITY),
    })
}

#[cfg(test)]
mod tests;
