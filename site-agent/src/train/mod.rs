//! One site's part of a training round: where the learning engine and the privacy mechanism meet.
//!
//! * [`session`]: a study's model and encoded records, prepared once
//! * [`public_step`]: mean gradient of the hybrid view over a public batch
//! * [`private_step`]: clipped, rounded and noised sum over a secret sample
//! * `step`: both of them side by side on the threads given
//! * [`local_steps`]: several steps at the site, for studies that average models
//! * [`round`]: the parts that a task needs, put together into the bytes of an update
//!
//! What leaves has a type that says why it may: [`public_step::PublicValues`] exists only for a
//! [`crate::policy::PublicPermit`], noised sums only for a committed charge.

pub mod local_steps;
pub mod private_step;
pub mod public_step;
pub mod round;
pub mod session;
mod step;
mod workspace;

use fusiondp_dp::{SeedError, StepError};
use fusiondp_learn::encode::EncodeError;
use fusiondp_learn::model::ModelError;

pub use round::{RoundOutput, RoundWork};
pub use session::Session;

use crate::data::DataError;
use crate::imputer::ImputerError;

/// Why a session or a round could not be computed. No message holds a patient's value.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The records.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The imputed values.
    #[error(transparent)]
    Imputer(#[from] ImputerError),
    /// Schema and model do not go together.
    #[error("schema and model of the study do not fit: {0}")]
    Encode(#[from] EncodeError),
    /// The model refuses its input.
    #[error("the model cannot be computed: {0}")]
    Model(#[from] ModelError),
    /// The private step refuses; its charge stays spent.
    #[error("the private step was refused: {0}")]
    Step(#[from] StepError),
    /// No randomness.
    #[error(transparent)]
    Seed(#[from] SeedError),
    /// A round without what the study needs; a defect of the caller.
    #[error("the round lacks {what}; please report this")]
    Incomplete {
        /// What is missing.
        what: &'static str,
    },
    /// The public gradient is not finite.
    #[error(
        "the public gradient is not finite: training has diverged; lower the learning rate in a new study"
    )]
    Diverged,
}

#[cfg(test)]
mod tests;
