//! Cohorts to evaluate, and whether metrics may leave a site.

use serde::{Deserialize, Serialize};

use super::StudyError;
use super::range::Check;
use crate::ids::CohortName;

/// The `[evaluation]` section. Without it nothing is evaluated.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evaluation {
    /// What may leave a site.
    #[serde(default)]
    pub release: MetricRelease,
    /// Rounds between evaluations on the cohort `during`; 0: only at the end.
    #[serde(default)]
    pub every_rounds: u32,
    /// Cohort of the learning curve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub during: Option<CohortName>,
    /// Cohort of the final figures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub final_cohort: Option<CohortName>,
}

/// What may leave a site. Metrics are computed on true values without noise: no epsilon covers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MetricRelease {
    /// Nothing.
    #[default]
    None,
    /// Counts, mean losses and the histogram of logits by label, if the site's policy permits it too.
    Summary,
}

impl Evaluation {
    /// Most cohorts of a study: that of the learning curve and that of the final figures.
    pub const MAX_COHORTS: usize = 2;

    pub(super) fn validate(&self) -> Check {
        let has_cohort = self.during.is_some() || self.final_cohort.is_some();
        if self.release == MetricRelease::Summary && !has_cohort {
            return Err(StudyError::CohortMissing);
        }
        if self.every_rounds > 0 && self.during.is_none() {
            return Err(StudyError::CurveCohortMissing { every_rounds: self.every_rounds });
        }
        Ok(())
    }
}
