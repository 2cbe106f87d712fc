//! Cohorts to evaluate, and what of it may leave a site.

use fusiondp_dp::NoiseMultiplier;
use serde::{Deserialize, Serialize};

use super::StudyError;
use super::privacy::NOISE;
use super::range::{Check, out_of_range};
use crate::ids::CohortName;

/// The `[evaluation]` section. Without it nothing is evaluated.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
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
    /// Deviation of the noise of a count, in privacy units, 2^-10 to 2^12; with `release = "noisy"` alone, and required there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noise_multiplier: Option<NoiseMultiplier>,
    /// Where the logit is cut into intervals; with `release = "noisy"` alone, and required there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edges: Option<ScoreEdges>,
}

/// What may leave a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MetricRelease {
    /// Nothing.
    #[default]
    None,
    /// Counts, mean losses and the histogram of logits by label, if the site's policy permits it too. Computed on true values
    /// without noise: no epsilon covers them.
    Summary,
    /// Counts by label and interval of the logit with noise, charged to the site's budget like training.
    Noisy,
}

/// Logits between which records are counted: finite and rising, 1 to 63 of them. An interval holds its lower edge.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Vec<f64>", into = "Vec<f64>")]
pub struct ScoreEdges(Vec<f64>);

/// What a study with `release = "noisy"` asks for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NoisyMetrics<'a> {
    /// Deviation of the noise of a count, in privacy units.
    pub noise_multiplier: NoiseMultiplier,
    /// Where the logit is cut.
    pub edges: &'a ScoreEdges,
}

impl ScoreEdges {
    /// Most edges.
    pub const MAX: usize = 63;

    /// Number of intervals.
    #[must_use]
    pub fn intervals(&self) -> usize {
        self.0.len() + 1
    }

    /// Number of cells of a table: one per label and interval.
    #[must_use]
    pub fn cells(&self) -> usize {
        2 * self.intervals()
    }

    /// The cell of a record: intervals from the lowest, those of label 0 before those of label 1. What is no number lies in
    /// the lowest, so that every record has a cell whatever its values are.
    #[must_use]
    pub fn cell(&self, logit: f32, positive: bool) -> usize {
        let interval = self.0.iter().take_while(|&&edge| f64::from(logit) >= edge).count();
        if positive { self.intervals() + interval } else { interval }
    }
}

impl TryFrom<Vec<f64>> for ScoreEdges {
    type Error = &'static str;

    fn try_from(edges: Vec<f64>) -> Result<Self, &'static str> {
        if edges.is_empty() || edges.len() > Self::MAX {
            return Err("give 1 to 63 logits, for example [-4.0, -2.0, 0.0, 2.0]");
        }
        let rising = edges.is_sorted_by(|one, next| one < next);
        if !rising || edges.iter().any(|edge| !edge.is_finite()) {
            return Err(
                "edges are finite logits, each above the one before; sort them and leave out what is there twice",
            );
        }
        Ok(Self(edges))
    }
}

impl From<ScoreEdges> for Vec<f64> {
    fn from(edges: ScoreEdges) -> Self {
        edges.0
    }
}

impl Evaluation {
    /// Most cohorts of a study: that of the learning curve and that of the final figures.
    pub const MAX_COHORTS: usize = 2;

    /// The noisy counts that the study asks for; `None` where it asks for something else.
    #[must_use]
    pub fn noisy(&self) -> Option<NoisyMetrics<'_>> {
        let (noise_multiplier, edges) = self.noise_multiplier.zip(self.edges.as_ref())?;
        (self.release == MetricRelease::Noisy).then_some(NoisyMetrics { noise_multiplier, edges })
    }

    /// How often a study of `rounds` rounds evaluates, if no round is repeated.
    #[must_use]
    pub fn evaluations(&self, rounds: u32) -> u32 {
        let during = match (self.release, &self.during) {
            (MetricRelease::None, _) => return 0,
            (_, None) => 0,
            // The last round's model is the final one, and counted there.
            (_, Some(_)) => rounds.saturating_sub(1).checked_div(self.every_rounds).unwrap_or(0),
        };
        let mut last = vec![&self.final_cohort, &self.during];
        last.retain(|cohort| cohort.is_some());
        last.dedup();
        during.saturating_add(u32::try_from(last.len()).unwrap_or(u32::MAX))
    }

    pub(super) fn validate(&self) -> Check {
        let has_cohort = self.during.is_some() || self.final_cohort.is_some();
        if self.release != MetricRelease::None && !has_cohort {
            return Err(StudyError::CohortMissing);
        }
        if self.every_rounds > 0 && self.during.is_none() {
            return Err(StudyError::CurveCohortMissing { every_rounds: self.every_rounds });
        }
        self.validate_noise()
    }

    fn validate_noise(&self) -> Check {
        let given = [("noise_multiplier", self.noise_multiplier.is_some()), ("edges", self.edges.is_some())];
        let noisy = self.release == MetricRelease::Noisy;
        match given.into_iter().find(|(_, given)| *given != noisy) {
            Some((field, true)) => return Err(StudyError::NoisyFieldUnused { field }),
            Some((field, false)) => return Err(StudyError::NoisyFieldMissing { field }),
            None => {}
        }
        match self.noise_multiplier {
            Some(noise) if !NOISE.contains(&noise.get()) => {
                Err(out_of_range("evaluation.noise_multiplier", noise, "2^-10 (0.000977) to 2^12 (4096)"))
            }
            _ => Ok(()),
        }
    }
}
