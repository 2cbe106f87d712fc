//! A federation of real processes on this machine: provisioning, starting, killing, watching.
//!
//! The demo and the integration tests use the programs as a user does: every step is a [`CommandLine`], every process
//! writes a log file, and everything lies below one folder. Nothing here reaches into a service; what a test wants to
//! know it asks the programs (`--json`) or reads from the files they leave.
//!
//! | module | content |
//! |---|---|
//! | [`command`] | a command line, where its program lies |
//! | [`process`] | a background process with a log; killed with its handle |
//! | [`kit`] | consortium.toml, and the settings of each site's kit |
//! | [`federation`] | the whole: provision, serve, run, submit, wait, export |
//! | [`toml_text`] | studies and configurations edited for a run, comments kept |
//! | [`small`] | a cohort and studies that take seconds |

pub mod command;
mod error;
pub mod federation;
pub mod kit;
pub mod process;
pub mod small;
pub mod toml_text;

pub use command::{CommandLine, binary, both_streams};
pub use error::HarnessError;
pub use federation::{Federation, FederationOptions};
pub use kit::{Policy, PublicColumns, SiteSetup};
pub use process::Process;
