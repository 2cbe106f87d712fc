//! One round: the task, the model, the update.

use bytes::Bytes;
use fusiondp_dp::{Digest, UpdateId};

use crate::ids::StudyId;
use crate::plan::Plan;
use crate::receipt::SignedReceipt;

/// Compute one round. Conversion has checked that `round` is within the plan and that `private_part` is what the plan
/// says of this round.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainingTask {
    /// The study's plan, the same in every task.
    pub plan: Plan,
    /// The round, from 1.
    pub round: u32,
    /// The model version to fetch.
    pub model_version: u64,
    /// SHA-256 of its parameter bytes.
    pub model_digest: Digest,
    /// From 1; a new attempt of a round is a new task.
    pub attempt: u32,
    /// Whether the update holds a private sum, and is charged for.
    pub private_part: bool,
    /// When the round goes on without this site, Unix milliseconds.
    pub deadline_ms: u64,
}

/// Asks for the parameters of one model version (`FetchModelRequest`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelRequest {
    /// The study.
    pub study_id: StudyId,
    /// The version.
    pub model_version: u64,
}

/// What precedes the parameters of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModelHeader {
    /// The version.
    pub model_version: u64,
    /// Number of values, >= 1: parameters P, and in a private round of a study that projects the directions behind them; four
    /// bytes of f32 each follow.
    pub parameters: u64,
    /// SHA-256 of the bytes.
    pub digest: Digest,
}

impl ModelHeader {
    /// Bytes that follow.
    pub const fn payload_bytes(&self) -> u64 {
        // Conversion bounds the count so that this cannot overflow; saturation keeps a hand-made header harmless.
        self.parameters.saturating_mul(4)
    }
}

/// One element of a model stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelPart {
    /// First.
    Header(ModelHeader),
    /// Then these.
    Data(Bytes),
}

/// What precedes the values of an update. FedSgd: `public_values` f32 (mean public gradient), then `private_values` i64
/// (noised sum in grid steps). FedAvg: `public_values` f32 (model difference), `private_values` 0.
#[derive(Debug, Clone, PartialEq)]
pub struct UpdateHeader {
    /// Names the update; the coordinator stores each once.
    pub update_id: UpdateId,
    /// The study.
    pub study_id: StudyId,
    /// The round, from 1.
    pub round: u32,
    /// The attempt, from 1.
    pub attempt: u32,
    /// The model version the update was computed on.
    pub model_version: u64,
    /// Count of f32 values.
    pub public_values: u64,
    /// Count of i64 values after them.
    pub private_values: u64,
    /// Privacy units of the site (N_k); public.
    pub units: u64,
    /// Records of the public gradient: its weight.
    pub records: u64,
    /// SHA-256 of the values' bytes.
    pub payload_digest: Digest,
    /// Mean loss of the hybrid view over the public batch, finite, >= 0; 0 without a public part.
    pub public_loss: f64,
    /// What the site states of the update in writing. Conversion has checked that it speaks of the same update; whether it
    /// stands is checked by [`SignedReceipt::verify`].
    pub receipt: SignedReceipt,
}

impl UpdateHeader {
    /// Bytes that follow.
    pub const fn payload_bytes(&self) -> u64 {
        self.public_values.saturating_mul(4).saturating_add(self.private_values.saturating_mul(8))
    }
}

/// One element of an update stream.
#[derive(Debug, Clone, PartialEq)]
pub enum UpdatePart {
    /// First.
    Header(Box<UpdateHeader>),
    /// Then these.
    Data(Bytes),
}

/// What became of an update (`UpdateReceipt`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpdateOutcome {
    /// Stored, and part of the round.
    Accepted,
    /// The same `update_id` was stored before.
    Duplicate,
    /// The round went on without it; the charge stays.
    Late,
}
