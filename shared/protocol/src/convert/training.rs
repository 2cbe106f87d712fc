//! Task and model.

use bytes::Bytes;
use fusiondp_proto::v1;

use super::ConvertError;
use super::checks::{at_most, digest, digest_bytes, parsed, required, within};
use crate::messages::{Limits, ModelHeader, ModelPart, ModelRequest, TrainingTask};
use crate::plan::Plan;

/// Most f32 values of one model.
pub(super) const MAX_PARAMETERS: u64 = Limits::MAX_MODEL_BYTES / 4;

impl TryFrom<v1::TrainingTask> for TrainingTask {
    type Error = ConvertError;

    fn try_from(wire: v1::TrainingTask) -> Result<Self, ConvertError> {
        let plan: Plan = required("TrainingTask.plan", wire.plan)?.try_into()?;
        let round = within("TrainingTask.round", wire.round, 1..=plan.rounds)?;
        if wire.private_part != plan.is_private_round(round) {
            let problem = "the plan says otherwise of this round";
            return Err(ConvertError::Contradiction { field: "TrainingTask.private_part", problem });
        }
        Ok(Self {
            plan,
            round,
            model_version: wire.model_version,
            model_digest: digest("TrainingTask.model_digest", &wire.model_digest)?,
            attempt: within("TrainingTask.attempt", wire.attempt, 1..=u32::MAX)?,
            private_part: wire.private_part,
            deadline_ms: wire.deadline_ms,
        })
    }
}

impl From<TrainingTask> for v1::TrainingTask {
    fn from(task: TrainingTask) -> Self {
        Self {
            plan: Some(task.plan.into()),
            round: task.round,
            model_version: task.model_version,
            model_digest: digest_bytes(&task.model_digest),
            attempt: task.attempt,
            private_part: task.private_part,
            deadline_ms: task.deadline_ms,
        }
    }
}

impl TryFrom<v1::FetchModelRequest> for ModelRequest {
    type Error = ConvertError;

    fn try_from(wire: v1::FetchModelRequest) -> Result<Self, ConvertError> {
        let study_id = parsed("FetchModelRequest.study_id", &wire.study_id)?;
        Ok(Self { study_id, model_version: wire.model_version })
    }
}

impl From<ModelRequest> for v1::FetchModelRequest {
    fn from(request: ModelRequest) -> Self {
        Self { study_id: request.study_id.into(), model_version: request.model_version }
    }
}

impl TryFrom<v1::ModelChunk> for ModelPart {
    type Error = ConvertError;

    fn try_from(wire: v1::ModelChunk) -> Result<Self, ConvertError> {
        Ok(match required("ModelChunk.part", wire.part)? {
            v1::model_chunk::Part::Header(header) => Self::Header(header.try_into()?),
            v1::model_chunk::Part::Data(data) => Self::Data(chunk("ModelChunk.data", data)?),
        })
    }
}

impl From<ModelPart> for v1::ModelChunk {
    fn from(part: ModelPart) -> Self {
        let part = match part {
            ModelPart::Header(header) => v1::model_chunk::Part::Header(header.into()),
            ModelPart::Data(data) => v1::model_chunk::Part::Data(data),
        };
        Self { part: Some(part) }
    }
}

impl TryFrom<v1::ModelHeader> for ModelHeader {
    type Error = ConvertError;

    fn try_from(wire: v1::ModelHeader) -> Result<Self, ConvertError> {
        Ok(Self {
            model_version: wire.model_version,
            parameters: within("ModelHeader.parameters", wire.parameters, 1..=MAX_PARAMETERS)?,
            digest: digest("ModelHeader.digest", &wire.digest)?,
        })
    }
}

impl From<ModelHeader> for v1::ModelHeader {
    fn from(header: ModelHeader) -> Self {
        Self {
            model_version: header.model_version,
            parameters: header.parameters,
            digest: digest_bytes(&header.digest),
        }
    }
}

/// The largest chunk of any connection; the assembler holds a stream to the negotiated one.
pub(super) fn chunk(field: &'static str, data: Bytes) -> Result<Bytes, ConvertError> {
    at_most(field, data.len(), Limits::MAX_CHUNK_BYTES as usize)?;
    Ok(data)
}
