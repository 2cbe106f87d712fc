//! A batch of privacy units in both views.

use super::{InputShape, ModelError, View};

/// Records of U privacy units, in the real and in the hybrid view.
///
/// Has no `Debug`: rows derive from patients' values.
#[derive(Clone)]
pub struct PairedBatch<F> {
    /// True values, N records.
    pub real: View<F>,
    /// Imputed values of the same N records.
    pub hybrid: View<F>,
    /// Label of each record, 0 or 1.
    pub labels: Vec<F>,
    /// Rows of unit u are `unit_offsets[u]..unit_offsets[u + 1]`; length U + 1, from 0 to N.
    pub unit_offsets: Vec<usize>,
}

impl<F: Copy> PairedBatch<F> {
    /// A batch without units, with room to grow.
    pub fn empty(shape: &InputShape) -> Self {
        Self {
            real: View::empty(shape),
            hybrid: View::empty(shape),
            labels: Vec::new(),
            unit_offsets: vec![0],
        }
    }

    /// A batch in which each record is its own unit.
    pub fn of_single_records(real: View<F>, hybrid: View<F>, labels: Vec<F>) -> Self {
        let unit_offsets = (0..=real.rows()).collect();
        Self { real, hybrid, labels, unit_offsets }
    }

    /// Number of privacy units U.
    pub fn units(&self) -> usize {
        self.unit_offsets.len().saturating_sub(1)
    }

    /// Checks that the offsets cut the N records into units.
    pub(crate) fn check_offsets(&self) -> Result<(), ModelError> {
        let ordered = self.unit_offsets.windows(2).all(|pair| pair[0] <= pair[1]);
        let first = self.unit_offsets.first().copied();
        let last = self.unit_offsets.last().copied();
        if ordered && first == Some(0) && last == Some(self.real.rows()) {
            return Ok(());
        }
        Err(ModelError::UnitOffsets { records: self.real.rows() })
    }
}
