//! What a study says of the server's step.

use serde::{Deserialize, Serialize};

use super::{PosteriorSpec, ServerError};
use crate::model::Model;
use crate::optimiser::{Averaging, OptimizerSpec, Schedule};

/// Settings of the server's step, fixed for a study.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerSettings {
    /// Steps every coordinate but a split model's head.
    pub optimizer: OptimizerSpec,
    /// Steps the head of a split model, whose few noised weights want another rate; `None`: as `optimizer`.
    #[serde(default)]
    pub private_optimizer: Option<OptimizerSpec>,
    /// Moves the head by its posterior mean in place of an optimizer; `None`: by `private_optimizer`.
    #[serde(default)]
    pub posterior: Option<PosteriorSpec>,
    /// Schedule of both learning rates.
    #[serde(default)]
    pub schedule: Schedule,
    /// Average of the iterates that becomes the final model.
    #[serde(default)]
    pub averaging: Averaging,
    /// Number of directions k that private gradients are projected onto, at least 1; `None`: they are not projected.
    #[serde(default)]
    pub private_directions: Option<usize>,
    /// Weight alpha of the private gradient; finite, at least 0.
    pub calibration_weight: f64,
    /// Radius of the ball to which parameters are projected after each round; above 0.
    #[serde(default)]
    pub max_weight_norm: Option<f64>,
    /// Rounds of the study, warm-up included; at least 1.
    pub rounds: u32,
}

impl ServerSettings {
    /// Checks every setting, and that they fit the model.
    ///
    /// # Errors
    /// The first setting outside its range.
    pub fn validate(&self, model: &Model) -> Result<(), ServerError> {
        self.optimizer.validate()?;
        self.averaging.validate()?;
        if let Some(optimizer) = &self.private_optimizer {
            optimizer.validate()?;
            if model.head_range().is_empty() {
                return Err(ServerError::PrivateOptimizer);
            }
        }
        if let Some(posterior) = &self.posterior {
            posterior.validate()?;
            self.check_posterior(model)?;
        }
        let check = |fits: bool, field, value, range| {
            if fits { Ok(()) } else { Err(ServerError::Setting { field, value, range }) }
        };
        if let Some(directions) = self.private_directions {
            self.check_directions(model, directions)?;
        }
        let alpha = self.calibration_weight;
        check(alpha >= 0.0 && alpha.is_finite(), "calibration_weight", alpha, "finite and at least 0")?;
        let limit = self.max_weight_norm.unwrap_or(1.0);
        check(limit > 0.0 && limit.is_finite(), "max_weight_norm", limit, "finite and above 0")?;
        check(self.rounds > 0, "rounds", f64::from(self.rounds), "at least 1")
    }

    /// Directions are public gradients over all private coordinates, and no more than these.
    fn check_directions(&self, model: &Model, directions: usize) -> Result<(), ServerError> {
        let coordinates = model.private_range();
        if coordinates.runs().last().is_some_and(|last| last.end > model.public_range().end)
            || !model.head_range().is_empty()
        {
            return Err(ServerError::DirectionsModel);
        }
        if (1..=coordinates.len()).contains(&directions) {
            return Ok(());
        }
        let range = "at least 1 and at most the number of private coordinates";
        Err(ServerError::Setting { field: "private_directions", value: directions as f64, range })
    }

    /// A posterior is of the head's parameters given gradients of them alone, and of the plain gradient.
    fn check_posterior(&self, model: &Model) -> Result<(), ServerError> {
        if model.head_range().is_empty() || model.public_range().end > model.head_range().start {
            return Err(ServerError::PosteriorModel);
        }
        if self.private_optimizer.is_some() {
            return Err(ServerError::PosteriorAndOptimizer);
        }
        match self.calibration_weight {
            1.0 => Ok(()),
            value => Err(ServerError::Setting {
                field: "calibration_weight",
                value,
                range: "1 with a posterior, which weighs the private gradient by its noise",
            }),
        }
    }

    /// The optimizer of a split model's head.
    pub fn private_optimizer(&self) -> &OptimizerSpec {
        self.private_optimizer.as_ref().unwrap_or(&self.optimizer)
    }
}
