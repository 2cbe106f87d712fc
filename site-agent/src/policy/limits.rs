//! The `[policy]` section of site.toml.

use fusiondp_dp::{ClipNorm, Epsilon, NeighboringRelation, NoiseMultiplier, SamplingProbability};
use serde::Deserialize;

use super::Refusal;

/// What the site permits, over all studies. The three decisions that only the site can make have no default.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyLimits {
    /// Largest epsilon per data set under `replace`, over all studies, at each study's delta; finite, >= 0. Required.
    pub max_epsilon_replace: EpsilonLimit,
    /// The same under `zero_out`. Required.
    pub max_epsilon_zero_out: EpsilonLimit,
    /// Smallest noise multiplier of a plan; any if absent.
    #[serde(default)]
    pub min_noise_multiplier: Option<NoiseMultiplier>,
    /// Largest clip norm of a plan; any if absent.
    #[serde(default)]
    pub max_clip_norm: Option<ClipNorm>,
    /// Largest sampling probability of a plan; any if absent.
    #[serde(default)]
    pub max_sampling_probability: Option<SamplingProbability>,
    /// Fewest privacy units the site takes part with; default 1.
    #[serde(default = "one")]
    pub min_units: u64,
    /// Whether gradients of the hybrid view, which hold public features and labels, may leave without noise. Required.
    pub allow_public_gradient: bool,
    /// Whether metrics on true values may leave without noise, where a study asks for them. Required.
    pub allow_metrics: bool,
    /// Columns that a study may call public; absent: a study decides, and whoever approves the study at the site reads
    /// its schema.
    #[serde(default)]
    pub public_columns: Option<Vec<String>>,
}

/// A finite bound on epsilon.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Deserialize)]
#[serde(try_from = "f64")]
pub struct EpsilonLimit(Epsilon);

impl EpsilonLimit {
    /// The bound.
    pub fn get(self) -> Epsilon {
        self.0
    }
}

impl TryFrom<f64> for EpsilonLimit {
    type Error = &'static str;

    fn try_from(value: f64) -> Result<Self, &'static str> {
        match Epsilon::new(value) {
            Ok(epsilon) if epsilon.is_finite() => Ok(Self(epsilon)),
            _ => Err("an epsilon limit must be a finite number >= 0; a budget without an end is no budget"),
        }
    }
}

impl PolicyLimits {
    /// The limit under a relation.
    pub fn max_epsilon(&self, relation: NeighboringRelation) -> Epsilon {
        match relation {
            NeighboringRelation::Replace => self.max_epsilon_replace.get(),
            NeighboringRelation::ZeroOut => self.max_epsilon_zero_out.get(),
        }
    }

    /// Whether an epsilon is within the limit of its relation.
    ///
    /// # Errors
    /// [`Refusal::BudgetExceeded`].
    pub fn check_epsilon(&self, relation: NeighboringRelation, needed: Epsilon) -> Result<(), Refusal> {
        let limit = self.max_epsilon(relation);
        if needed <= limit {
            return Ok(());
        }
        Err(Refusal::BudgetExceeded { relation, needed, limit })
    }
}

fn one() -> u64 {
    1
}
