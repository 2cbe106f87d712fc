//! One round as a persisted state machine.
//!
//! ```text
//!                  too few sites connected
//!                        ┌──┐
//!                        ▼  │
//!   previous round ──▶ Selection ──▶ Configuration ──▶ Reporting ──▶ Aggregation ──▶ Finished ──▶ next round
//!                        ▲                                │
//!                        │   deadline with too few updates│
//!                        └────────── Abandoned ◀──────────┘
//!                 next attempt, carries what was reported
//! ```
//!
//! Every edge is one transaction of the store, written before anybody acts on it. Each phase is a value that its
//! transition consumes, in a file of its own with its own error type, and knows neither store nor network: the
//! [`driver`] reads what a phase needs, calls it and writes the edge it returns. A restart therefore loads the newest
//! row and goes on; aggregation is a pure function of stored updates and is simply run again.
//!
//! An update belongs to a model version, not to an attempt: what a site reported in an abandoned attempt counts in the
//! next one, so no site spends its budget twice for one round.

pub mod aggregation;
pub mod configuration;
pub(crate) mod driver;
pub mod event;
pub mod outcome;
pub mod reporting;
pub mod selection;

pub use aggregation::Aggregation;
pub use configuration::Configuration;
pub use outcome::{Abandoned, Finished};
pub use reporting::Reporting;
pub use selection::Selection;

/// Which attempt of which round, on which model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RoundKey {
    /// From 1.
    pub round: u32,
    /// From 1.
    pub attempt: u32,
    /// The version that the sites train on.
    pub model_version: u64,
}

impl RoundKey {
    /// The first attempt of a round.
    pub fn first_attempt(round: u32, model_version: u64) -> Self {
        Self { round, attempt: 1, model_version }
    }
}

#[cfg(test)]
mod tests;
