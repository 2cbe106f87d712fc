//! Encoding of one column.

use ndarray::ArrayViewMut1;

use crate::schema::{Column, ColumnKind, OutOfRange, Transform};

/// From here on a binary cell counts as 1.
pub(crate) const BINARY_THRESHOLD: f32 = 0.5;

/// How one feature's cell becomes input, constants in f32.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ColumnEncoder {
    name: String,
    code: ColumnCode,
    vocabulary: Vec<String>,
    clip: Option<[f32; 2]>,
}

/// The three shapes of an encoding.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ColumnCode {
    /// One number, 0 where missing, and perhaps an indicator of -1 or +1 after it.
    Numeric {
        /// From value to input.
        map: NumericMap,
        /// Whether the indicator follows.
        indicator: bool,
    },
    /// One slot per bin, then one for missing. One-hot 0 and 1 are two bins.
    Bins {
        /// Strictly increasing edges.
        edges: Vec<f32>,
    },
    /// One slot per word, then one for missing.
    Words {
        /// Number of words.
        count: usize,
    },
}

/// A map from a number to model input.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct NumericMap {
    /// Whether `sign(x) ln(1 + |x|)` comes first.
    pub(crate) signed_log: bool,
    /// Subtracted, then divided by; `None` for the identity.
    pub(crate) affine: Option<(f32, f32)>,
    /// Largest magnitude of the result.
    pub(crate) limit: Option<f32>,
}

impl ColumnEncoder {
    /// For a column of a validated schema.
    pub(crate) fn new(column: &Column) -> Self {
        let vocabulary = match &column.kind {
            Some(ColumnKind::Categorical { vocabulary }) => vocabulary.clone(),
            _ => Vec::new(),
        };
        let clip = match (&column.kind, column.out_of_range) {
            (Some(ColumnKind::Continuous { range: [low, high] }), OutOfRange::Clip) => {
                Some([*low as f32, *high as f32])
            }
            _ => None,
        };
        Self { name: column.name.clone(), code: ColumnCode::new(column), vocabulary, clip }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn code(&self) -> &ColumnCode {
        &self.code
    }

    /// Words of a categorical column, in index order; empty for numbers.
    pub(crate) fn vocabulary(&self) -> &[String] {
        &self.vocabulary
    }

    /// Range that raw values are clipped to before anything else, where the schema clips.
    pub(crate) fn clip(&self) -> Option<[f32; 2]> {
        self.clip
    }

    /// Number of inputs, or of bins.
    pub(crate) fn width(&self) -> usize {
        match &self.code {
            ColumnCode::Numeric { indicator, .. } => 1 + usize::from(*indicator),
            ColumnCode::Bins { edges } => edges.len() + 2,
            ColumnCode::Words { count } => count + 1,
        }
    }

    /// Slot of a cell, the last one where missing; 0 for an encoding without slots.
    pub(crate) fn slot(&self, cell: f32) -> usize {
        match &self.code {
            ColumnCode::Numeric { .. } => 0,
            _ if cell.is_nan() => self.width() - 1,
            ColumnCode::Bins { edges } => edges.partition_point(|&edge| edge <= cell),
            ColumnCode::Words { count } => (cell as usize).min(*count),
        }
    }

    /// Number of groups that the column tells apart: its slots, or two, present and missing, for an encoding without slots.
    pub(crate) fn groups(&self) -> usize {
        if matches!(self.code, ColumnCode::Numeric { .. }) { 2 } else { self.width() }
    }

    /// Group of a cell; the last one where missing.
    pub(crate) fn group(&self, cell: f32) -> usize {
        if matches!(self.code, ColumnCode::Numeric { .. }) {
            usize::from(cell.is_nan())
        } else {
            self.slot(cell)
        }
    }

    /// Writes the encoding of a cell to `out`, `[width]`, which holds zeros.
    pub(crate) fn write(&self, cell: f32, out: &mut ArrayViewMut1<'_, f32>) {
        let ColumnCode::Numeric { map, indicator } = &self.code else {
            out[self.slot(cell)] = 1.0;
            return;
        };
        out[0] = if cell.is_nan() { 0.0 } else { map.apply(cell) };
        if *indicator {
            out[1] = if cell.is_nan() { 1.0 } else { -1.0 };
        }
    }
}

impl ColumnCode {
    fn new(column: &Column) -> Self {
        let affine = |signed_log, center: f64, scale: f64, limit: Option<f64>| NumericMap {
            signed_log,
            affine: Some((center as f32, scale as f32)),
            limit: limit.map(|limit| limit as f32),
        };
        let map = match (column.effective_transform(), &column.kind) {
            (Transform::Bins { edges }, _) => {
                return ColumnCode::Bins { edges: edges.into_iter().map(|edge| edge as f32).collect() };
            }
            (Transform::OneHot {}, Some(ColumnKind::Categorical { vocabulary })) => {
                return ColumnCode::Words { count: vocabulary.len() };
            }
            (Transform::OneHot {}, _) => return ColumnCode::Bins { edges: vec![BINARY_THRESHOLD] },
            (Transform::Identity {}, _) => NumericMap { signed_log: false, affine: None, limit: None },
            (Transform::Scale { center, scale, limit }, _) => affine(false, center, scale, limit),
            (Transform::SignedLog { center, scale, limit }, _) => affine(true, center, scale, limit),
        };
        ColumnCode::Numeric { map, indicator: column.missing_indicator }
    }
}

impl NumericMap {
    /// Model input of a value that is not missing.
    pub(crate) fn apply(&self, value: f32) -> f32 {
        let logged = if self.signed_log { signed_log(value) } else { value };
        let scaled = self.affine.map_or(logged, |(center, scale)| (logged - center) / scale);
        self.limit.map_or(scaled, |limit| scaled.clamp(-limit, limit))
    }
}

fn signed_log(value: f32) -> f32 {
    let magnitude = libm::logf(1.0 + value.abs());
    if value < 0.0 { -magnitude } else { magnitude }
}
