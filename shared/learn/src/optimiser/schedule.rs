//! Learning-rate schedules.

use serde::{Deserialize, Serialize};

/// How the learning rate changes over the rounds of a study.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Schedule {
    /// The same rate in every round.
    #[default]
    Constant,
    /// In a straight line from the full rate in round 1 towards 0 after the last round.
    Linear,
    /// Half a cosine wave between the same ends.
    Cosine,
}

impl Schedule {
    /// Factor of the learning rate in `round` (from 1) of `rounds`; 0 after the last round unless constant.
    pub fn factor(self, round: u32, rounds: u32) -> f64 {
        let done = f64::from(round.saturating_sub(1)) / f64::from(rounds.max(1));
        let done = done.min(1.0);
        match self {
            Self::Constant => 1.0,
            Self::Linear => 1.0 - done,
            Self::Cosine => 0.5 * (1.0 + libm::cos(std::f64::consts::PI * done)),
        }
    }
}
