//! The gRPC edge: who calls, wire to domain, domain to wire. The only place that sees the generated types.
//!
//! | file | holds |
//! |---|---|
//! | `identity` | who calls, and whether that role may |
//! | `errors` | every error as a status with a problem type |
//! | `federation` | calls of sites |
//! | `update` | the checks of an update that need no store |
//! | `administration` | calls of administrators |

mod administration;
mod errors;
mod federation;
mod identity;
mod keys;
mod metrics;
mod update;

pub(crate) use administration::AdministrationService;
pub(crate) use federation::FederationService;
