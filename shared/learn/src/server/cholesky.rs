//! Cholesky factors of small symmetric matrices, in f64, row by row: the same bits on every platform.

use ndarray::Array2;

/// Lower triangular L with `L L^T = A`.
pub(super) struct Cholesky(Array2<f64>);

impl Cholesky {
    /// Factor of a symmetric positive definite matrix, of which the lower triangle is read; `None` if it is not one.
    pub(super) fn new(matrix: &Array2<f64>) -> Option<Self> {
        let n = matrix.nrows();
        let mut factor = Array2::<f64>::zeros((n, n));
        for row in 0..n {
            for column in 0..=row {
                let products = (0..column).map(|k| factor[[row, k]] * factor[[column, k]]);
                let rest = matrix[[row, column]] - products.sum::<f64>();
                factor[[row, column]] = if column < row {
                    rest / factor[[column, column]]
                } else if rest > 0.0 && rest.is_finite() {
                    rest.sqrt()
                } else {
                    return None;
                };
            }
        }
        Some(Self(factor))
    }

    /// The solution x of `A x = b`, in place of b.
    pub(super) fn solve(&self, vector: &mut [f64]) {
        let (factor, n) = (&self.0, vector.len());
        for row in 0..n {
            let known: f64 = (0..row).map(|k| factor[[row, k]] * vector[k]).sum();
            vector[row] = (vector[row] - known) / factor[[row, row]];
        }
        for row in (0..n).rev() {
            let known: f64 = (row + 1..n).map(|k| factor[[k, row]] * vector[k]).sum();
            vector[row] = (vector[row] - known) / factor[[row, row]];
        }
    }

    /// The inverse of A.
    pub(super) fn inverse(&self) -> Array2<f64> {
        let n = self.0.nrows();
        let mut inverse = Array2::<f64>::eye(n);
        // Rows of a symmetric inverse are its columns.
        for mut row in inverse.rows_mut() {
            let mut values = row.to_vec();
            self.solve(&mut values);
            row.assign(&ndarray::ArrayView1::from(&values));
        }
        inverse
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use ndarray::{arr1, arr2};

    use super::*;

    #[test]
    fn a_system_is_solved_and_its_inverse_is_one() {
        let matrix = arr2(&[[4.0, 2.0, 0.6], [2.0, 5.0, 1.0], [0.6, 1.0, 3.0]]);
        let factor = Cholesky::new(&matrix).unwrap();
        let expected = [1.0, -2.0, 0.5];
        let mut solved = matrix.dot(&arr1(&expected)).to_vec();
        factor.solve(&mut solved);
        for (found, expected) in solved.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-14, "{found} against {expected}");
        }
        let unit = matrix.dot(&factor.inverse());
        assert!((unit - Array2::<f64>::eye(3)).iter().all(|difference| difference.abs() < 1e-14));
    }

    #[test]
    fn what_is_not_positive_definite_has_no_factor() {
        assert!(Cholesky::new(&arr2(&[[1.0, 2.0], [2.0, 1.0]])).is_none());
        assert!(Cholesky::new(&arr2(&[[0.0]])).is_none());
        assert!(Cholesky::new(&arr2(&[[f64::NAN]])).is_none());
    }
}
