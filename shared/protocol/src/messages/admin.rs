//! What an administrator sees.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use fusiondp_dp::Epsilon;

use crate::ids::{CohortName, SiteId, StudyId};
use crate::plan::Plan;

/// A text that names no state of this version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown {0}; the other end may be newer, compare the protocol versions")]
pub struct UnknownState(&'static str);

macro_rules! states {
    ($(#[$doc:meta])* $name:ident, $what:literal, $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)*) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
        }

        impl $name {
            /// All of them.
            pub const ALL: &'static [$name] = &[$($name::$variant,)*];

            /// The name on the wire and in a store.
            pub const fn as_str(self) -> &'static str {
                match self { $($name::$variant => $text,)* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.pad(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = UnknownState;

            fn from_str(text: &str) -> Result<Self, UnknownState> {
                Self::ALL.iter().copied().find(|state| state.as_str() == text).ok_or(UnknownState($what))
            }
        }
    };
}

states!(
    /// Where a study stands.
    StudyState, "study state",
    /// Sites are invited.
    Enrolling = "enrolling",
    /// Rounds are computed.
    Running = "running",
    /// The final model is evaluated.
    Evaluating = "evaluating",
    /// Ended as planned.
    Finished = "finished",
    /// Ended by an administrator.
    Stopped = "stopped",
    /// Ended because it could not go on.
    Failed = "failed",
);

states!(
    /// Where a round stands.
    RoundPhase, "round phase",
    /// Which sites take part.
    Selection = "selection",
    /// The task is made and handed out.
    Configuration = "configuration",
    /// Updates arrive.
    Reporting = "reporting",
    /// The server step.
    Aggregation = "aggregation",
    /// Applied.
    Finished = "finished",
    /// Given up; another attempt follows, or the study fails.
    Abandoned = "abandoned",
);

states!(
    /// Where a site stands in a study.
    SiteState, "site state",
    /// Has not answered the offer.
    Invited = "invited",
    /// Takes part.
    Enrolled = "enrolled",
    /// Answered with a refusal or a failure.
    Declined = "declined",
    /// Computes the current round.
    Working = "working",
    /// Has sent its update of the current round.
    Reported = "reported",
    /// Sent its update after the round went on.
    Late = "late",
    /// Did not answer in time.
    Missing = "missing",
);

impl StudyState {
    /// Whether nothing more will happen.
    pub const fn has_ended(self) -> bool {
        matches!(self, StudyState::Finished | StudyState::Stopped | StudyState::Failed)
    }
}

/// What became of a submission (`SubmitStudyResponse`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubmittedStudy {
    /// The study's id.
    pub study_id: StudyId,
    /// False when the same document was submitted before.
    pub created: bool,
}

/// One study, as an administrator sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct StudyStatus {
    /// The study's id.
    pub study_id: StudyId,
    /// Its name, at most 120 characters.
    pub name: String,
    /// Where it stands.
    pub state: StudyState,
    /// Why, in a line for people; may be empty.
    pub detail: String,
    /// Phase of the current round; `None` before the first.
    pub phase: Option<RoundPhase>,
    /// Rounds applied.
    pub round: u32,
    /// Rounds planned.
    pub rounds: u32,
    /// `None` until enrolment has closed.
    pub plan: Option<Plan>,
    /// Every invited site.
    pub sites: Vec<SiteStatus>,
    /// Those of each cohort's newest evaluation, newest last; none in a list of studies. The report has all.
    pub metrics: Vec<Metric>,
    /// Unix milliseconds.
    pub submitted_ms: u64,
    /// Unix milliseconds; `None`: not yet.
    pub started_ms: Option<u64>,
    /// Unix milliseconds; `None`: not yet.
    pub ended_ms: Option<u64>,
    /// Public loss of the last applied round, finite; 0 before.
    pub public_loss: f64,
    /// Rounds applied per second, finite, >= 0.
    pub rounds_per_s: f64,
}

/// One site in one study.
#[derive(Debug, Clone, PartialEq)]
pub struct SiteStatus {
    /// The site.
    pub site_id: SiteId,
    /// Where it stands.
    pub state: SiteState,
    /// Why, in a line for people; may be empty.
    pub detail: String,
    /// Rounds whose step holds the site's update.
    pub rounds_contributed: u32,
    /// Rounds that went on without it.
    pub rounds_missed: u32,
    /// Privacy units; 0 before it has enrolled.
    pub units: u64,
    /// Spent in this study, the site's own figure.
    pub epsilon_replace: Epsilon,
    /// The same under zero_out.
    pub epsilon_zero_out: Epsilon,
    /// Unix milliseconds; `None`: never.
    pub last_seen_ms: Option<u64>,
}

/// One measured point of a learning curve.
#[derive(Debug, Clone, PartialEq)]
pub struct Metric {
    /// Rounds applied to the model measured.
    pub round: u32,
    /// The cohort.
    pub cohort: CohortName,
    /// `None`: pooled over sites.
    pub site_id: Option<SiteId>,
    /// Records evaluated.
    pub records: u64,
    /// Those with label 1.
    pub positives: u64,
    /// Area under the receiver operating characteristic, `[0, 1]`.
    pub auroc: f64,
    /// What else is known.
    pub figures: MetricFigures,
}

/// Figures beside the AUROC, which depend on how metrics were released.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum MetricFigures {
    /// Of exact counts.
    Exact {
        /// Area under the precision-recall curve, `[0, 1]`.
        aupr: f64,
        /// Mean squared error of the probability, `[0, 1]`.
        brier: f64,
    },
    /// Of counts with noise: records and positives count privacy units, and positives is an estimate.
    Noisy {
        /// Standard error of the AUROC by the noise alone; finite, >= 0.
        auroc_error: f64,
    },
}

/// Part of one file of a report folder. Parts of one file follow each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportPart {
    /// A plain file name: no separator, no leading dot, at most 128 of `A-Z a-z 0-9 . _ -`. Conversion checks it, so
    /// a receiver may join it to a folder.
    pub file: String,
    /// Bytes, possibly none for an empty file.
    pub data: Bytes,
}

/// One site of the consortium.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisteredSite {
    /// The site.
    pub site_id: SiteId,
    /// Whether it polls now.
    pub connected: bool,
    /// Software of the site; empty before it has ever registered.
    pub agent_version: String,
    /// Unix milliseconds; `None`: never.
    pub last_seen_ms: Option<u64>,
    /// Where it dialed from; may be empty.
    pub peer_address: String,
}
