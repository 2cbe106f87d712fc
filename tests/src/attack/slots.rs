//! The values that a sensitive column can have, cut into slots that can be guessed.

use fusiondp_learn::schema::{Column, ColumnKind, Transform};

/// Slots of a column whose transform has none: between quantiles of the support data.
const QUANTILES: usize = 8;

/// Slots of one column; the last one is for missing. Has no `Debug`: quantiles are values of patients.
#[derive(Clone)]
pub struct Slots {
    /// Lower ends of all slots but the first; empty for words and 0/1.
    edges: Vec<f32>,
    /// One value of each slot that is not missing.
    values: Vec<f32>,
    /// What the values of each of these slots have in common, in words that tell of no patient.
    names: Vec<String>,
}

impl Slots {
    /// The bins or words that the schema declares; else quantiles of `support`.
    #[must_use]
    pub fn new(column: &Column, support: &[f32]) -> Self {
        let of_words = |names: Vec<String>| Self {
            edges: Vec::new(),
            values: (0..names.len()).map(|i| i as f32).collect(),
            names,
        };
        match (&column.kind, column.effective_transform()) {
            (Some(ColumnKind::Categorical { vocabulary }), _) => of_words(vocabulary.clone()),
            (Some(ColumnKind::Continuous { range }), Transform::Bins { edges }) => {
                let edges: Vec<f32> = edges.iter().map(|&edge| edge as f32).collect();
                let values = std::iter::once(range[0] as f32).chain(edges.iter().copied()).collect();
                Self { names: between(&edges), edges, values }
            }
            (Some(ColumnKind::Continuous { .. }), _) => Self::quantiles(support),
            _ => of_words(vec!["0".to_owned(), "1".to_owned()]),
        }
    }

    fn quantiles(support: &[f32]) -> Self {
        let mut sorted: Vec<f32> = support.iter().copied().filter(|value| !value.is_nan()).collect();
        sorted.sort_by(f32::total_cmp);
        let at = |share: usize| sorted.get(share * sorted.len() / (2 * QUANTILES)).copied().unwrap_or(0.0);
        let mut edges: Vec<f32> = (1..QUANTILES).map(|slot| at(2 * slot)).collect();
        edges.dedup();
        let values: Vec<f32> = (0..QUANTILES).map(|slot| at(2 * slot + 1)).collect();
        // Where values repeat there are fewer slots: the one value of each is then its lower end.
        let values: Vec<f32> = match edges.len() + 1 == values.len() {
            true => values,
            false => std::iter::once(at(0)).chain(edges.iter().copied()).collect(),
        };
        // The edges are values of patients, so slots go by number.
        let names = (1..=values.len()).map(|slot| format!("part {slot} of {}", values.len())).collect();
        Self { edges, values, names }
    }

    /// Number of slots, the one for missing included.
    #[must_use]
    pub fn count(&self) -> usize {
        self.values.len() + 1
    }

    /// What the values of a slot have in common; no value that the schema does not declare is in it.
    #[must_use]
    pub fn name(&self, slot: usize) -> String {
        self.names.get(slot).map_or_else(|| "missing".to_owned(), String::clone)
    }

    /// The slot of a cell.
    #[must_use]
    pub fn of(&self, cell: f32) -> usize {
        match (cell.is_nan(), self.edges.is_empty()) {
            (true, _) => self.values.len(),
            (false, true) => (cell.round() as usize).min(self.values.len() - 1),
            (false, false) => self.edges.partition_point(|&edge| edge <= cell),
        }
    }

    /// A cell that falls into a slot.
    #[must_use]
    pub fn cell(&self, slot: usize) -> f32 {
        self.values.get(slot).copied().unwrap_or(f32::NAN)
    }
}

/// Names of the ranges between declared edges.
fn between(edges: &[f32]) -> Vec<String> {
    let (Some(first), Some(last)) = (edges.first(), edges.last()) else { return vec!["all".to_owned()] };
    let inner = edges.windows(2).map(|ends| format!("{} to {}", ends[0], ends[1]));
    [format!("below {first}")].into_iter().chain(inner).chain([format!("from {last}")]).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::harness::toml_text::SAMPLE_STUDY;

    #[test]
    fn each_slot_holds_its_cell() {
        let study = fusiondp_protocol::study::Study::parse(SAMPLE_STUDY).unwrap();
        for column in study.schema.sensitive() {
            let slots = Slots::new(column, &[]);
            for slot in 0..slots.count() {
                assert_eq!(slots.of(slots.cell(slot)), slot, "{}", column.name);
            }
        }
        let support: Vec<f32> = (0..800).map(|i| i as f32).collect();
        let slots = Slots::quantiles(&support);
        assert_eq!((slots.count(), slots.of(99.0), slots.of(100.0), slots.of(f32::NAN)), (9, 0, 1, 8));
        assert!((0..9).all(|slot| slots.of(slots.cell(slot)) == slot));
    }

    /// Names reach reports, so they hold what the schema declares, and no quantile of anybody's values.
    #[test]
    fn names_tell_of_the_schema_and_of_no_patient() {
        let study = fusiondp_protocol::study::Study::parse(SAMPLE_STUDY).unwrap();
        let stay = study.schema.sensitive().find(|column| column.name == "ICULOS").unwrap();
        let bins = Slots::new(stay, &[]);
        let names: Vec<String> = (0..bins.count()).map(|slot| bins.name(slot)).collect();
        assert!(names[0].starts_with("below ") && names[1].contains(" to "), "{names:?}");
        assert_eq!(names.last().map(String::as_str), Some("missing"));
        let scaled = Column {
            transform: Some(Transform::Scale { center: 0.0, scale: 1.0, limit: None }),
            ..stay.clone()
        };
        let values: Vec<f32> = (0..80).map(|i| 100.5 + i as f32).collect();
        let parts = Slots::new(&scaled, &values);
        assert_eq!(
            (parts.count(), parts.name(0), parts.name(7)),
            (9, "part 1 of 8".into(), "part 8 of 8".into())
        );
        assert_eq!(parts.name(8), "missing");
    }
}
