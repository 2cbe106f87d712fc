//! What a study says of its model.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Architecture of the trained model. All models end in one logit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum ModelSpec {
    /// Logistic regression on the dense input.
    Linear {},
    /// Fully connected network: per hidden layer a linear map, LayerNorm, GELU and dropout.
    Mlp {
        /// Hidden widths, input side first.
        widths: Vec<usize>,
        /// LayerNorm after each hidden linear map.
        #[serde(default = "enabled")]
        layer_norm: bool,
        /// Dropout rate of the public part, `[0, 1)`. The private part never drops.
        #[serde(default)]
        dropout: f64,
    },
    /// A network over the public features plus one additive weight per bin of each sensitive feature.
    Split {
        /// Hidden widths of the public tower.
        widths: Vec<usize>,
        /// LayerNorm after each hidden linear map of the tower.
        #[serde(default = "enabled")]
        layer_norm: bool,
        /// Dropout rate of the tower, `[0, 1)`.
        #[serde(default)]
        dropout: f64,
        /// Which gradients move the head.
        #[serde(default)]
        head_gradient: HeadGradient,
        /// How much of a record's clipped gradient each sensitive column gets, by name; finite, > 0, 1 if not named.
        ///
        /// A record's gradient has norm `|residual| * sqrt(sum of squares)`. A smaller value for a column that matters less
        /// leaves more of the clip norm, and so less noise, to the others. It is declared, never measured.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        head_weights: BTreeMap<String, f64>,
    },
}

/// Which gradients move the sensitive head of a `split` model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HeadGradient {
    /// The noised private gradient alone; the tower learns from public features alone.
    #[default]
    PrivateOnly,
    /// The public gradient of the hybrid view, corrected by the noised private difference.
    HybridAndPrivate,
}

/// Widths of the encoded input.
#[derive(Debug, Clone, PartialEq)]
pub struct InputShape {
    /// Dense width D.
    pub dense: usize,
    /// The binned sensitive features; empty without a sensitive head.
    pub bins: Vec<HeadFeature>,
}

/// One sensitive feature of a head.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HeadFeature {
    /// Number of bins, the one for missing, which is the last, included.
    pub bins: usize,
    /// Factor of the feature's input, and so of its gradient; finite, > 0.
    pub weight: f32,
    /// Whether neighboring bins are neighboring values.
    pub ordered: bool,
}

impl HeadFeature {
    /// A feature of weight 1 whose bins have no order.
    pub fn new(bins: usize) -> Self {
        Self { bins, weight: 1.0, ordered: false }
    }
}

fn enabled() -> bool {
    true
}
