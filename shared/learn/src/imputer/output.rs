//! From an imputer's scores to cells.

use thiserror::Error;

use crate::{
    encode::BINARY_THRESHOLD,
    schema::{Column, ColumnKind, Transform},
};

/// Why scores are not a cell. Never holds a score.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum OutputProblem {
    /// The number of scores per record does not fit the column.
    #[error(
        "{found} scores per record, {wanted} wanted; map the output that holds values or class probabilities"
    )]
    Width {
        /// Scores given per record.
        found: usize,
        /// What the column's kind takes.
        wanted: &'static str,
    },
    /// A score that is NaN or infinite.
    #[error(
        "row {row} (from 0): a score is not finite; an imputer must give a number for any public features"
    )]
    NotFinite {
        /// Row, counted from 0.
        row: usize,
    },
    /// Not a feature.
    #[error("the column has no kind and cannot be imputed; only features can")]
    NotAFeature,
}

/// The cell that one record's scores stand for.
///
/// * continuous, one score: the value, clipped to the declared range
/// * binary, one score (the probability of 1) or two (of 0 and 1): the probability, clipped to `[0, 1]`; 0 or 1 by a
///   threshold of one half where the column's transform is one-hot
/// * categorical, one score per word: the index of the highest, the first of equals
///
/// # Errors
/// [`OutputProblem`] with row 0.
pub fn imputed_value(column: &Column, scores: &[f32]) -> Result<f32, OutputProblem> {
    let kind = column.kind.as_ref().ok_or(OutputProblem::NotAFeature)?;
    check_width(kind, scores.len())?;
    value(column, kind, scores).ok_or(OutputProblem::NotFinite { row: 0 })
}

/// [`imputed_value`] for N records: `scores` is `[N, width]`, row-major; the result is `[N]`.
///
/// # Errors
/// [`OutputProblem`]; a row is counted from 0.
pub fn imputed_column(column: &Column, scores: &[f32], width: usize) -> Result<Vec<f32>, OutputProblem> {
    let kind = column.kind.as_ref().ok_or(OutputProblem::NotAFeature)?;
    check_width(kind, width)?;
    let rows = scores.chunks(width).enumerate();
    rows.map(|(row, scores)| value(column, kind, scores).ok_or(OutputProblem::NotFinite { row })).collect()
}

fn check_width(kind: &ColumnKind, found: usize) -> Result<(), OutputProblem> {
    let (fits, wanted) = match kind {
        ColumnKind::Continuous { .. } => (found == 1, "1 (the value)"),
        ColumnKind::Binary {} => (found == 1 || found == 2, "1 or 2 (probabilities)"),
        ColumnKind::Categorical { vocabulary } => (found == vocabulary.len(), "1 per word of the vocabulary"),
    };
    if fits { Ok(()) } else { Err(OutputProblem::Width { found, wanted }) }
}

fn value(column: &Column, kind: &ColumnKind, scores: &[f32]) -> Option<f32> {
    let last = *scores.last()?;
    if scores.iter().any(|score| !score.is_finite()) {
        return None;
    }
    Some(match kind {
        ColumnKind::Continuous { range: [low, high] } => last.clamp(*low as f32, *high as f32),
        ColumnKind::Binary {} if matches!(column.transform, Some(Transform::OneHot {})) => {
            f32::from(u8::from(last >= BINARY_THRESHOLD))
        }
        ColumnKind::Binary {} => last.clamp(0.0, 1.0),
        ColumnKind::Categorical { .. } => highest(scores) as f32,
    })
}

fn highest(scores: &[f32]) -> usize {
    let mut best = 0;
    for (index, score) in scores.iter().enumerate() {
        if *score > scores[best] {
            best = index;
        }
    }
    best
}
