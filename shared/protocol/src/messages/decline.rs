//! A typed refusal or failure in answer to an assignment.

use crate::ids::StudyId;
use crate::problem::Problem;

/// A site does not do what it was given to do (`DeclineRequest`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decline {
    /// The study.
    pub study_id: StudyId,
    /// The assignment that is answered.
    pub task: DeclinedTask,
    /// Whether the site will not or could not.
    pub kind: DeclineKind,
    /// Why.
    pub problem: Problem,
}

/// The assignment that a [`Decline`] answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeclinedTask {
    /// An enrolment offer.
    Enrolment,
    /// One attempt of one round.
    Training {
        /// From 1.
        round: u32,
        /// From 1.
        attempt: u32,
    },
    /// An evaluation.
    Evaluation {
        /// The model version.
        model_version: u64,
    },
}

/// Refusal and failure are different things: a refusal stands, a failure may be mended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeclineKind {
    /// The site will not: policy, budget, a plan that does not agree.
    Refusal,
    /// The site could not: an error that a retry or an administrator may mend.
    Failure,
}
