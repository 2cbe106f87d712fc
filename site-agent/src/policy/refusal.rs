//! Why the site will not. A refusal has two texts: `Display` is for people at the site, [`Refusal::told`] for the
//! coordinator. The second names what the study or the coordinator said itself, and limits of the policy where the
//! remedy needs them; not what other studies have spent, how many patients the site or a cohort has, names that the
//! study does not use, or what a person at the site wrote.

use fusiondp_dp::{
    ClipNorm, Delta, Digest, Epsilon, NeighboringRelation, NoiseMultiplier, SamplingProbability,
};
use fusiondp_protocol::ids::CohortName;
use fusiondp_protocol::problem::{Problem, ProblemType};

use super::Scope;

/// A refusal stands until the site changes its policy or the consortium its study; a retry does not help, but for a study
/// that waits for approval.
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
    /// Public gradients may not leave in the clear, and nothing says how much noise is enough.
    #[error(
        "policy.allow_public_gradient = false and no [policy.records]: the study noises its public gradients, and nothing says what \
         whole records may lose by them; the site sets both limits of [policy.records]"
    )]
    NoisedPublicGradient,
    /// Whole records have a budget here, and the study does not protect them.
    #[error(
        "policy.records is set: the site takes part in studies that protect whole records; add [privacy.records] to the \
         study, and release no metrics in the clear"
    )]
    RecordsUnprotected,
    /// What was lost before has no bound.
    #[error(
        "policy.records: study {study} let out what it computed from whole records of this data without noise, so their loss \
         has no bound any more; use data that no such study has seen, or remove the section"
    )]
    RecordsLost {
        /// A study that did.
        study: String,
    },
    /// Metrics may not leave.
    #[error(
        "policy.allow_metrics = false: metrics are not covered by the guarantee; the site permits them with true"
    )]
    Metrics,
    /// Not even metrics with noise may leave.
    #[error(
        "policy.min_metrics_noise is not set: no metrics leave this site, also not with noise; the site sets the smallest noise \
         multiplier of counts that it permits"
    )]
    NoisyMetrics,
    /// Too little noise on counts.
    #[error(
        "evaluation.noise_multiplier = {value} is below policy.min_metrics_noise = {limit}; plan more noise in a new study"
    )]
    MetricsNoise {
        /// The study's.
        value: NoiseMultiplier,
        /// The limit.
        limit: NoiseMultiplier,
    },
    /// A cohort that is declared to hold nobody of the training data, and does.
    #[error(
        "data.cohort_identity says that cohort \"{cohort}\" is other data, and {units} of its patients are in the training data; \
         remove the declaration, so that both count on one data set, or take these patients out of one of them"
    )]
    CohortShared {
        /// The cohort.
        cohort: CohortName,
        /// Patients in both.
        units: usize,
    },
    /// The study does not ask for metrics.
    #[error(
        "the study does not release metrics in this way: evaluation.release says which leave; set \"noisy\" or \"summary\" in a \
         new study"
    )]
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
        "budget ({scope}): {relation} epsilon would be {needed} at policy.delta, {section}.max_epsilon_{relation} = {limit}; \
         plan fewer rounds or more noise, or the site raises its limit",
        needed = needed.rounded_up(4), section = scope.section()
    )]
    BudgetExceeded {
        /// What both figures are counted over.
        scope: Scope,
        /// Neighboring relation of both figures.
        relation: NeighboringRelation,
        /// What would have been spent, upper bound.
        needed: Epsilon,
        /// The limit.
        limit: Epsilon,
    },
    /// Delta that permits to publish a whole record.
    #[error("delta = {delta} is above 1 over this site's privacy units; lower privacy.delta in the study")]
    DeltaAboveUnits {
        /// The study's.
        delta: Delta,
    },
    /// A file of imputed values, or that imputes them, which the site does not know.
    #[error(
        "policy.allowed_imputers does not list sha256:{digest}, which the study pins; look at where the file comes from and list \
         it, or use kind = \"declared-noise\" in a new study"
    )]
    ImputerNotAllowed {
        /// The study's.
        digest: Digest,
    },
    /// Nothing to compare with the list.
    #[error(
        "policy.allowed_imputers lists files by digest, and the study's imputer of kind \"{kind}\" has no sha256; pin the file in \
         the study"
    )]
    ImputerNotPinned {
        /// Kind of the imputer.
        kind: &'static str,
    },
    /// It cannot be seen whom the imputer was fitted on.
    #[error(
        "policy.require_support_ids = true, and the study's imputer does not list the patients it was fitted on; fit it with \
         `fusiondp-coordinator imputer fit` on support data with the unit column, or use kind = \"declared-noise\""
    )]
    SupportNotListed,
    /// Nobody at the site has decided yet.
    #[error("the study waits for approval by this site: `fusiondp-site approve` shows its plan and asks")]
    ApprovalPending,
    /// A task of a study that nobody approved.
    #[error(
        "nobody at this site has approved the study, and policy.approval = \"by-hand\"; `fusiondp-site approve`"
    )]
    NotApproved,
    /// A person at the site said no.
    #[error("rejected at this site: {reason}")]
    Rejected {
        /// Why.
        reason: String,
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

impl Refusal {
    /// The text for the coordinator, without what is the site's own business.
    pub fn told(&self) -> String {
        match self {
            Refusal::BudgetExceeded { scope, relation, limit, .. } => format!(
                "budget ({scope}): the study would go beyond {}.max_epsilon_{relation} = {limit} of this site; plan fewer rounds \
                 or more noise, or the site raises its limit",
                scope.section()
            ),
            Refusal::TooFewUnits { .. } => {
                "the site has fewer privacy units than its policy.min_units; it lowers the limit or stays out".to_owned()
            }
            Refusal::CohortTooSmall { cohort, .. } => format!(
                "cohort \"{cohort}\" is smaller than the site's policy.min_units; the site lowers the limit or gives no metrics"
            ),
            Refusal::CohortShared { cohort, .. } => format!(
                "cohort \"{cohort}\" shares patients with the training data, and the site has declared otherwise; ask the site"
            ),
            Refusal::Unit { asked, .. } => format!(
                "the study protects each {asked}, and policy.unit_column of this site demands another unit; ask the site, and set \
                 privacy.unit_column in a new study"
            ),
            Refusal::DataSetUnknown { .. } => {
                "the site has to say which data set this is, [data] identity of its configuration, before it takes part".to_owned()
            }
            Refusal::UnitChanged { asked, .. } => format!(
                "the site has counted its patients in another unit than \"{asked}\", and the two do not add up; ask the site"
            ),
            Refusal::Unaccountable { .. } => {
                "no epsilon can be computed for this plan; the site releases nothing it cannot account for".to_owned()
            }
            Refusal::RecordsLost { .. } => "the site has a budget for whole records, and what this data lost of them before has \
                                            no bound; ask the site"
                .to_owned(),
            Refusal::ApprovalPending => "the study waits for approval by the site".to_owned(),
            Refusal::NotApproved => "the site has not approved the study".to_owned(),
            Refusal::Rejected { .. } => "the site has rejected the study; ask the site why".to_owned(),
            // These name what the study says, and limits on a single plan.
            Refusal::NonPrivate
            | Refusal::PublicGradient
            | Refusal::NoisedPublicGradient
            | Refusal::RecordsUnprotected
            | Refusal::Metrics
            | Refusal::NoisyMetrics
            | Refusal::MetricsNoise { .. }
            | Refusal::MetricsNotInStudy
            | Refusal::ColumnNotPublic { .. }
            | Refusal::CohortNotInStudy { .. }
            | Refusal::Delta { .. }
            | Refusal::DeltaAboveUnits { .. }
            | Refusal::NoiseMultiplier { .. }
            | Refusal::ClipNorm { .. }
            | Refusal::SamplingProbability { .. }
            | Refusal::NoPrivatePart
            | Refusal::ImputerNotAllowed { .. }
            | Refusal::ImputerNotPinned { .. }
            | Refusal::SupportNotListed => self.to_string(),
        }
    }
}

impl From<&Refusal> for Problem {
    fn from(refusal: &Refusal) -> Problem {
        let kind = match refusal {
            Refusal::BudgetExceeded { .. } => ProblemType::BudgetExceeded,
            Refusal::NoPrivatePart | Refusal::Unaccountable { .. } => ProblemType::PlanMismatch,
            Refusal::ApprovalPending => ProblemType::ApprovalPending,
            _ => ProblemType::PolicyRefusal,
        };
        Problem::new(kind, refusal.told())
    }
}
