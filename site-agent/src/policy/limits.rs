//! The `[policy]` section of site.toml.

use fusiondp_dp::{ClipNorm, Delta, Epsilon, NeighboringRelation, NoiseMultiplier, SamplingProbability};
use serde::Deserialize;

use super::Refusal;

/// What the site permits, over all studies. The four decisions that only the site can make have no default.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "Written")]
pub struct PolicyLimits {
    /// Largest epsilon per data set under `replace`, over all studies, at [`delta`](Self::delta); finite, >= 0. Required.
    pub max_epsilon_replace: EpsilonLimit,
    /// The same under `zero_out`. Required.
    pub max_epsilon_zero_out: EpsilonLimit,
    /// Whether gradients of the hybrid view, which hold public features and labels, may leave without noise. Required.
    pub allow_public_gradient: bool,
    /// Whether metrics on true values may leave without noise, where a study asks for them. Required.
    pub allow_metrics: bool,
    /// Delta at which both limits hold, whatever the deltas of the studies; a plan with a larger one is refused. Default
    /// 1e-5.
    pub delta: Delta,
    /// Smallest noise multiplier of a plan; any if absent.
    pub min_noise_multiplier: Option<NoiseMultiplier>,
    /// Largest clip norm of a plan; any if absent.
    pub max_clip_norm: Option<ClipNorm>,
    /// Largest sampling probability of a plan; any if absent.
    pub max_sampling_probability: Option<SamplingProbability>,
    /// Fewest privacy units the site takes part with; default 1.
    pub min_units: u64,
    /// Columns that a study may call public or its label: what may leave in a gradient without noise. Absent: a study
    /// decides, and whoever approves the study at the site reads its schema.
    pub public_columns: Option<Vec<String>>,
    /// Column that names the patient; a study that protects anything smaller is refused. Absent: a study decides.
    pub unit_column: Option<String>,
}

/// The section as it is written, in which a decision may be missing.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    max_epsilon_replace: Option<EpsilonLimit>,
    max_epsilon_zero_out: Option<EpsilonLimit>,
    allow_public_gradient: Option<bool>,
    allow_metrics: Option<bool>,
    delta: Option<Delta>,
    min_noise_multiplier: Option<NoiseMultiplier>,
    max_clip_norm: Option<ClipNorm>,
    max_sampling_probability: Option<SamplingProbability>,
    min_units: Option<u64>,
    public_columns: Option<Vec<String>>,
    unit_column: Option<String>,
}

/// Decisions that the site has not made, all of them at once.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{} not set: this is for the hospital to decide and has no default; add a line for each (the kit's site.toml shows \
     them with what they mean)",
    .0.join(", ")
)]
pub struct Undecided(Vec<&'static str>);

impl TryFrom<Written> for PolicyLimits {
    type Error = Undecided;

    fn try_from(written: Written) -> Result<Self, Undecided> {
        let Written {
            max_epsilon_replace, max_epsilon_zero_out, allow_public_gradient, allow_metrics, ..
        } = written;
        let (
            Some(max_epsilon_replace),
            Some(max_epsilon_zero_out),
            Some(allow_public_gradient),
            Some(allow_metrics),
        ) = (max_epsilon_replace, max_epsilon_zero_out, allow_public_gradient, allow_metrics)
        else {
            let decisions = [
                ("max_epsilon_replace", max_epsilon_replace.is_some()),
                ("max_epsilon_zero_out", max_epsilon_zero_out.is_some()),
                ("allow_public_gradient", allow_public_gradient.is_some()),
                ("allow_metrics", allow_metrics.is_some()),
            ];
            return Err(Undecided(
                decisions.iter().filter(|(_, made)| !made).map(|(name, _)| *name).collect(),
            ));
        };
        Ok(Self {
            max_epsilon_replace,
            max_epsilon_zero_out,
            allow_public_gradient,
            allow_metrics,
            delta: written.delta.unwrap_or_else(default_delta),
            min_noise_multiplier: written.min_noise_multiplier,
            max_clip_norm: written.max_clip_norm,
            max_sampling_probability: written.max_sampling_probability,
            min_units: written.min_units.unwrap_or(1),
            public_columns: written.public_columns,
            unit_column: written.unit_column,
        })
    }
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
