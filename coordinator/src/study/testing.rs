//! What unit tests of several modules use.

/// A small study with one public and one sensitive column, a linear model, and a warm-up round.
pub(crate) const STUDY: &str = include_str!("../../tests/data/study.toml");
