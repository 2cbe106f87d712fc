//! Why the site will not.

use fusiondp_dp::{
    ClipNorm, Delta, Digest, Epsilon, NeighboringRelation, NoiseMultiplier, SamplingProbability,
};
use fusiondp_protocol::ids::CohortName;
use fusiondp_protocol::problem::{Problem, ProblemType};

/// A refusal stands until the site changes its policy or the consortium its study; a retry does not help.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// The mode protects nothing.
    #[error("fusion.mode = \"non-private\" protects nobody; it runs in `fusiondp-simulate` only")]
    NonPrivate,
    /// Public gradients may not leave.
    #[error(
        "policy.allow_public_gradient = false: the study sends gradients of public features and labels without noise; \
         the site permits it with true, or takes part in dp-sgd studies"
    )]
    PublicGradient,
    /// Metrics may not leave.
    #[error(
        "policy.allow_metrics = false: metrics are not covered by the guarantee; the site permits them with true"
    )]
    Metrics,
    /// The study does not ask for metrics.
    #[error("evaluation.release = \"none\": the study releases no metrics; set \"summary\" in a new study")]
    MetricsNotInStudy,
    /// A column is not public here.
    #[error(
        "policy.public_columns does not list \"{column}\", which the study uses as {role}; declare it sensitive in the \
         study, or list it"
    )]
    ColumnNotPublic {
        /// Name of the column.
        column: String,
        /// Its role in the study, for people.
        role: &'static str,
    },
    /// The study protects another unit than the site's patients.
    #[error(
        "the study protects each {asked}, policy.unit_column = \"{required}\"; set privacy.unit_column in the study"
    )]
    Unit {
        /// What the study protects.
        asked: String,
        /// What the site demands.
        required: String,
    },
    /// A cohort that the study does not evaluate on.
    #[error("the study does not evaluate on cohort \"{cohort}\"; the coordinator must follow the study")]
    CohortNotInStudy {
        /// The cohort.
        cohort: CohortName,
    },
    /// Too few patients to give metrics of.
    #[error(
        "cohort \"{cohort}\" is smaller than policy.min_units = {limit}; the site lowers the limit or gives no metrics"
    )]
    CohortTooSmall {
        /// The cohort.
        cohort: CohortName,
        /// The limit.
        limit: u64,
    },
    /// Too large a probability of failure.
    #[error("delta = {value} is above policy.delta = {limit}; lower privacy.delta")]
    Delta {
        /// The plan's.
        value: Delta,
        /// The limit.
        limit: Delta,
    },
    /// Too few patients.
    #[error(
        "the site has {units} privacy units, policy.min_units = {limit}; the site lowers the limit or stays out"
    )]
    TooFewUnits {
        /// Units of the site.
        units: u64,
        /// The limit.
        limit: u64,
    },
    /// Too little noise.
    #[error("noise_multiplier = {value} is below policy.min_noise_multiplier = {limit}; plan more noise")]
    NoiseMultiplier {
        /// The plan's.
        value: NoiseMultiplier,
        /// The limit.
        limit: NoiseMultiplier,
    },
    /// Too large a clip norm.
    #[error("clip_norm = {value} is above policy.max_clip_norm = {limit}; lower privacy.clip_norm")]
    ClipNorm {
        /// The plan's.
        value: ClipNorm,
        /// The limit.
        limit: ClipNorm,
    },
    /// Too large a sample.
    #[error(
        "sampling_probability = {value} is above policy.max_sampling_probability = {limit}; lower \
         training.expected_batch_size"
    )]
    SamplingProbability {
        /// The plan's.
        value: SamplingProbability,
        /// The limit.
        limit: SamplingProbability,
    },
    /// A private part that the plan does not have.
    #[error(
        "the task asks for a private part and the plan has no noise; the coordinator must follow its plan"
    )]
    NoPrivatePart,
    /// It is unclear which data this is.
    #[error(
        "the ledger holds charges of other data, and nothing says whether this file (data set {data_set}) has the same \
         patients; set [data] identity: to \"sha256:<digest from `ledger show`>\" if it has any of them, else to a new \
         name"
    )]
    DataSetUnknown {
        /// Identity that follows from the file.
        data_set: Digest,
    },
    /// The same data was protected per something else.
    #[error(
        "this data was charged per \"{charged}\" and the study protects per \"{asked}\": these do not add up; use the \
         same unit, or a data set under another identity"
    )]
    UnitChanged {
        /// Unit of the entries.
        charged: String,
        /// Unit of the study.
        asked: String,
    },
    /// The budget does not suffice.
    #[error(
        "budget: {relation} epsilon would be {needed} at policy.delta, policy.max_epsilon_{relation} = {limit}; plan fewer rounds or \
         more noise, or the site raises its limit",
        needed = needed.rounded_up(4)
    )]
    BudgetExceeded {
        /// Neighboring relation of both figures.
        relation: NeighboringRelation,
        /// What would have been spent, upper bound.
        needed: Epsilon,
        /// The limit.
        limit: Epsilon,
    },
    /// The accountant gives no figure.
    #[error(
        "no epsilon can be computed for this plan: {reason}; the site releases nothing it cannot account for"
    )]
    Unaccountable {
        /// What the accountant said.
        reason: String,
    },
}

impl From<&Refusal> for Problem {
    fn from(refusal: &Refusal) -> Problem {
        let kind = match refusal {
            Refusal::BudgetExceeded { .. } => ProblemType::BudgetExceeded,
            Refusal::NoPrivatePart | Refusal::Unaccountable { .. } => ProblemType::PlanMismatch,
            _ => ProblemType::PolicyRefusal,
        };
        Problem::new(kind, refusal.to_string())
    }
}
