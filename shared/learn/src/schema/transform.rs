//! How a feature's value becomes model input.

use serde::{Deserialize, Serialize};

/// Encoding of one feature. All arithmetic is in f32 and constants are rounded to f32 first, so that an exported
/// model, which computes in f32 as well, agrees exactly where comparisons decide.
///
/// Under `identity`, `scale` and `signed-log` a missing cell becomes 0 after the transform. `bins` and `one-hot`
/// have a slot of their own for missing, the last one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Transform {
    /// The value as it is.
    Identity {},
    /// `z = (x - center) / scale`, clipped to `[-limit, limit]`.
    Scale {
        /// Subtracted first, in the unit of the column.
        #[serde(default)]
        center: f64,
        /// Divided by, > 0, in the unit of the column.
        #[serde(default = "one")]
        scale: f64,
        /// Largest |z|, > 0; unlimited if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        limit: Option<f64>,
    },
    /// `z = (sign(x) ln(1 + |x|) - center) / scale`, clipped to `[-limit, limit]`; for heavy tails.
    SignedLog {
        /// Subtracted from the logarithm.
        #[serde(default)]
        center: f64,
        /// Divided by, > 0.
        #[serde(default = "one")]
        scale: f64,
        /// Largest |z|, > 0; unlimited if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        limit: Option<f64>,
    },
    /// One-hot of the bin: a value falls in bin i where `edges[i-1] <= x < edges[i]`, so E edges make E + 1 bins and
    /// one more for missing.
    Bins {
        /// Strictly increasing edges within the column's range.
        edges: Vec<f64>,
    },
    /// One-hot of the word, or of 0 and 1, and one more slot for missing.
    OneHot {},
}

fn one() -> f64 {
    1.0
}

impl Transform {
    /// The transform's name as a study spells it.
    pub fn name(&self) -> &'static str {
        match self {
            Transform::Identity {} => "identity",
            Transform::Scale { .. } => "scale",
            Transform::SignedLog { .. } => "signed-log",
            Transform::Bins { .. } => "bins",
            Transform::OneHot {} => "one-hot",
        }
    }

    /// Whether the encoding is a slot per bin or word; only such features can feed a sensitive head.
    pub fn is_discrete(&self) -> bool {
        matches!(self, Transform::Bins { .. } | Transform::OneHot {})
    }
}
