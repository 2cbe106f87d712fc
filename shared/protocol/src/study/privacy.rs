//! Privacy unit, clip norm and what is to be guaranteed.

use fusiondp_dp::{ClipNorm, Delta, Epsilon, NeighboringRelation, NoiseMultiplier};
use serde::{Deserialize, Serialize};

use super::{BatchSize, StudyError};
use super::range::{Check, out_of_range};

/// Clip norms that gradients in single precision can be held to.
const CLIP_NORMS: std::ops::RangeInclusive<f64> = 1e-30..=1e30;
/// Noise multipliers for which discrete noise on the grid is as good as continuous noise.
const NOISE: std::ops::RangeInclusive<f64> = 1.0 / 1024.0..=4096.0;

/// The `[privacy]` section.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Privacy {
    /// The schema's unit-id column, whose value names who is protected; without it every record is its own unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit_column: Option<String>,
    /// L2 norm that one unit's private gradient is clipped to (C), 1e-30 to 1e30.
    pub clip_norm: ClipNorm,
    /// Probability mass the guarantee leaves out; at most one over the number of units.
    pub delta: Delta,
    /// What the noise is calibrated to.
    pub target: PrivacyTarget,
    /// A second tier: public gradients are clipped and noised per unit too, and whole records are protected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub records: Option<RecordPrivacy>,
}

/// The `[privacy.records]` section: how public gradients are protected. Its unit and delta are those of `[privacy]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordPrivacy {
    /// L2 norm that one unit's public gradient is clipped to, 1e-30 to 1e30.
    pub clip_norm: ClipNorm,
    /// Privacy units in the secret sample of a step's public part, expected, over the whole consortium; >= 1, or `"all"`.
    /// Takes the place of `training.public_batch_size`.
    pub expected_batch_size: BatchSize,
    /// What the noise is calibrated to. An epsilon is that of both parts together: whole records lose by either.
    pub target: PrivacyTarget,
}

/// What the noise is calibrated to: `{ epsilon = 1.0, relation = "replace" }` or `{ noise_multiplier = 1.05 }`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "TargetFields", into = "TargetFields")]
pub enum PrivacyTarget {
    /// The smallest noise whose whole study stays at or below `epsilon` under `relation`.
    Epsilon {
        /// Finite, > 0.
        epsilon: Epsilon,
        /// Neighboring relation that the target is meant under; the other one is reported too.
        relation: NeighboringRelation,
    },
    /// A given noise; the epsilon that follows is reported.
    NoiseMultiplier {
        /// Noise deviation over the clip norm, 2^-10 to 2^12.
        noise_multiplier: NoiseMultiplier,
    },
}

impl Privacy {
    /// Ranges are those of a private step: what the study permits, every site can compute.
    pub(super) fn validate(&self) -> Check {
        check_clip_norm("privacy.clip_norm", self.clip_norm)?;
        self.target.validate("privacy.target.epsilon", "privacy.target.noise_multiplier")?;
        let Some(records) = &self.records else { return Ok(()) };
        check_clip_norm("privacy.records.clip_norm", records.clip_norm)?;
        if records.expected_batch_size == BatchSize::Expected(0) {
            let field = "privacy.records.expected_batch_size";
            return Err(out_of_range(field, 0, "1 to 4,294,967,295, or \"all\""));
        }
        records.target.validate("privacy.records.target.epsilon", "privacy.records.target.noise_multiplier")
    }
}

impl PrivacyTarget {
    fn validate(&self, epsilon_field: &'static str, noise_field: &'static str) -> Check {
        match self {
            Self::Epsilon { epsilon, .. } if !is_bound(*epsilon) => {
                Err(StudyError::TargetEpsilon { field: epsilon_field, epsilon: *epsilon })
            }
            Self::NoiseMultiplier { noise_multiplier } if !NOISE.contains(&noise_multiplier.get()) => {
                Err(out_of_range(noise_field, noise_multiplier, "2^-10 (0.000977) to 2^12 (4096)"))
            }
            _ => Ok(()),
        }
    }
}

fn check_clip_norm(field: &'static str, clip_norm: ClipNorm) -> Check {
    if CLIP_NORMS.contains(&clip_norm.get()) {
        return Ok(());
    }
    Err(out_of_range(field, clip_norm, "1e-30 to 1e30"))
}

fn is_bound(epsilon: Epsilon) -> bool {
    epsilon.get() > 0.0 && epsilon.get().is_finite()
}

/// The target as it is written: separate fields, so that a mistake in one is named instead of "no variant matches".
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TargetFields {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    epsilon: Option<Epsilon>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    relation: Option<NeighboringRelation>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    noise_multiplier: Option<NoiseMultiplier>,
}

impl TryFrom<TargetFields> for PrivacyTarget {
    type Error = &'static str;

    fn try_from(fields: TargetFields) -> Result<Self, &'static str> {
        match (fields.epsilon, fields.relation, fields.noise_multiplier) {
            (Some(epsilon), Some(relation), None) => Ok(Self::Epsilon { epsilon, relation }),
            (None, None, Some(noise_multiplier)) => Ok(Self::NoiseMultiplier { noise_multiplier }),
            (Some(_), None, None) => {
                Err("epsilon without relation; add relation = \"replace\" (or \"zero_out\")")
            }
            _ => Err("give either epsilon and relation, or noise_multiplier alone"),
        }
    }
}

impl From<PrivacyTarget> for TargetFields {
    fn from(target: PrivacyTarget) -> Self {
        match target {
            PrivacyTarget::Epsilon { epsilon, relation } => {
                Self { epsilon: Some(epsilon), relation: Some(relation), noise_multiplier: None }
            }
            PrivacyTarget::NoiseMultiplier { noise_multiplier } => {
                Self { epsilon: None, relation: None, noise_multiplier: Some(noise_multiplier) }
            }
        }
    }
}
