//! Where each named tensor lies in a flat parameter vector.

use std::ops::Range;

/// One named tensor of a flat parameter vector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    name: String,
    shape: Vec<usize>,
    range: Range<usize>,
}

impl Tensor {
    /// Name, for example `L.0.weight`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Shape; values are row-major.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Coordinates of the flat vector.
    pub fn range(&self) -> Range<usize> {
        self.range.clone()
    }
}

/// Named tensors of a flat parameter vector, in order and without gaps.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ParameterLayout {
    tensors: Vec<Tensor>,
}

impl ParameterLayout {
    /// Number of values in all tensors.
    pub fn total(&self) -> usize {
        self.tensors.last().map_or(0, |tensor| tensor.range.end)
    }

    /// The tensors in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Tensor> {
        self.tensors.iter()
    }

    /// The tensor of this name.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.tensors.iter().find(|tensor| tensor.name == name)
    }

    /// Appends a tensor and returns its coordinates.
    pub(crate) fn push(&mut self, name: String, shape: Vec<usize>) -> Range<usize> {
        let start = self.total();
        let range = start..start + shape.iter().product::<usize>();
        self.tensors.push(Tensor { name, shape, range: range.clone() });
        range
    }

    /// Appends all tensors of another layout under a prefix.
    pub(crate) fn extend(&mut self, prefix: &str, other: &Self) {
        for tensor in other.iter() {
            self.push(format!("{prefix}{}", tensor.name), tensor.shape.clone());
        }
    }
}

impl<'a> IntoIterator for &'a ParameterLayout {
    type Item = &'a Tensor;
    type IntoIter = std::slice::Iter<'a, Tensor>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
