//! Empty cells of a file of imputed values.
//!
//! Every sensitive cell of the hybrid view has to be imputed. Files made elsewhere leave cells empty now and then, often
//! where the true value is missing too, which is itself sensitive; so a gap is filled with what the file itself says most
//! often, and no gap shows in the view.

use fusiondp_learn::schema::ColumnKind;

/// Fills NaN with the median of the other cells, or with their commonest word. Returns how many cells were filled; `None`
/// if there is no value to fill them from.
pub(super) fn fill(kind: Option<&ColumnKind>, cells: &mut [f32]) -> Option<usize> {
    let mut known: Vec<f32> = cells.iter().copied().filter(|cell| !cell.is_nan()).collect();
    let gaps = cells.len() - known.len();
    if gaps == 0 {
        return Some(0);
    }
    known.sort_by(f32::total_cmp);
    let value = match kind {
        Some(ColumnKind::Categorical { .. }) => commonest(&known)?,
        _ => *known.get(known.len().saturating_sub(1) / 2)?,
    };
    cells.iter_mut().filter(|cell| cell.is_nan()).for_each(|cell| *cell = value);
    Some(gaps)
}

/// The commonest of sorted values, the smallest of several.
fn commonest(sorted: &[f32]) -> Option<f32> {
    let runs = sorted.chunk_by(|a, b| a == b);
    // `max_by_key` would take the last of equals.
    runs.rev().max_by_key(|run| run.len()).map(|run| run[0])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_gap_takes_the_lower_median() {
        let mut cells = [5.0, f32::NAN, 1.0, 2.0, f32::NAN, 9.0];
        assert_eq!(fill(None, &mut cells), Some(2));
        assert_eq!(cells, [5.0, 2.0, 1.0, 2.0, 2.0, 9.0]);
        assert_eq!(fill(None, &mut [3.0]), Some(0));
    }

    #[test]
    fn a_gap_among_words_takes_the_commonest() {
        let kind = ColumnKind::Categorical { vocabulary: vec!["a".into(), "b".into(), "c".into()] };
        let mut cells = [2.0, 0.0, f32::NAN, 2.0, 0.0, 1.0];
        assert_eq!(fill(Some(&kind), &mut cells), Some(1));
        assert_eq!(cells[2], 0.0);
    }

    #[test]
    fn nothing_is_made_of_nothing() {
        assert_eq!(fill(None, &mut [f32::NAN]), None);
        assert_eq!(fill(None, &mut []), Some(0));
    }
}
