//! Why no plan can be made, and why a site refuses one.

use fusiondp_dp::{AccountantError, Delta, Epsilon, NeighboringRelation, ParameterError};

use super::SiteSize;
use crate::ids::SiteId;
use crate::problem::{Problem, ProblemType};

/// Why no plan can be made.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// Fewer sites than the study needs.
    #[error(
        "enrolled sites: {enrolled}, [federation] min_sites = {needed}; invite more sites or lower min_sites"
    )]
    TooFewSites {
        /// Sites enrolled.
        enrolled: usize,
        /// Sites needed.
        needed: u32,
    },
    /// A size that no data set has.
    #[error(
        "site {} reports {} units and {} records; a site needs 1 <= units <= records < 2^32",
        size.site, size.units, size.records
    )]
    SiteSize {
        /// The size reported.
        size: SiteSize,
    },
    /// A site twice.
    #[error("site {site} is enrolled twice; a site counts once")]
    DuplicateSite {
        /// The site.
        site: SiteId,
    },
    /// More units expected in a sample than there are.
    #[error(
        "[training] expected_batch_size = {expected} is above the {total_units} privacy units of the enrolled sites; \
         lower it to at most {total_units}, or write \"all\""
    )]
    BatchAboveUnits {
        /// Expected batch.
        expected: u32,
        /// Units over all sites.
        total_units: u64,
    },
    /// Delta that permits to publish a whole record.
    #[error(
        "[privacy] delta = {delta} is above 1/N for the {total_units} privacy units of the enrolled sites; lower it to \
         at most {}", 1.0 / *total_units as f64
    )]
    DeltaAboveUnits {
        /// Delta of the study.
        delta: Delta,
        /// Units over all sites.
        total_units: u64,
    },
    /// An epsilon for a part that no round has.
    #[error("[privacy.records] target epsilon, and no round has a public part; remove the section")]
    NoPublicRound,
    /// A figure is out of its parameter's range.
    #[error("a figure of the plan does not stand: {0}")]
    Parameter(#[from] ParameterError),
    /// The accountant refuses.
    #[error("the privacy accountant refuses the study's figures: {0}")]
    Accountant(#[from] AccountantError),
}

impl From<PlanError> for Problem {
    fn from(error: PlanError) -> Problem {
        Problem::new(ProblemType::StudyInvalid, error.to_string())
    }
}

/// Why a site refuses a plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanMismatch {
    /// A figure is not what follows from the study document and the totals.
    #[error(
        "plan says {field} = {plan}, this site arrives at {own}; the coordinator and this site disagree, compare their versions and the study document"
    )]
    Figure {
        /// Field of the plan.
        field: &'static str,
        /// What the plan says.
        plan: String,
        /// What the site computes.
        own: String,
    },
    /// The totals cannot hold this site's data.
    #[error(
        "plan says {field} = {total}, this site alone has {own}; enroll again after the data has changed"
    )]
    OwnSize {
        /// Field of the plan.
        field: &'static str,
        /// The total.
        total: u64,
        /// The site's own count.
        own: u64,
    },
    /// More units expected in a sample than there are, or delta above 1/N.
    #[error("plan's totals do not stand: {0}")]
    Totals(PlanError),
    /// The plan spends more than the study's target.
    #[error(
        "plan spends epsilon {spent} under {relation} where the study's target is {target}; the coordinator must \
         calibrate more noise"
    )]
    AboveTarget {
        /// What the site computes.
        spent: Epsilon,
        /// The study's target.
        target: Epsilon,
        /// Relation of the target.
        relation: NeighboringRelation,
    },
    /// The accountant refuses.
    #[error("the privacy accountant refuses the plan's figures: {0}")]
    Accountant(#[from] AccountantError),
}

impl From<PlanMismatch> for Problem {
    fn from(error: PlanMismatch) -> Problem {
        Problem::new(ProblemType::PlanMismatch, error.to_string())
    }
}
