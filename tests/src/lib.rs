//! A whole federation on one machine: simulation, demonstration, and the harness of the integration tests.
//!
//! | module | content |
//! |---|---|
//! | [`attack`] | what an attacker reads off a trained model and its updates, and how the model holds |
//! | [`audit`] | what an attacker achieves against the private step, beside what is claimed |
//! | [`cli`] | the commands of `fusiondp-simulate` |
//! | [`cohort`] | a synthetic intensive-care cohort, for machines without real data |
//! | [`reproduce`] | every mode over seeds, epsilons and data sets |
//! | [`simulation`] | a whole federation in one process, from study to figures |
//! | [`split`] | hospitals cut into more sites, by patient |
//! | [`vectors`] | this build's figures against independent reference figures |
//! | [`harness`] | a federation of real processes over TLS on loopback |
//! | [`shared_data`] | where data stands that is not part of the repository |
//!
//! May depend on every crate of the workspace; none depends on it. The integration tests are in `tests/`.

pub mod attack;
pub mod audit;
pub mod cli;
pub mod cohort;
pub mod harness;
pub mod reproduce;
pub mod shared_data;
pub mod simulation;
pub mod split;
pub mod vectors;

/// Names program and version in what it leaves in a report.
pub(crate) const MADE_WITH: &str = concat!("fusiondp-simulate ", env!("CARGO_PKG_VERSION"));
