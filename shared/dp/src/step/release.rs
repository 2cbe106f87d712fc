//! What may leave the site.

use std::fmt;

use super::grid::Grid;
use crate::ledger::LedgerEntry;

/// The noisy sum of one private step, with the ledger entry that paid for it.
///
/// Only [`PrivateStep::release`](super::PrivateStep::release) makes one; it is not `Clone`.
///
/// ```compile_fail
/// fn twice(release: fusiondp_dp::PrivateRelease) -> (fusiondp_dp::PrivateRelease, fusiondp_dp::PrivateRelease) {
///     (release.clone(), release)
/// }
/// ```
#[must_use = "the charge for this release is spent"]
pub struct PrivateRelease {
    values: Vec<i64>,
    grid: Grid,
    entry: LedgerEntry,
}

impl PrivateRelease {
    pub(super) fn new(values: Vec<i64>, grid: Grid, entry: LedgerEntry) -> Self {
        Self { values, grid, entry }
    }

    /// The noisy sum in grid steps, one value per private parameter.
    #[must_use]
    pub fn values(&self) -> &[i64] {
        &self.values
    }

    /// Length of one grid step, in units of the gradient.
    #[must_use]
    pub fn grid_step(&self) -> f64 {
        self.grid.step()
    }

    /// The ledger entry that paid for the release.
    #[must_use]
    pub fn entry(&self) -> &LedgerEntry {
        &self.entry
    }

    /// Takes the release apart for sending.
    #[must_use]
    pub fn into_parts(self) -> ReleaseParts {
        ReleaseParts { grid_step: self.grid.step(), values: self.values, entry: self.entry }
    }
}

impl fmt::Debug for PrivateRelease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrivateRelease")
            .field("dimension", &self.values.len())
            .field("sequence", &self.entry.sequence())
            .finish_non_exhaustive()
    }
}

/// The parts of a [`PrivateRelease`].
#[derive(Debug, Clone, PartialEq)]
pub struct ReleaseParts {
    /// The noisy sum in grid steps, one value per private parameter.
    pub values: Vec<i64>,
    /// Length of one grid step, in units of the gradient.
    pub grid_step: f64,
    /// The ledger entry that paid for the release.
    pub entry: LedgerEntry,
}
