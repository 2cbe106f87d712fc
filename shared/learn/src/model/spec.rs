//! What a study says of its model.

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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputShape {
    /// Dense width D.
    pub dense: usize,
    /// Number of bins of each sensitive feature, its bin for missing included; empty without a sensitive head.
    pub bins: Vec<usize>,
}

fn enabled() -> bool {
    true
}
