//! Refusals and failures.

use fusiondp_proto::v1;
use fusiondp_proto::v1::decline_request::{Kind, Stage};

use super::ConvertError;
use super::checks::{line, parsed, within};
use crate::messages::{Decline, DeclineKind, DeclinedTask};
use crate::problem::{MAX_DETAIL_LENGTH, Problem, one_line};
use crate::study::Training;

impl TryFrom<v1::DeclineRequest> for Decline {
    type Error = ConvertError;

    fn try_from(wire: v1::DeclineRequest) -> Result<Self, ConvertError> {
        let kind = match wire.kind() {
            Kind::Unspecified => return Err(ConvertError::Missing { field: "DeclineRequest.kind" }),
            Kind::Refusal => DeclineKind::Refusal,
            Kind::Failure => DeclineKind::Failure,
        };
        Ok(Self {
            study_id: parsed("DeclineRequest.study_id", &wire.study_id)?,
            task: declined_task(&wire)?,
            kind,
            problem: Problem {
                kind: parsed("DeclineRequest.problem", &wire.problem)?,
                detail: line("DeclineRequest.detail", wire.detail, MAX_DETAIL_LENGTH)?,
            },
        })
    }
}

fn declined_task(wire: &v1::DeclineRequest) -> Result<DeclinedTask, ConvertError> {
    Ok(match wire.stage() {
        Stage::Unspecified => return Err(ConvertError::Missing { field: "DeclineRequest.stage" }),
        Stage::Enrolment => DeclinedTask::Enrolment,
        Stage::Training => DeclinedTask::Training {
            round: within("DeclineRequest.round", wire.round, 1..=Training::MAX_ROUNDS)?,
            attempt: within("DeclineRequest.attempt", wire.attempt, 1..=u32::MAX)?,
        },
        Stage::Evaluation => DeclinedTask::Evaluation { model_version: wire.model_version },
    })
}

impl From<Decline> for v1::DeclineRequest {
    fn from(decline: Decline) -> Self {
        let kind = match decline.kind {
            DeclineKind::Refusal => Kind::Refusal,
            DeclineKind::Failure => Kind::Failure,
        };
        let (stage, round, attempt, model_version) = match decline.task {
            DeclinedTask::Enrolment => (Stage::Enrolment, 0, 0, 0),
            DeclinedTask::Training { round, attempt } => (Stage::Training, round, attempt, 0),
            DeclinedTask::Evaluation { model_version } => (Stage::Evaluation, 0, 0, model_version),
        };
        Self {
            study_id: decline.study_id.into(),
            stage: stage.into(),
            kind: kind.into(),
            round,
            attempt,
            model_version,
            problem: decline.problem.kind.as_str().to_owned(),
            detail: one_line(&decline.problem.detail),
        }
    }
}
