//! The coordinator of a federation: drives studies round by round, and never sees a patient's value.
//!
//! Sites dial in over mutually authenticated connections, take assignments and send releases that their own ledgers
//! have paid for. The coordinator derives the plan, adds up what arrives, takes the server step, pools metrics and
//! writes the report. It holds no authority over privacy: each site accounts for itself, and what is kept here of the
//! ledgers is a mirror.
//!
//! | module | holds |
//! |---|---|
//! | [`app`] | [`Coordinator::start`]: the services over any stream of connections |
//! | [`config`] | `coordinator.toml` |
//! | `study` | a study from submission to its end: enrollment, evaluation, audit, status |
//! | [`round`] | one round as a persisted state machine, one file per phase |
//! | [`store`] | durable state in SQLite or PostgreSQL; the only place with SQL |
//! | `grpc` | the gRPC edge; the only place with generated types and status codes |
//! | `board`, `presence` | what sites are to do and which are there, in memory only |
//! | [`report`] | the report folder of a study |
//! | [`receipts`] | verifying the receipts in it, offline |
//! | [`provision`] | keys, certificates and kits of a consortium |
//! | [`support`] | support data that imputers are fitted on |
//! | [`cli`] | the commands of the binary |
//! | [`progress`] | the terminal view of a running study |
//! | `counts` | what tables of counts add up to, for the report and for whoever verifies it |
//! | `text` | figures and times for people |
//!
//! Where a round's data goes:
//!
//! ```text
//! site ──update──▶ grpc/update (shape, digest, finiteness, charges) ──▶ store/updates + store/mirror
//!                                                                              │ notify
//!      ◀──task─── board ◀── round/driver ── round/{selection,configuration,reporting,aggregation}
//!                                │
//!                                ▼ one transaction: phase, model version + 1, server state, next round
//!                           store/rounds + store/models
//! ```
//!
//! May depend on every shared crate, and never on the site agent.

pub mod app;
pub mod cli;
pub mod config;
pub mod error;
pub mod progress;
pub mod provision;
pub mod receipts;
pub mod report;
pub mod round;
pub mod store;
pub mod support;

mod board;
mod counts;
mod grpc;
mod presence;
mod shared;
mod study;
mod text;

pub use app::{Consortium, Coordinator, CoordinatorSettings, RunningCoordinator, Submissions};
pub use error::CoordinatorError;
pub use store::{Store, StoreOptions};
