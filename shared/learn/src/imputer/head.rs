//! The part of an imputer network's output that belongs to one feature.

use std::ops::Range;

use super::Target;
use crate::schema::{Column, ColumnKind};

/// Residual beyond which the regression loss grows linearly, in units of the target scale.
const HUBER_WIDTH: f32 = 1.0;

/// Columns of the output and what they mean.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Head {
    /// Output columns.
    pub(crate) range: Range<usize>,
    /// What they hold.
    pub(crate) kind: HeadKind,
}

/// What a head predicts.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum HeadKind {
    /// One number on the target scale.
    Value(Target),
    /// The log-odds of 1.
    Logit,
    /// Unnormalized log-probabilities of the words.
    Words,
}

impl Head {
    /// Heads of sensitive columns side by side, in schema order.
    pub(super) fn all<'c>(columns: impl Iterator<Item = &'c Column>) -> Vec<Self> {
        let mut start = 0;
        columns
            .map(|column| {
                let (width, kind) = match &column.kind {
                    Some(ColumnKind::Continuous { range }) => {
                        (1, HeadKind::Value(Target::new(*range, &column.effective_transform())))
                    }
                    Some(ColumnKind::Categorical { vocabulary }) => (vocabulary.len(), HeadKind::Words),
                    Some(ColumnKind::Binary {}) | None => (1, HeadKind::Logit),
                };
                let range = start..start + width;
                start = range.end;
                Head { range, kind }
            })
            .collect()
    }

    /// Loss of one record's output against an observed cell, and its derivative, which is written to `slope`.
    /// `output` and `slope` are this head's columns.
    pub(super) fn loss(&self, output: &[f32], cell: f32, slope: &mut [f32]) -> f32 {
        match &self.kind {
            HeadKind::Value(target) => {
                let residual = output[0] - target.of(cell);
                slope[0] = residual.clamp(-HUBER_WIDTH, HUBER_WIDTH);
                slope[0] * (residual - slope[0] / 2.0)
            }
            HeadKind::Logit => {
                let logit = output[0];
                slope[0] = sigmoid(logit) - cell;
                logit.max(0.0) - logit * cell + libm::log1pf(libm::expf(-logit.abs()))
            }
            HeadKind::Words => {
                softmax(output, slope);
                let word = (cell as usize).min(slope.len() - 1);
                let likelihood = slope[word].max(f32::MIN_POSITIVE);
                slope[word] -= 1.0;
                -libm::logf(likelihood)
            }
        }
    }

    /// Scores of one record under the imputer contract: the value, the probability of 1, or the words' probabilities.
    pub(super) fn scores(&self, output: &[f32], scores: &mut [f32]) {
        match &self.kind {
            HeadKind::Value(target) => scores[0] = target.value(output[0]),
            HeadKind::Logit => scores[0] = sigmoid(output[0]),
            HeadKind::Words => softmax(output, scores),
        }
    }
}

fn sigmoid(logit: f32) -> f32 {
    1.0 / (1.0 + libm::expf(-logit))
}

fn softmax(logits: &[f32], probabilities: &mut [f32]) {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut total = 0.0;
    for (probability, logit) in probabilities.iter_mut().zip(logits) {
        *probability = libm::expf(logit - highest);
        total += *probability;
    }
    probabilities.iter_mut().for_each(|probability| *probability /= total);
}
