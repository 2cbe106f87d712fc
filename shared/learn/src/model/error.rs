//! Why a model could not be built or evaluated.

use crate::network::NetworkError;

/// Why a model could not be built or evaluated. No text holds a patient's value.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ModelError {
    /// The network refused its widths or its input.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// A tower of no network, or of too many.
    #[error("a tower of {members} networks: members must be between 1 and {largest}; 1 is the default")]
    Members {
        /// The number given.
        members: usize,
        /// Most networks of a tower.
        largest: usize,
    },
    /// Sensitive bins for a model without a sensitive head.
    #[error(
        "a {kind} model reads sensitive features densely, but {features} of them are given as bins: encode for this model"
    )]
    UnexpectedBins {
        /// Kind of the model.
        kind: &'static str,
        /// Number of binned features.
        features: usize,
    },
    /// A split model without sensitive features.
    #[error("a split model needs at least one sensitive feature: declare one, or use an mlp model")]
    NoSensitiveFeature,
    /// A sensitive feature without bins or with more than an index can name.
    #[error("sensitive feature {feature} has {bins} bins: between 1 and 65,536 are possible")]
    BinCount {
        /// Index of the feature.
        feature: usize,
        /// Number of bins.
        bins: usize,
    },
    /// A sensitive feature of no weight.
    #[error("sensitive feature {feature} has weight {weight} in the head: it must be finite and above 0")]
    HeadWeight {
        /// Index of the feature.
        feature: usize,
        /// The weight.
        weight: f32,
    },
    /// An argument whose length does not fit.
    #[error("{what} has length {found}, expected {expected}")]
    Length {
        /// Which argument.
        what: &'static str,
        /// The length needed.
        expected: usize,
        /// The length given.
        found: usize,
    },
    /// A bin index that its feature does not have.
    #[error(
        "row {row} names a bin that sensitive feature {feature} does not have: encode with the model's own schema"
    )]
    Bin {
        /// Row of the view.
        row: usize,
        /// Index of the feature.
        feature: usize,
    },
    /// A label that is neither 0 nor 1.
    #[error("the label of row {row} is neither 0 nor 1")]
    Label {
        /// Row of the batch.
        row: usize,
    },
    /// Offsets that do not cut the records into units.
    #[error("unit_offsets must rise from 0 to the number of records, {records}")]
    UnitOffsets {
        /// Number of records.
        records: usize,
    },
    /// Public features that differ between the two views of a split model.
    #[error(
        "row {row} has other public features in its hybrid view: encode both views from one public table"
    )]
    PublicFeaturesDiffer {
        /// Row of the batch.
        row: usize,
    },
    /// A private layer that the network does not have.
    #[error("private.layers names {name:?}, and this network has {known}: name some of these")]
    PrivateLayer {
        /// The name given.
        name: String,
        /// All names.
        known: String,
    },
    /// A private layer named twice.
    #[error("private.layers names {name:?} twice: name it once")]
    PrivateLayerTwice {
        /// The name given.
        name: String,
    },
    /// An empty list of private layers.
    #[error(
        "private.layers is empty, so nothing would take the private gradient: name a layer such as \"L.0\", remove the \
         setting, or use fusion.mode = \"hybrid-only\""
    )]
    NoPrivateLayer,
    /// Adapters without a layer.
    #[error(
        "private.adapters fits no layer, since adapters belong to linear maps that lead to a hidden layer and are not named \
         in private.layers: remove it"
    )]
    NoAdapter,
    /// A rank that is none, or saves nothing.
    #[error(
        "private.adapters.rank is {rank}: {layer} needs one of at least 1 and below {widest}, or be named in private.layers"
    )]
    AdapterRank {
        /// The rank given.
        rank: usize,
        /// The layer.
        layer: String,
        /// The smaller of its widths.
        widest: usize,
    },
    /// A scale that is not positive.
    #[error("private.adapters.scale is {scale}: it must be finite and above 0")]
    AdapterScale {
        /// The value given.
        scale: f64,
    },
    /// A constant of the private objective outside its range.
    #[error("{field} is {value}: it must be finite and {range}")]
    Objective {
        /// Name of the constant.
        field: &'static str,
        /// The value given.
        value: f64,
        /// The range.
        range: &'static str,
    },
    /// A clip norm that is not positive.
    #[error("clip norm is {value}: it must be finite and above 0")]
    ClipNorm {
        /// The value given.
        value: f64,
    },
}
