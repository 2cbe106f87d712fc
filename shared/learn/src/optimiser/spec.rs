//! What a study says of an optimizer.

use serde::{Deserialize, Serialize};

use super::OptimizerError;

/// A first-order optimizer and its settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum OptimizerSpec {
    /// `p -= rate g`.
    Sgd {
        /// Learning rate, above 0.
        learning_rate: f64,
        /// Decoupled weight decay per unit of learning rate, at least 0.
        #[serde(default)]
        weight_decay: f64,
    },
    /// `v = momentum v + g; p -= rate v`.
    Momentum {
        /// Learning rate, above 0.
        learning_rate: f64,
        /// Momentum, `[0, 1)`.
        #[serde(default = "default_momentum")]
        momentum: f64,
        /// Decoupled weight decay per unit of learning rate, at least 0.
        #[serde(default)]
        weight_decay: f64,
    },
    /// Adam with decoupled weight decay (AdamW).
    Adam {
        /// Learning rate, above 0.
        learning_rate: f64,
        /// Decay of the mean of gradients, `[0, 1)`.
        #[serde(default = "default_beta1")]
        beta1: f64,
        /// Decay of the mean of squared gradients, `[0, 1)`.
        #[serde(default = "default_beta2")]
        beta2: f64,
        /// Added to the root of the mean of squares, above 0.
        #[serde(default = "default_epsilon")]
        epsilon: f64,
        /// Decoupled weight decay per unit of learning rate, at least 0.
        #[serde(default)]
        weight_decay: f64,
    },
}

impl OptimizerSpec {
    /// Checks every setting.
    ///
    /// # Errors
    /// The first setting outside its range.
    pub fn validate(&self) -> Result<(), OptimizerError> {
        let check = |fits: bool, field, value, range| {
            if fits { Ok(()) } else { Err(OptimizerError::Setting { field, value, range }) }
        };
        let positive =
            |field, value: f64| check(value > 0.0 && value.is_finite(), field, value, "finite and above 0");
        let share =
            |field, value: f64| check((0.0..1.0).contains(&value), field, value, "at least 0 and below 1");
        positive("learning_rate", self.learning_rate())?;
        let decay = self.weight_decay();
        check(decay >= 0.0 && decay.is_finite(), "weight_decay", decay, "finite and at least 0")?;
        match *self {
            Self::Sgd { .. } => Ok(()),
            Self::Momentum { momentum, .. } => share("momentum", momentum),
            Self::Adam { beta1, beta2, epsilon, .. } => {
                share("beta1", beta1)?;
                share("beta2", beta2)?;
                positive("epsilon", epsilon)
            }
        }
    }

    /// The learning rate before any schedule.
    pub fn learning_rate(&self) -> f64 {
        match *self {
            Self::Sgd { learning_rate, .. }
            | Self::Momentum { learning_rate, .. }
            | Self::Adam { learning_rate, .. } => learning_rate,
        }
    }

    /// The decoupled weight decay.
    pub fn weight_decay(&self) -> f64 {
        match *self {
            Self::Sgd { weight_decay, .. }
            | Self::Momentum { weight_decay, .. }
            | Self::Adam { weight_decay, .. } => weight_decay,
        }
    }

    /// Number of the kind in stored states.
    pub(super) fn kind(&self) -> u8 {
        match self {
            Self::Sgd { .. } => 0,
            Self::Momentum { .. } => 1,
            Self::Adam { .. } => 2,
        }
    }
}

fn default_momentum() -> f64 {
    0.9
}

fn default_beta1() -> f64 {
    0.9
}

fn default_beta2() -> f64 {
    0.999
}

fn default_epsilon() -> f64 {
    1e-8
}
