//! Encoded model input.

use ndarray::Array2;

use super::InputShape;

/// Encoded model input of N records.
///
/// Has no `Debug`: rows derive from patients' values.
#[derive(Clone)]
pub struct View<F> {
    /// Dense input, row-major `[N, D]`.
    pub dense: Array2<F>,
    /// Bin index per sensitive feature, `[N, S]`; `S = 0` for models without a sensitive head.
    pub bins: Array2<u16>,
}

impl<F: Copy> View<F> {
    /// A view of no records, with room to grow by [`Self::select`].
    pub fn empty(shape: &InputShape) -> Self {
        Self { dense: empty(shape.dense), bins: empty(shape.bins.len()) }
    }

    /// Number of records N.
    pub fn rows(&self) -> usize {
        self.dense.nrows()
    }

    /// Replaces `into` by the given rows of this view, in the given order; memory of `into` is used again.
    ///
    /// # Panics
    /// If a row does not exist.
    pub fn select(&self, rows: &[usize], into: &mut Self) {
        select_rows(&self.dense, rows, &mut into.dense);
        select_rows(&self.bins, rows, &mut into.bins);
    }
}

fn select_rows<T: Copy>(from: &Array2<T>, rows: &[usize], into: &mut Array2<T>) {
    let columns = from.ncols();
    let (mut values, _) = std::mem::replace(into, empty(columns)).into_raw_vec_and_offset();
    values.clear();
    values.reserve(rows.len() * columns);
    match from.as_slice() {
        Some(all) => rows.iter().for_each(|row| values.extend_from_slice(&all[row * columns..][..columns])),
        None => rows.iter().for_each(|&row| values.extend(from.row(row))),
    }
    // Unwrap safety: exactly `columns` values were appended per row.
    #[allow(clippy::unwrap_used)]
    let selected = Array2::from_shape_vec((rows.len(), columns), values).unwrap();
    *into = selected;
}

fn empty<T>(columns: usize) -> Array2<T> {
    // Unwrap safety: zero rows need zero values.
    #[allow(clippy::unwrap_used)]
    Array2::from_shape_vec((0, columns), Vec::new()).unwrap()
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;
    use crate::model::HeadFeature;

    #[test]
    fn select_takes_rows_in_order_and_reuses_memory() {
        let view = View { dense: array![[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], bins: array![[1], [2], [3]] };
        let mut into = View::empty(&InputShape { dense: 2, bins: vec![HeadFeature::new(4)] });
        view.select(&[2, 0, 2], &mut into);
        assert_eq!(into.dense, array![[5.0, 6.0], [1.0, 2.0], [5.0, 6.0]]);
        assert_eq!(into.bins, array![[3], [1], [3]]);
        let before = into.dense.as_ptr();
        view.select(&[1], &mut into);
        assert_eq!(into.dense, array![[3.0, 4.0]]);
        assert_eq!(into.dense.as_ptr(), before);
        view.select(&[], &mut into);
        assert_eq!(into.rows(), 0);
    }
}
