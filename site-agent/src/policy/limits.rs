//! The `[policy]` section of site.toml.

use fusiondp_dp::{ClipNorm, Delta, Epsilon, NeighboringRelation, NoiseMultiplier, SamplingProbability};
use serde::Deserialize;

use super::Refusal;

/// What the site permits, over all studies. The three decisions that only the site can make have no default.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyLimits {
    /// Largest epsilon per data set under `replace`, over all studies, at [`delta`](Self::delta); finite, >= 0. Required.
    pub max_epsilon_replace: EpsilonLimit,
    /// The same under `zero_out`. Required.
    pub max_epsilon_zero_out: EpsilonLimit,
    /// Delta at which both limits hold, whatever the deltas of the studies; a plan with a larger one is refused. Default
    /// 1e-5.
    #[serde(default = "default_delta")]
    pub delta: Delta,
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
    /// Columns that a study may call public or its label: what may leave in a gradient without noise. Absent: a study
    /// decides, and whoever approves the study at the site reads its schema.
    #[serde(default)]
    pub public_columns: Option<Vec<String>>,
    /// Column that names the patient; a study that protects anything smaller is refused. Absent: a study decides.
    #[serde(default)]
    pub unit_column: Option<String>,
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

fn default_delta() -> Delta {
    // Unwrap safety: 1e-5 lies between 0 and 1.
    #[allow(clippy::unwrap_used)]
    Delta::new(1e-5).unwrap()
}

fn one() -> u64 {
    1
}
