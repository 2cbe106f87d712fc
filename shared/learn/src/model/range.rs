//! Which coordinates of a flat parameter vector take the private gradient.

use std::ops::Range;

/// Coordinates of a flat parameter vector: disjoint runs in rising order, none empty and none touching the next.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PrivateRange {
    runs: Vec<Range<usize>>,
}

impl PrivateRange {
    /// The union of ranges that rise and do not overlap.
    pub(crate) fn new(ranges: impl IntoIterator<Item = Range<usize>>) -> Self {
        let mut runs: Vec<Range<usize>> = Vec::new();
        for range in ranges.into_iter().filter(|range| !range.is_empty()) {
            match runs.last_mut() {
                Some(last) if last.end == range.start => last.end = range.end,
                _ => runs.push(range),
            }
        }
        Self { runs }
    }

    /// Number of coordinates P'.
    pub fn len(&self) -> usize {
        self.runs.iter().map(Range::len).sum()
    }

    /// Whether there is no coordinate.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// The runs.
    pub fn runs(&self) -> &[Range<usize>] {
        &self.runs
    }

    /// The coordinates in rising order.
    pub fn iter(&self) -> impl Iterator<Item = usize> + use<'_> {
        self.runs.iter().cloned().flatten()
    }

    /// The values at these coordinates, `[P']`.
    ///
    /// # Panics
    /// If a coordinate lies beyond the end of `values`.
    pub fn gather<T: Copy>(&self, values: &[T]) -> Vec<T> {
        self.runs.iter().flat_map(|run| &values[run.clone()]).copied().collect()
    }

    /// Adds `weight * values[i]` to the i-th of these coordinates of `target`.
    ///
    /// # Panics
    /// If a coordinate lies beyond the end of `target`.
    pub fn add(&self, weight: f64, values: impl IntoIterator<Item = f64>, target: &mut [f64]) {
        for (coordinate, value) in self.iter().zip(values) {
            target[coordinate] += weight * value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn touching_runs_are_one_and_empty_ones_none() {
        let range = PrivateRange::new([1..3, 3..3, 3..5, 7..9]);
        assert_eq!(range.runs(), [1..5, 7..9]);
        assert_eq!((range.len(), range.is_empty()), (6, false));
        assert_eq!(range.iter().collect::<Vec<_>>(), [1, 2, 3, 4, 7, 8]);
        assert!(PrivateRange::new([2..2, 5..5]).is_empty());
    }

    #[test]
    fn values_are_gathered_and_added_in_order() {
        let range = PrivateRange::new([1..2, 3..5]);
        assert_eq!(range.gather(&[0, 1, 2, 3, 4]), [1, 3, 4]);
        let mut target = [1.0; 5];
        range.add(2.0, [10.0, 20.0, 30.0], &mut target);
        assert_eq!(target, [1.0, 21.0, 1.0, 41.0, 61.0]);
    }
}
