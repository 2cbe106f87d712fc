//! Which records belong to which privacy unit.

use std::collections::HashMap;
use std::ops::Range;

use fusiondp_dp::Digest;

/// Privacy units of N records whose rows are grouped by unit: unit u holds the rows `rows(u)`.
///
/// Has no `Debug`: unit ids identify patients.
#[derive(Clone)]
pub struct Units {
    offsets: Vec<usize>,
    ids: Option<Vec<String>>,
}

/// What grouping records by unit gave.
pub(crate) struct Grouping {
    /// The units over the reordered rows.
    pub(crate) units: Units,
    /// Old row of each new row; `None` when the rows stood grouped already.
    pub(crate) order: Option<Vec<usize>>,
}

impl Units {
    /// Every record is a unit of its own, without an id.
    pub fn of_records(records: usize) -> Self {
        Self { offsets: (0..=records).collect(), ids: None }
    }

    /// Groups records by the id of each; units in order of first appearance, rows of a unit in file order.
    pub(crate) fn group(ids_by_row: Vec<String>) -> Grouping {
        let mut index_of: HashMap<&str, usize> = HashMap::with_capacity(ids_by_row.len());
        let unit_of_row: Vec<usize> = ids_by_row
            .iter()
            .map(|id| {
                let next = index_of.len();
                *index_of.entry(id.as_str()).or_insert(next)
            })
            .collect();
        let count = index_of.len();
        drop(index_of);
        let offsets = offsets_of(&unit_of_row, count);
        let grouped = unit_of_row.is_sorted();
        let mut order: Vec<usize> = (0..ids_by_row.len()).collect();
        if !grouped {
            order.sort_by_key(|&row| unit_of_row[row]);
        }
        let mut ids_by_row = ids_by_row;
        let ids =
            offsets[..count].iter().map(|&first| std::mem::take(&mut ids_by_row[order[first]])).collect();
        let units = Self { offsets, ids: Some(ids) };
        Grouping { units, order: (!grouped).then_some(order) }
    }

    /// Number of units N.
    pub fn count(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Number of records over all units.
    pub fn records(&self) -> usize {
        self.offsets.last().copied().unwrap_or(0)
    }

    /// The rows of one unit; empty for an index beyond the last.
    pub fn rows(&self, unit: usize) -> Range<usize> {
        match (self.offsets.get(unit), self.offsets.get(unit + 1)) {
            (Some(&start), Some(&end)) => start..end,
            _ => 0..0,
        }
    }

    /// The id of one unit; `None` where records are the units.
    pub fn id(&self, unit: usize) -> Option<&str> {
        self.ids.as_ref()?.get(unit).map(String::as_str)
    }

    /// Whether units have ids.
    pub fn have_ids(&self) -> bool {
        self.ids.is_some()
    }

    /// SHA-256 over the sorted unit ids, each with its length; `None` where records are the units.
    pub fn digest(&self) -> Option<Digest> {
        let mut ids: Vec<&str> = self.ids.as_ref()?.iter().map(String::as_str).collect();
        ids.sort_unstable();
        let mut bytes = Vec::from(*b"fusiondp unit ids v1\0");
        for id in ids {
            bytes.extend((id.len() as u64).to_le_bytes());
            bytes.extend(id.as_bytes());
        }
        Some(Digest::of(&bytes))
    }
}

fn offsets_of(unit_of_row: &[usize], count: usize) -> Vec<usize> {
    let mut offsets = vec![0; count + 1];
    for &unit in unit_of_row {
        offsets[unit + 1] += 1;
    }
    for unit in 0..count {
        offsets[unit + 1] += offsets[unit];
    }
    offsets
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn group(ids: &[&str]) -> Grouping {
        Units::group(ids.iter().map(|id| (*id).to_owned()).collect())
    }

    #[test]
    fn rows_of_a_unit_become_neighbors_in_file_order() {
        let grouping = group(&["a", "b", "a", "c", "b", "a"]);
        assert_eq!(grouping.order.unwrap(), [0, 2, 5, 1, 4, 3]);
        let units = grouping.units;
        assert_eq!((units.count(), units.records()), (3, 6));
        assert_eq!([units.rows(0), units.rows(1), units.rows(2), units.rows(3)], [0..3, 3..5, 5..6, 0..0]);
        assert_eq!(
            [units.id(0), units.id(1), units.id(2), units.id(3)],
            [Some("a"), Some("b"), Some("c"), None]
        );
    }

    #[test]
    fn grouped_rows_stay_where_they_are() {
        assert!(group(&["b", "b", "a"]).order.is_none());
        assert!(group(&[]).order.is_none());
        assert_eq!(group(&[]).units.count(), 0);
    }

    #[test]
    fn the_digest_depends_on_the_set_of_ids_only() {
        let digest = |ids: &[&str]| group(ids).units.digest().unwrap();
        assert_eq!(digest(&["a", "b", "a"]), digest(&["b", "a"]));
        assert_ne!(digest(&["a", "b"]), digest(&["ab"]));
        assert!(Units::of_records(3).digest().is_none());
    }
}
