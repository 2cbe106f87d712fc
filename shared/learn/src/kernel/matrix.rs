//! A matrix borrowed from a slice.

use std::ops::Range;

/// A matrix `[rows, columns]` whose values lie row by row, or, transposed, column by column.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a, F> {
    values: &'a [F],
    rows: usize,
    columns: usize,
    transposed: bool,
}

impl<'a, F> Matrix<'a, F> {
    /// The first `rows * columns` values of a slice, row by row.
    ///
    /// # Panics
    /// If the slice is shorter.
    #[inline(always)]
    pub(crate) fn new(values: &'a [F], rows: usize, columns: usize) -> Self {
        Self { values: &values[..rows * columns], rows, columns, transposed: false }
    }

    /// Some rows of a row-major matrix.
    ///
    /// # Panics
    /// If the matrix has fewer rows.
    #[inline(always)]
    pub(crate) fn slice(&self, rows: Range<usize>) -> Self {
        debug_assert!(!self.transposed);
        Self::new(&self.values[rows.start * self.columns..], rows.len(), self.columns)
    }

    /// The transposed matrix; nothing is moved.
    #[inline(always)]
    pub(crate) fn t(self) -> Self {
        Self { rows: self.columns, columns: self.rows, transposed: !self.transposed, ..self }
    }

    /// The values as they lie in memory.
    #[inline(always)]
    pub(crate) fn values(&self) -> &'a [F] {
        self.values
    }

    #[inline(always)]
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    #[inline(always)]
    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    #[inline(always)]
    pub(crate) fn is_transposed(&self) -> bool {
        self.transposed
    }
}

/// Copies a row-major matrix `[rows, columns]` to `into` as `[columns, rows]`.
pub(crate) fn transpose<F: Copy + Default>(values: &[F], rows: usize, columns: usize, into: &mut Vec<F>) {
    into.resize(rows * columns, F::default());
    for (column, target) in into.chunks_exact_mut(rows.max(1)).enumerate() {
        for (target, row) in target.iter_mut().zip(values.chunks_exact(columns)) {
            *target = row[column];
        }
    }
}
