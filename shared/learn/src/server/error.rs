//! Why a server step was refused.

use crate::optimiser::{CodecError, OptimizerError};

/// Why a server step was refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ServerError {
    /// The optimizer or the averager refused.
    #[error(transparent)]
    Optimizer(#[from] OptimizerError),
    /// Stored bytes that are not a state of this study.
    #[error("stored server state cannot be restored")]
    State(#[from] CodecError),
    /// A setting outside its range.
    #[error("{field} is {value}: it must be {range}")]
    Setting {
        /// Name of the setting.
        field: &'static str,
        /// The value given.
        value: f64,
        /// The range.
        range: &'static str,
    },
    /// A private optimizer for a model without a head.
    #[error(
        "private_optimizer is set, but this model has no sensitive head: remove it, or use a split model"
    )]
    PrivateOptimizer,
    /// A posterior for a model without a head of its own gradient.
    #[error(
        "posterior is set, and this model has no head that takes private gradients only: use a split model with \
         head_gradient = \"private-only\", or private_optimizer"
    )]
    PosteriorModel,
    /// Two things that would move the head.
    #[error(
        "posterior and private_optimizer are both set: the head is moved by one of them, remove the other"
    )]
    PosteriorAndOptimizer,
    /// Directions for a model with a head.
    #[error(
        "private_directions is set, and this model has a sensitive head, whose private coordinates are few already: remove \
         it, or use an mlp model"
    )]
    DirectionsModel,
    /// A matrix that is no covariance.
    #[error("the posterior of the head cannot be computed: {reason}")]
    Posterior {
        /// What went wrong.
        reason: &'static str,
    },
    /// A round out of turn.
    #[error("round {round} cannot be applied: the next one is {expected}")]
    Round {
        /// The round given.
        round: u32,
        /// The round that is next.
        expected: u32,
    },
    /// A round after the last.
    #[error("the study's {rounds} rounds have all been applied")]
    Finished {
        /// Rounds of the study.
        rounds: u32,
    },
    /// A round without contributions, or with none that has weight.
    #[error("no contribution has a positive number of {what}: a round needs at least one")]
    NoWeight {
        /// Units or records.
        what: &'static str,
    },
    /// A vector of another length.
    #[error("{what} has {found} values, the model needs {expected}")]
    Length {
        /// Which vector.
        what: &'static str,
        /// The length needed.
        expected: usize,
        /// The length given.
        found: usize,
    },
    /// Some sites sent a private sum and some did not.
    #[error(
        "{with} of {all} contributions have a private sum: a round has it from all sites or, in warm-up, from none"
    )]
    MixedWarmup {
        /// Contributions with a private sum.
        with: usize,
        /// All contributions.
        all: usize,
    },
    /// A value that is not a finite number.
    #[error("{what} holds a value that is not finite")]
    NotFinite {
        /// Which vector.
        what: &'static str,
    },
}

impl ServerError {
    pub(super) fn unexpected(what: &'static str) -> Self {
        Self::State(CodecError::Unexpected { what })
    }
}

/// An error unless both lengths agree.
pub(super) fn check_length(what: &'static str, expected: usize, found: usize) -> Result<(), ServerError> {
    if expected == found { Ok(()) } else { Err(ServerError::Length { what, expected, found }) }
}
