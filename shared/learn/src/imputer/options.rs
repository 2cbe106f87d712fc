//! Options of a fit.

use serde::{Deserialize, Serialize};

use super::ImputerError;

/// How an imputer network is fitted. The same options and data give the same network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ImputerFit {
    /// Hidden widths, input side first.
    pub widths: Vec<usize>,
    /// Largest number of passes over the support data, >= 1.
    pub epochs: usize,
    /// Step size of AdamW at the start, > 0; it falls to 0 along a cosine.
    pub learning_rate: f64,
    /// Decoupled weight decay, >= 0.
    pub weight_decay: f64,
    /// Dropout rate of hidden layers, `[0, 1)`.
    pub dropout: f64,
    /// Records per step, >= 1.
    pub batch: usize,
    /// Seed of initial values, order, held-out records and dropout.
    pub seed: u64,
    /// Epochs without a better held-out loss after which the fit stops, >= 1.
    pub patience: usize,
}

impl Default for ImputerFit {
    fn default() -> Self {
        Self {
            widths: vec![128],
            epochs: 120,
            learning_rate: 3e-3,
            weight_decay: 1e-2,
            dropout: 0.4,
            batch: 128,
            seed: 1,
            patience: 20,
        }
    }
}

impl ImputerFit {
    /// Checks every option.
    ///
    /// # Errors
    /// [`ImputerError::Option`] for the first option out of range.
    pub fn validate(&self) -> Result<(), ImputerError> {
        let at_least_one = "must be at least 1";
        let counts = [("epochs", self.epochs), ("batch", self.batch), ("patience", self.patience)];
        for (field, value) in counts.into_iter().chain(self.widths.iter().map(|&width| ("widths", width))) {
            require(value >= 1, field, value, at_least_one)?;
        }
        let (rate, decay) = (self.learning_rate, self.weight_decay);
        require(rate.is_finite() && rate > 0.0, "learning_rate", rate, "must be finite and above 0")?;
        require(decay.is_finite() && decay >= 0.0, "weight_decay", decay, "must be finite and at least 0")?;
        require((0.0..1.0).contains(&self.dropout), "dropout", self.dropout, "must be at least 0 and below 1")
    }
}

fn require(
    holds: bool,
    field: &'static str,
    value: impl ToString,
    problem: &'static str,
) -> Result<(), ImputerError> {
    if holds { Ok(()) } else { Err(ImputerError::Option { field, value: value.to_string(), problem }) }
}
