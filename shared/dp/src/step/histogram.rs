//! Counts of units by cell, with noise.
//!
//! Every unit takes part and adds one, divided evenly over its records, to the cells in which they lie. The weights are
//! integers in multiples of 2^-28 and are rounded down, so a unit adds non-negative integers that sum to at most 2^28
//! whatever the cells are. Two such vectors are at most `sqrt 2` times 2^28 apart, and each is at most 2^28 long, which is
//! what [`DpEvent::GaussianHistogram`] is accounted with. The argument for discrete noise is that of the
//! [private step](super).

use std::fmt;

use super::{MAX_UNITS, discrete_gaussian::DiscreteGaussian, error::StepError, grid::Grid};
use crate::{
    event::DpEvent,
    ledger::{CommittedCharge, LedgerEntry, Released},
    random::SecureRng,
};

/// Most cells of a table.
pub const MAX_CELLS: usize = 1 << 16;

/// A table under construction. It is dropped without a trace, or released with noise; the charge is spent either way.
pub struct HistogramStep {
    entry: LedgerEntry,
    noise: DiscreteGaussian,
    rng: SecureRng,
    counts: Vec<i64>,
    /// Units that were not added yet.
    missing: usize,
}

impl HistogramStep {
    /// One unit in the integers of a table.
    pub const UNIT: i64 = Grid::STEPS_PER_CLIP_NORM;

    /// Consumes the charge of a table of `cells` cells over `units` units.
    ///
    /// # Errors
    /// [`StepError`] if the charge is for another kind of release, pays for several, or names another number of units, or if a
    /// size or the noise multiplier is out of range. The charge stays spent.
    pub fn begin(
        charge: CommittedCharge,
        units: usize,
        cells: usize,
        rng: SecureRng,
    ) -> Result<Self, StepError> {
        let entry = charge.into_entry();
        let DpEvent::GaussianHistogram { noise_multiplier, steps } = entry.charge().event else {
            return Err(StepError::OtherEvent { expected: "gaussian_histogram" });
        };
        if !matches!(entry.charge().released, Released::Counts { .. }) {
            return Err(StepError::OtherEvent { expected: "counts" });
        }
        if steps.get() != 1 {
            return Err(StepError::SeveralSteps { steps: steps.get() });
        }
        let charged = entry.charge().units;
        if u64::try_from(units) != Ok(charged) {
            return Err(StepError::UnitsDiffer { charged, given: units });
        }
        if units > MAX_UNITS {
            return Err(StepError::TooManyUnits { units });
        }
        if !(1..=MAX_CELLS).contains(&cells) {
            return Err(StepError::Cells { cells });
        }
        let noise = DiscreteGaussian::for_multiplier(noise_multiplier)?;
        Ok(Self { entry, noise, rng, counts: vec![0; cells], missing: units })
    }

    /// Adds one unit, whose records lie in these cells; each unit exactly once, in any order.
    ///
    /// # Errors
    /// [`StepError::TooManyContributions`], or [`StepError::Cell`] for a cell that the table does not have; the table is
    /// unchanged.
    pub fn add_unit(&mut self, cells: &[usize]) -> Result<(), StepError> {
        if self.missing == 0 {
            return Err(StepError::TooManyContributions);
        }
        if cells.iter().any(|&cell| cell >= self.counts.len()) {
            return Err(StepError::Cell);
        }
        // A unit of more than 2^28 records adds nothing.
        let weight = i64::try_from(cells.len()).ok().and_then(|records| Self::UNIT.checked_div(records));
        for &cell in cells {
            self.counts[cell] += weight.unwrap_or(0);
        }
        self.missing -= 1;
        Ok(())
    }

    /// Adds discrete Gaussian noise to every cell and gives the table out.
    ///
    /// # Errors
    /// [`StepError::MissingContributions`] unless every unit was added; nothing is released then.
    pub fn release(mut self) -> Result<HistogramRelease, StepError> {
        if self.missing > 0 {
            return Err(StepError::MissingContributions);
        }
        // At most 2^32 units of 2^28 in a cell, and noise below 2^51.
        self.noise.add_noise(&mut self.counts, &mut self.rng);
        Ok(HistogramRelease { counts: self.counts, entry: self.entry })
    }
}

impl fmt::Debug for HistogramStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HistogramStep")
            .field("cells", &self.counts.len())
            .field("sequence", &self.entry.sequence())
            .finish_non_exhaustive()
    }
}

/// The noisy table, with the ledger entry that paid for it. Only [`HistogramStep::release`] makes one.
#[derive(Debug)]
#[must_use = "the charge for this release is spent"]
pub struct HistogramRelease {
    counts: Vec<i64>,
    entry: LedgerEntry,
}

impl HistogramRelease {
    /// The noisy counts in multiples of 1 / [`HistogramStep::UNIT`], one per cell.
    #[must_use]
    pub fn counts(&self) -> &[i64] {
        &self.counts
    }

    /// Takes the release apart for sending.
    #[must_use]
    pub fn into_parts(self) -> (Vec<i64>, LedgerEntry) {
        (self.counts, self.entry)
    }
}

#[cfg(test)]
mod tests;
