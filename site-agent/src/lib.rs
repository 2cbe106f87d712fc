//! The agent that runs at a site: it holds patients' records, decides what may leave, and keeps the books.
//!
//! | module | holds |
//! |---|---|
//! | [`agent`] | the orchestrator: takes assignments, answers each |
//! | [`app`] | wiring of a deployed agent from its configuration |
//! | [`cli`] | `fusiondp-site run`, `check`, `ledger` |
//! | [`config`] | `site.toml` |
//! | [`data`] | records: CSV to checked tables, privacy units, the identity of a data set |
//! | [`imputer`] | imputed values: ONNX, precomputed, declared noise; the only place with ONNX Runtime |
//! | [`train`] | a round: public gradient, private sum, local steps |
//! | [`evaluate`] | metrics in the clear, where study and site permit them |
//! | [`policy`] | limits, permits, refusals, the privacy budget |
//! | [`store`] | ledger, outbox, studies in SQLite |
//! | [`transport`] | the connection to the coordinator |
//! | [`random`], [`workers`] | randomness and CPU work as arguments |
//!
//! # The order of a private release
//!
//! ```text
//! plan verified -> model fetched and checked -> ReleasePermit      policy: limits, budget over all studies
//!   -> CommittedCharge                                              ledger: on disk before it exists as a value
//!   -> PrivateStep: secret sample, clipped and rounded sum, noise   consumes the charge
//!   -> outbox                                                       bytes and "released" in one transaction
//!   -> coordinator                                                  the same bytes, however often they are sent
//! ```
//!
//! Each arrow is a value that only the step before it makes and that the next step consumes. A crash between two arrows
//! costs budget, never privacy: a charge without stored bytes stays, and the task is computed anew with a new charge, new
//! noise and a new update id.
//!
//! May depend on every `fusiondp` crate but the coordinator. ONNX Runtime only in [`imputer`], SQL only in [`store`], tonic
//! only in [`transport`].

pub mod agent;
pub mod app;
pub mod cli;
pub mod config;
pub mod data;
pub mod error;
pub mod evaluate;
pub mod imputer;
pub mod policy;
pub mod random;
pub mod store;
pub mod train;
pub mod transport;
pub mod workers;

#[cfg(test)]
mod testing;

pub use agent::{AgentError, SiteAgent, SiteParts, SiteSettings};
pub use random::RandomSource;
