//! What a study says of its model.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::PrivateScope;

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
        /// Which weights take the private gradient; all of them if absent.
        #[serde(default, skip_serializing_if = "PrivateScope::is_whole")]
        private: PrivateScope,
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
        /// Networks of these widths that make up the tower, at least 1: each learns from its own loss, from another start and
        /// under masks of its own, and the tower's logit is the mean of theirs.
        #[serde(default = "one")]
        members: usize,
        /// Which gradients move the head.
        #[serde(default)]
        head_gradient: HeadGradient,
        /// How sensitive columns enter the head, by name; [`HeadColumn::default`] for those not named.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        head: BTreeMap<String, HeadColumn>,
    },
}

impl ModelSpec {
    /// A fully connected network whose weights all take the private gradient.
    pub fn mlp(widths: impl Into<Vec<usize>>, layer_norm: bool, dropout: f64) -> Self {
        Self::Mlp { widths: widths.into(), layer_norm, dropout, private: PrivateScope::default() }
    }

    /// Which weights take the private gradient, where the study may say so.
    pub fn private_scope(&self) -> PrivateScope {
        match self {
            Self::Mlp { private, .. } => private.clone(),
            Self::Linear {} | Self::Split { .. } => PrivateScope::default(),
        }
    }
}

/// How one sensitive column enters the head of a `split` model. All of it is declared, nothing is measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HeadColumn {
    /// How much of a record's clipped gradient the column gets; finite, at least 0.
    ///
    /// A record's gradient has norm `|residual| * sqrt(sum of squares of the weights)`. A smaller value for a column that
    /// matters less leaves more of the clip norm, and so less noise, to the others. With 0 the column is left out of the
    /// model: nothing is learned of it and no noise is spent on it.
    pub weight: f64,
    /// A public column by whose value the column's bins are kept apart: one set of parameters for each of its slots (bins,
    /// words, 0 and 1, missing), or for present and missing where its transform has no slots.
    ///
    /// A record still falls into exactly one bin, so its gradient is no longer; but each bin has fewer records.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

impl Default for HeadColumn {
    fn default() -> Self {
        Self { weight: 1.0, by: None }
    }
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
    /// Number of bins of a group, the one for missing, which is the last, included.
    pub bins: usize,
    /// Number of groups of bins, told apart by a public column; 1 without one. Bin b of group g has index `g * bins + b`.
    pub groups: usize,
    /// Factor of the feature's input, and so of its gradient; finite, > 0.
    pub weight: f32,
    /// Whether neighboring bins are neighboring values.
    pub ordered: bool,
}

impl HeadFeature {
    /// A feature of weight 1, in one group, whose bins have no order.
    pub fn new(bins: usize) -> Self {
        Self { bins, groups: 1, weight: 1.0, ordered: false }
    }

    /// Bins of all groups, each with a parameter of its own.
    pub fn parameters(&self) -> usize {
        self.bins.saturating_mul(self.groups)
    }
}

fn enabled() -> bool {
    true
}

fn one() -> usize {
    1
}
