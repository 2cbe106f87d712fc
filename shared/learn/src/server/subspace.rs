//! The span of recent public gradients, which the private gradient is projected onto.

use super::ServerError;
use super::error::check_length;
use crate::optimiser::{Reader, Writer};

/// First bytes of a stored subspace, the last of them its version.
const MAGIC: [u8; 4] = *b"FSS1";
/// What is left of a gradient, relative to its norm, below which it counts as dependent on newer ones.
const DEPENDENT: f64 = 1e-4;

/// The newest public gradients over the private coordinates.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Subspace {
    directions: usize,
    length: usize,
    /// At most `directions` of them, newest first, `[P']` each.
    gradients: Vec<Vec<f32>>,
}

impl Subspace {
    /// No gradients yet, `directions` at most, of `length` coordinates.
    pub(super) fn new(directions: usize, length: usize) -> Self {
        Self { directions, length, gradients: Vec::new() }
    }

    /// Number of directions k.
    pub(super) fn directions(&self) -> usize {
        self.directions
    }

    /// Takes in the gradient of a round. A round without a public part has gradient zero and leaves no direction.
    pub(super) fn push(&mut self, gradient: Vec<f32>) {
        if gradient.iter().all(|&value| value == 0.0) {
            return;
        }
        self.gradients.truncate(self.directions - 1);
        self.gradients.insert(0, gradient);
    }

    /// Directions `[k, P']` row by row: the gradients, newest first, orthonormal.
    ///
    /// Gram-Schmidt in double precision, twice, in one order: the same state gives the same bits. A gradient that is missing
    /// or depends on newer ones has a row of zeros, which carries nothing in either direction.
    pub(super) fn basis(&self) -> Vec<f32> {
        let mut rows: Vec<Vec<f64>> = Vec::with_capacity(self.directions);
        for gradient in &self.gradients {
            let mut row: Vec<f64> = gradient.iter().map(|&value| f64::from(value)).collect();
            let before = norm(&row);
            for _ in 0..2 {
                for other in &rows {
                    let along = dot(&row, other);
                    row.iter_mut().zip(other).for_each(|(value, &unit)| *value -= along * unit);
                }
            }
            let left = norm(&row);
            let factor = if left > DEPENDENT * before { 1.0 / left } else { 0.0 };
            rows.push(row.into_iter().map(|value| value * factor).collect());
        }
        rows.resize(self.directions, vec![0.0; self.length]);
        rows.into_iter().flatten().map(|value| value as f32).collect()
    }

    /// The gradient `[P']` with these coefficients `[k]` along the directions.
    pub(super) fn lift(&self, coefficients: &[f64]) -> Vec<f64> {
        let mut lifted = vec![0.0; self.length];
        for (direction, &along) in self.basis().chunks_exact(self.length).zip(coefficients) {
            lifted.iter_mut().zip(direction).for_each(|(sum, &unit)| *sum += along * f64::from(unit));
        }
        lifted
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut writer = Writer::new(MAGIC);
        writer.u64(self.gradients.len() as u64);
        self.gradients.iter().for_each(|gradient| writer.f32s(gradient));
        writer.finish()
    }

    /// Takes over what [`Self::to_bytes`] wrote for a subspace of the same sizes.
    pub(super) fn restore(&mut self, bytes: &[u8]) -> Result<(), ServerError> {
        let mut reader = Reader::new(MAGIC, bytes)?;
        let count = reader.length("number of public gradients")?;
        if count > self.directions {
            return Err(ServerError::unexpected("number of public gradients"));
        }
        let mut gradients = Vec::with_capacity(count);
        for _ in 0..count {
            let gradient = reader.f32s()?;
            check_length("stored public gradient", self.length, gradient.len())?;
            gradients.push(gradient);
        }
        reader.finish()?;
        self.gradients = gradients;
        Ok(())
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn norm(values: &[f64]) -> f64 {
    dot(values, values).sqrt()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn filled(gradients: &[[f32; 3]]) -> Subspace {
        let mut subspace = Subspace::new(3, 3);
        gradients.iter().for_each(|gradient| subspace.push(gradient.to_vec()));
        subspace
    }

    #[test]
    fn the_newest_gradient_comes_first_and_the_rows_are_orthonormal() {
        let subspace = filled(&[[9.0, 9.0, 9.0], [1.0, 1.0, 0.0], [0.0, 3.0, 4.0], [0.0, 0.0, 2.0]]);
        let basis = subspace.basis();
        assert_eq!(basis[..3], [0.0, 0.0, 1.0]);
        assert_eq!(basis[3..6], [0.0, 1.0, 0.0]);
        assert_eq!(basis[6..], [1.0, 0.0, 0.0]);
        assert_eq!(subspace.lift(&[1.0, 2.0, 3.0]), [3.0, 2.0, 1.0]);
    }

    #[test]
    fn what_is_missing_or_dependent_has_no_direction() {
        let subspace = filled(&[[1.0, 2.0, 0.0], [2.0, 4.0, 0.0], [0.0; 3]]);
        let basis = subspace.basis();
        assert!((basis[0] - 0.2_f32.sqrt()).abs() < 1e-6);
        assert_eq!(basis[3..], [0.0; 6]);
    }

    #[test]
    fn stored_gradients_give_the_same_bits() {
        let subspace = filled(&[[0.1, 0.2, 0.7], [1.0, -3.0, 0.4]]);
        let mut restored = Subspace::new(3, 3);
        restored.restore(&subspace.to_bytes()).unwrap();
        assert_eq!(restored, subspace);
        assert!(Subspace::new(1, 3).restore(&subspace.to_bytes()).is_err());
        assert!(Subspace::new(3, 2).restore(&subspace.to_bytes()).is_err());
    }
}
