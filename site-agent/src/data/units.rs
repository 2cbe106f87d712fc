//! Which records belong to which privacy unit.

use std::collections::{HashMap, HashSet};
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

/// The unit of each row as rows arrive: four bytes per row, and each id once. No `Debug`: it holds unit ids.
#[derive(Default)]
pub(crate) struct UnitRows {
    index: HashMap<String, u32>,
    unit_of_row: Vec<u32>,
}

impl UnitRows {
    /// Adds a row of that unit; `None` when there are too many units.
    pub(crate) fn push(&mut self, id: &str) -> Option<()> {
        let unit = match self.index.get(id) {
            Some(&unit) => unit,
            None => {
                let unit = u32::try_from(self.index.len()).ok()?;
                self.index.insert(id.to_owned(), unit);
                unit
            }
        };
        self.unit_of_row.push(unit);
        Some(())
    }

    /// One row after another.
    #[cfg(test)]
    pub(crate) fn of(ids: &[&str]) -> Self {
        let mut rows = Self::default();
        for id in ids {
            assert!(rows.push(id).is_some());
        }
        rows
    }

    /// Makes room for further rows.
    pub(crate) fn reserve(&mut self, rows: usize) {
        // Without room the rows are refused one by one as they come.
        let _ = self.unit_of_row.try_reserve(rows);
    }
}

impl Units {
    /// Every record is a unit of its own, without an id.
    pub fn of_records(records: usize) -> Self {
        Self { offsets: (0..=records).collect(), ids: None }
    }

    /// Groups records by the id of each; units in order of first appearance, rows of a unit in file order.
    pub(crate) fn group(rows: UnitRows) -> Grouping {
        let UnitRows { index, unit_of_row } = rows;
        let offsets = offsets_of(&unit_of_row, index.len());
        let mut ids = vec![String::new(); index.len()];
        for (id, unit) in index {
            ids[unit as usize] = id;
        }
        let order = (!unit_of_row.is_sorted()).then(|| {
            let (mut order, mut next) = (vec![0; unit_of_row.len()], offsets.clone());
            for (row, &unit) in unit_of_row.iter().enumerate() {
                let place = &mut next[unit as usize];
                order[*place] = row;
                *place += 1;
            }
            order
        });
        Grouping { units: Self { offsets, ids: Some(ids) }, order }
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

    /// How many units of the other data are here too; 0 where either has no ids.
    pub fn shared_with(&self, other: &Self) -> usize {
        let ids: HashSet<&str> = self.ids.iter().flatten().map(String::as_str).collect();
        other.ids.iter().flatten().filter(|id| ids.contains(id.as_str())).count()
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

fn offsets_of(unit_of_row: &[u32], count: usize) -> Vec<usize> {
    let mut offsets = vec![0; count + 1];
    for &unit in unit_of_row {
        offsets[unit as usize + 1] += 1;
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
        Units::group(UnitRows::of(ids))
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
    fn units_of_two_data_sets_are_compared_by_id() {
        let (one, other) = (group(&["a", "b", "a", "c"]).units, group(&["c", "d", "b", "c"]).units);
        assert_eq!((one.shared_with(&other), other.shared_with(&one)), (2, 2));
        assert_eq!(one.shared_with(&group(&["d"]).units), 0);
        assert_eq!(one.shared_with(&Units::of_records(3)), 0);
    }

    #[test]
    fn the_digest_depends_on_the_set_of_ids_only() {
        let digest = |ids: &[&str]| group(ids).units.digest().unwrap();
        assert_eq!(digest(&["a", "b", "a"]), digest(&["b", "a"]));
        assert_ne!(digest(&["a", "b"]), digest(&["ab"]));
        assert!(Units::of_records(3).digest().is_none());
    }
}
