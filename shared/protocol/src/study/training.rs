//! Rounds, batches and optimizers.

use fusiondp_learn::optimiser::{Averaging, OptimizerSpec, Schedule};
use fusiondp_learn::server::PosteriorSpec;
use serde::{Deserialize, Serialize};

use super::range::{Check, positive, within};
use super::{BatchSize, StudyError};

/// The `[training]` section.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Training {
    /// Rounds of the study, 1 to 100,000; each ends in one server step.
    pub rounds: u32,
    /// Steps that a site takes on its own per round, 1 to 1,000. 1: gradients travel (FedSgd); more: model
    /// differences travel (FedAvg), and each local step is one event in the ledger.
    #[serde(default = "one")]
    pub local_steps: u32,
    /// Learning rate of the local steps, finite, > 0; needed with `local_steps > 1` and refused without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_learning_rate: Option<f64>,
    /// Privacy units in the secret sample of one step, expected, over the whole consortium; >= 1, or `"all"`.
    pub expected_batch_size: BatchSize,
    /// Records in the public batch of one step over the whole consortium, at most 1,048,576; >= 1 where the mode has a
    /// public part.
    #[serde(default)]
    pub public_batch_size: u32,
    /// Server optimizer of every coordinate but a split model's head.
    pub optimizer: OptimizerSpec,
    /// Server optimizer of a split model's head; there, either this or `posterior` is needed, elsewhere both are refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_optimizer: Option<OptimizerSpec>,
    /// Moves a split model's head by its posterior mean, in place of an optimizer; see [`PosteriorSpec`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub posterior: Option<PosteriorSpec>,
    /// How the learning rate falls over the rounds.
    #[serde(default)]
    pub schedule: Schedule,
    /// Averaging of the iterates into the final model.
    #[serde(default)]
    pub averaging: Averaging,
    /// Radius of the ball that the parameters are projected to after each step, finite, > 0; unlimited if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_weight_norm: Option<f64>,
    /// Seed of the first parameters; public, and the same model everywhere.
    #[serde(default)]
    pub initialization_seed: u64,
}

impl Training {
    /// Most rounds of a study.
    pub const MAX_ROUNDS: u32 = 100_000;
    /// Most local steps of a round.
    pub const MAX_LOCAL_STEPS: u32 = 1_000;
    /// Most steps of a study, rounds times local steps.
    pub const MAX_STEPS: u64 = 1_000_000;
    /// Largest public batch, in records over the consortium.
    pub const MAX_PUBLIC_BATCH: u32 = 1 << 20;
}

impl Training {
    pub(super) fn validate(&self) -> Check {
        within("training.rounds", self.rounds, 1..=Self::MAX_ROUNDS, "1 to 100,000")?;
        within("training.local_steps", self.local_steps, 1..=Self::MAX_LOCAL_STEPS, "1 to 1,000")?;
        let steps = u64::from(self.rounds) * u64::from(self.local_steps);
        if steps > Self::MAX_STEPS {
            return Err(StudyError::TooManySteps { steps });
        }
        if let BatchSize::Expected(units) = self.expected_batch_size {
            within("training.expected_batch_size", units, 1..=u32::MAX, "at least 1, or \"all\"")?;
        }
        match (self.local_steps, self.local_learning_rate) {
            (1, Some(_)) => return Err(StudyError::LocalRateUnused),
            (1, None) => {}
            (local_steps, None) => return Err(StudyError::LocalRateMissing { local_steps }),
            (_, Some(rate)) => positive("training.local_learning_rate", rate)?,
        }
        if let Some(radius) = self.max_weight_norm {
            positive("training.max_weight_norm", radius)?;
        }
        let averaging = self.averaging.validate();
        averaging.map_err(|source| StudyError::Optimizer { field: "averaging", source })
    }
}

fn one() -> u32 {
    1
}
