//! Every mode over seeds, epsilons and data sets: the sweep behind `docs/RESULTS.md`.
//!
//! A run of the sweep is a study, made from declared settings, that is trained through the functions of a site and of the
//! coordinator in one loop. What is finished is appended to `results.jsonl` under the digest of its settings, so a sweep
//! that was stopped goes on where it was, and a changed setting is a new run.
//!
//! ```text
//! settings.toml + sample study + cell -> study document -> digest -> in results.jsonl? -> done
//!                                            |                           | no
//!                                            +--> engine: sites, charges, rounds -> metrics -> results.jsonl
//! results.jsonl -> summary -> table.md, results.json, plot-DATA.svg
//! ```
//!
//! | module | content |
//! |---|---|
//! | [`mode`] | modes, imputers and data sets by name |
//! | [`settings`] | from declared settings to a run's study |
//! | [`cell`] | a run and its digest |
//! | [`data`], `authors` | data sets cut into sites; the authors' pooled setting |
//! | [`imputers`] | where imputed values come from |
//! | [`engine`] | the federation as a loop |
//! | [`results`] | the append-only file |
//! | [`summary`], [`table`], [`plot`] | means over seeds, Markdown, SVG |

mod authors;
pub mod cell;
pub mod data;
pub mod engine;
mod error;
pub mod imputers;
pub mod mode;
pub mod plot;
pub mod results;
pub mod settings;
pub mod summary;
mod sweep;
pub mod table;
#[cfg(test)]
mod tests;

pub use error::{CellError, ReproduceError};
pub use sweep::{Event, ReproduceOptions, Reproduction, reproduce};
