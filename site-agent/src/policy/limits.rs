//! The `[policy]` section of site.toml. Default deny: what only the hospital can decide has no default.

use std::fmt;

use fusiondp_dp::{
    ClipNorm, Delta, Digest, Epsilon, NeighboringRelation, NoiseMultiplier, SamplingProbability,
};
use serde::Deserialize;

use super::Refusal;

/// What the site permits, over all studies.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyLimits {
    /// Largest epsilon per data set under `replace`, over all studies, at [`delta`](Self::delta); finite, >= 0. Required.
    pub max_epsilon_replace: EpsilonLimit,
    /// The same under `zero_out`. Required.
    pub max_epsilon_zero_out: EpsilonLimit,
    /// Largest epsilon of one study on one data set, at the same delta.
    #[serde(default)]
    pub per_study: EpsilonLimits,
    /// Largest epsilon of any 365 days on one data set, over all studies, at the same delta.
    #[serde(default)]
    pub per_year: EpsilonLimits,
    /// Largest epsilon of whole records on one data set, over all studies, at the same delta. With it the site takes part only
    /// in studies that protect whole records, and on data that no other study has used.
    #[serde(default)]
    pub records: Option<RecordLimits>,
    /// Delta at which all limits hold, whatever the deltas of the studies; a plan with a larger one is refused. Default
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
    /// Whether gradients of the hybrid view, which hold public features and labels, may leave without noise. Required. Without
    /// it a study that noises them per unit (`[privacy.records]`) needs the limits of [`records`](Self::records).
    pub allow_public_gradient: bool,
    /// Whether metrics on true values may leave without noise, where a study asks for them. Required.
    pub allow_metrics: bool,
    /// Smallest noise multiplier of counts that leave as metrics with noise, 2^-10 to 2^12. Without it none leave, but where
    /// [`allow_metrics`](Self::allow_metrics) lets them leave without noise.
    #[serde(default)]
    pub min_metrics_noise: Option<NoiseMultiplier>,
    /// Columns that a study may call public or its label: what may leave in a gradient without noise. Required; a column
    /// that is not listed is sensitive.
    pub public_columns: Vec<String>,
    /// The unit that a study must protect. Required.
    pub unit_column: UnitColumn,
    /// Files of imputers and of imputed values that may be used, by digest; without it every file that a study pins and
    /// the site holds. Imputation without a file needs no permission: it reads nothing but the study.
    #[serde(default)]
    pub allowed_imputers: Option<Vec<ImputerDigest>>,
    /// Whether an imputer must list the patients it was fitted on, so that the site can compare; default no.
    #[serde(default)]
    pub require_support_ids: bool,
    /// Who decides about a study that is within the limits; default a person.
    #[serde(default)]
    pub approval: Approval,
}

/// Limits under both relations; one that is absent does not bind.
#[derive(Debug, Clone, Copy, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpsilonLimits {
    /// Under `replace`; finite, >= 0.
    #[serde(default)]
    pub max_epsilon_replace: Option<EpsilonLimit>,
    /// Under `zero_out`; finite, >= 0.
    #[serde(default)]
    pub max_epsilon_zero_out: Option<EpsilonLimit>,
}

/// The second budget. Both limits are required: a section without them would look like one.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordLimits {
    /// Under `replace`; finite, >= 0.
    pub max_epsilon_replace: EpsilonLimit,
    /// Under `zero_out`; finite, >= 0.
    pub max_epsilon_zero_out: EpsilonLimit,
}

/// What an epsilon limit is counted over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// All studies on a data set, ever.
    DataSet,
    /// One study on a data set.
    Study,
    /// All studies on a data set in the last 365 days.
    Year,
    /// All studies on a data set, ever, for whole records instead of sensitive values.
    Records,
}

/// Who decides about a study that is within the limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Approval {
    /// A person at the site, for each study: `fusiondp-site approve`.
    #[default]
    ByHand,
    /// Nobody: whatever is within the limits runs, unless it was rejected by hand.
    Automatic,
}

/// The unit that a study must protect: `"patient_id"`, or `false` where every record is a patient of its own.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "UnitField")]
pub enum UnitColumn {
    /// The column that names the patient.
    Named(String),
    /// Every record is a unit; a study that protects groups of records protects more and is welcome.
    EveryRecord,
}

/// Digest of a file, `sha256:` and 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct ImputerDigest(Digest);

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

impl ImputerDigest {
    /// The digest.
    pub fn get(self) -> Digest {
        self.0
    }
}

impl TryFrom<String> for ImputerDigest {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        let hex = text.strip_prefix("sha256:").and_then(|hex| hex.parse().ok());
        hex.map(Self)
            .ok_or("an imputer is listed as \"sha256:\" and the 64 hex digits that `sha256sum` prints")
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum UnitField {
    Flag(bool),
    Name(String),
}

impl TryFrom<UnitField> for UnitColumn {
    type Error = &'static str;

    fn try_from(field: UnitField) -> Result<Self, &'static str> {
        match field {
            UnitField::Name(name) if !name.trim().is_empty() => Ok(Self::Named(name)),
            UnitField::Flag(false) => Ok(Self::EveryRecord),
            UnitField::Name(_) | UnitField::Flag(true) => Err(
                "name the column of the patient, or write false where every record is a patient of its own",
            ),
        }
    }
}

impl Scope {
    /// Every scope.
    pub const ALL: [Scope; 4] = [Scope::DataSet, Scope::Study, Scope::Year, Scope::Records];

    /// The section of site.toml that holds the scope's limits.
    pub const fn section(self) -> &'static str {
        match self {
            Scope::DataSet => "policy",
            Scope::Study => "policy.per_study",
            Scope::Year => "policy.per_year",
            Scope::Records => "policy.records",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Scope::DataSet => "data set, all studies",
            Scope::Study => "this study",
            Scope::Year => "data set, last 365 days",
            Scope::Records => "data set, whole records",
        })
    }
}

impl PolicyLimits {
    /// The limit of a scope under a relation; `None` where nothing binds.
    pub fn max_epsilon(&self, scope: Scope, relation: NeighboringRelation) -> Option<Epsilon> {
        let EpsilonLimits { max_epsilon_replace, max_epsilon_zero_out } = match scope {
            Scope::DataSet => EpsilonLimits {
                max_epsilon_replace: Some(self.max_epsilon_replace),
                max_epsilon_zero_out: Some(self.max_epsilon_zero_out),
            },
            Scope::Study => self.per_study,
            Scope::Year => self.per_year,
            Scope::Records => EpsilonLimits {
                max_epsilon_replace: self.records.map(|records| records.max_epsilon_replace),
                max_epsilon_zero_out: self.records.map(|records| records.max_epsilon_zero_out),
            },
        };
        let limit = match relation {
            NeighboringRelation::Replace => max_epsilon_replace,
            NeighboringRelation::ZeroOut => max_epsilon_zero_out,
        };
        limit.map(EpsilonLimit::get)
    }

    /// Whether an epsilon is within a scope's limit.
    ///
    /// # Errors
    /// [`Refusal::BudgetExceeded`].
    pub fn check_epsilon(
        &self,
        scope: Scope,
        relation: NeighboringRelation,
        needed: Epsilon,
    ) -> Result<(), Refusal> {
        match self.max_epsilon(scope, relation) {
            Some(limit) if needed > limit => Err(Refusal::BudgetExceeded { scope, relation, needed, limit }),
            _ => Ok(()),
        }
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
