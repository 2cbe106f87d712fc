//! What the parts of a federation say to each other, in validated domain types.
//!
//! Pure: no files, no clock, no network. The services speak these types; only the two gRPC edges see the generated
//! ones of `fusiondp-proto`, and only for the moment of conversion.
//!
//! | module | holds |
//! |---|---|
//! | [`ids`] | [`StudyId`], [`SiteId`], [`CohortName`] |
//! | [`study`] | the study document: [`study::Study`], strict reading, checks across sections |
//! | [`plan`] | [`plan::Plan`]: derived by the coordinator, recomputed by every site |
//! | [`messages`] | one domain type per wire message |
//! | [`receipt`] | what a site states in writing of every update that it releases |
//! | [`key_statement`] | what a site states about the key that signs them |
//! | [`convert`] | wire to domain with limits (`TryFrom`), domain to wire (`From`) |
//! | [`chunks`] | long byte strings in pieces, vectors as little-endian bytes |
//! | [`support`] | whom an imputer was fitted on, as digests in its file |
//! | [`problem`] | the closed set of [`ProblemType`]s, and [`Problem`] to and from a gRPC status |
//!
//! May depend on `fusiondp-proto`, `fusiondp-dp` and `fusiondp-learn`; of tonic it uses the status type only.
//!
//! # Limits
//!
//! Conversion refuses what goes beyond these, before anything is allocated for it.
//!
//! | what | limit |
//! |---|---|
//! | ids (study, site, cohort) | `[a-z0-9][a-z0-9-]{0,62}` |
//! | digest; update id | 32 bytes; 16 bytes |
//! | study document | 1 MiB |
//! | chunk | negotiated, 4 KiB to 1 MiB |
//! | model or update | negotiated, at most 16 GiB |
//! | poll | 60 s |
//! | units, records of one site | 1 to 2^32 - 1 |
//! | rounds; local steps; their product | 100,000; 1,000; 1,000,000 |
//! | receipt of an update | 1,500 ledger entries, 2 MiB of JSON |
//! | key statement | 32 KiB of JSON |
//! | histogram | exactly 4,096 bins |
//! | sites, metrics, studies in one status or list | 10,000; 100,000; 10,000 |
//! | agent version; names; detail lines | 64; 120; 1,024 characters |
//! | exported file's name | 128 of `A-Z a-z 0-9 . _ -`, no leading dot |
//! | real numbers | finite; probabilities within `[0, 1]`, epsilon >= 0 |

pub mod chunks;
pub mod convert;
pub mod ids;
pub mod key_statement;
pub mod messages;
pub mod plan;
pub mod problem;
pub mod receipt;
pub mod study;
pub mod support;
#[cfg(test)]
mod testing;

pub use fusiondp_dp::{Digest, UpdateId};
pub use ids::{CohortName, IdError, SiteId, StudyId};
pub use key_statement::{KeyStatement, SignedKeyStatement};
pub use messages::*;
pub use plan::{Plan, PlanError, PlanMismatch, SiteSize};
pub use problem::{Problem, ProblemType};
pub use receipt::{Receipt, ReceiptEpsilons, ReceiptError, SignedReceipt};
pub use study::{Study, StudyDocument, StudyError};

/// Version of the wire protocol; both ends of a connection must speak the same.
pub const PROTOCOL_VERSION: u32 = 1;
