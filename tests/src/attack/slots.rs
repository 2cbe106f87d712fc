//! The values that a sensitive column can have, cut into slots that can be guessed.

use fusiondp_learn::schema::{Column, ColumnKind, Transform};

/// Slots of a column whose transform has none: between quantiles of the support data.
const QUANTILES: usize = 8;

/// Slots of one column; the last one is for missing.
#[derive(Debug, Clone, PartialEq)]
pub struct Slots {
    /// Lower ends of all slots but the first; empty for words and 0/1.
    edges: Vec<f32>,
    /// One value of each slot that is not missing.
    values: Vec<f32>,
    /// Words of a vocabulary; empty for numbers and 0/1.
    words: Vec<String>,
}

impl Slots {
    /// The bins or words that the schema declares; else quantiles of `support`.
    #[must_use]
    pub fn new(column: &Column, support: &[f32]) -> Self {
        let of_words = |count: usize, words: Vec<String>| Self {
            edges: Vec::new(),
            values: (0..count).map(|i| i as f32).collect(),
            words,
        };
        match (&column.kind, column.effective_transform()) {
            (Some(ColumnKind::Categorical { vocabulary }), _) => {
                of_words(vocabulary.len(), vocabulary.clone())
            }
            (Some(ColumnKind::Continuous { range }), Transform::Bins { edges }) => {
                let edges: Vec<f32> = edges.iter().map(|&edge| edge as f32).collect();
                let values = std::iter::once(range[0] as f32).chain(edges.iter().copied()).collect();
                Self { edges, values, words: Vec::new() }
            }
            (Some(ColumnKind::Continuous { .. }), _) => Self::quantiles(support),
            _ => of_words(2, Vec::new()),
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
        let values = match edges.len() + 1 == values.len() {
            true => values,
            false => std::iter::once(at(0)).chain(edges.iter().copied()).collect(),
        };
        Self { edges, values, words: Vec::new() }
    }

    /// Number of slots, the one for missing included.
    #[must_use]
    pub fn count(&self) -> usize {
        self.values.len() + 1
    }

    /// What the values of a slot have in common.
    #[must_use]
    pub fn name(&self, slot: usize) -> String {
        if slot + 1 == self.count() {
            return "missing".to_owned();
        }
        if let Some(word) = self.words.get(slot) {
            return word.clone();
        }
        let upper = self.edges.get(slot);
        let lower = slot.checked_sub(1).and_then(|below| self.edges.get(below));
        match (lower, upper) {
            (None, None) => slot.to_string(),
            (None, Some(upper)) => format!("below {upper}"),
            (Some(lower), None) => format!("from {lower}"),
            (Some(lower), Some(upper)) => format!("{lower} to {upper}"),
        }
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
}
