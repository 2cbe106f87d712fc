//! The plan.

use fusiondp_proto::v1;

use super::ConvertError;
use super::checks::{digest, digest_bytes, epsilon, parameter, parsed, within};
use crate::plan::{Plan, RecordsPlan, SiteSize};
use crate::receipt::MAX_RECEIPT_CHARGES;
use crate::study::{Federation, Training};

/// Most units or records over all sites of a study.
const MAX_TOTAL: u64 = SiteSize::MAX * Federation::MAX_SITES as u64;

// Every local step is a charge, and a receipt lists all charges of its update.
const _: () = assert!(Training::MAX_LOCAL_STEPS as usize <= MAX_RECEIPT_CHARGES);

impl TryFrom<v1::Plan> for Plan {
    type Error = ConvertError;

    fn try_from(wire: v1::Plan) -> Result<Self, ConvertError> {
        let rounds = within("Plan.rounds", wire.rounds, 1..=Training::MAX_ROUNDS)?;
        let warmup_rounds = within("Plan.warmup_rounds", wire.warmup_rounds, 0..=rounds)?;
        let total_units = within("Plan.total_units", wire.total_units, 1..=MAX_TOTAL)?;
        let has_private_part = warmup_rounds < rounds;
        Ok(Self {
            study_id: parsed("Plan.study_id", &wire.study_id)?,
            study_digest: digest("Plan.study_digest", &wire.study_digest)?,
            sampling_probability: parameter("Plan.sampling_probability", wire.sampling_probability)?,
            noise_multiplier: noise_multiplier(wire.noise_multiplier, has_private_part)?,
            clip_norm: parameter("Plan.clip_norm", wire.clip_norm)?,
            rounds,
            warmup_rounds,
            local_steps: within("Plan.local_steps", wire.local_steps, 1..=Training::MAX_LOCAL_STEPS)?,
            total_units,
            total_records: within("Plan.total_records", wire.total_records, total_units..=MAX_TOTAL)?,
            delta: parameter("Plan.delta", wire.delta)?,
            epsilon_replace: epsilon("Plan.epsilon_replace", wire.epsilon_replace)?,
            epsilon_zero_out: epsilon("Plan.epsilon_zero_out", wire.epsilon_zero_out)?,
            records: wire.records.map(|records| records_plan(&records, rounds)).transpose()?,
        })
    }
}

fn records_plan(wire: &v1::RecordsPlan, rounds: u32) -> Result<RecordsPlan, ConvertError> {
    Ok(RecordsPlan {
        sampling_probability: parameter("Plan.records.sampling_probability", wire.sampling_probability)?,
        noise_multiplier: parameter("Plan.records.noise_multiplier", wire.noise_multiplier)?,
        clip_norm: parameter("Plan.records.clip_norm", wire.clip_norm)?,
        public_rounds: within("Plan.records.public_rounds", wire.public_rounds, 0..=rounds)?,
        epsilon_replace: epsilon("Plan.records.epsilon_replace", wire.epsilon_replace)?,
        epsilon_zero_out: epsilon("Plan.records.epsilon_zero_out", wire.epsilon_zero_out)?,
    })
}

/// 0 stands for "no private part" and for nothing else: a plan with private rounds and noise 0 is refused.
fn noise_multiplier(
    value: f64,
    has_private_part: bool,
) -> Result<Option<fusiondp_dp::NoiseMultiplier>, ConvertError> {
    const FIELD: &str = "Plan.noise_multiplier";
    match (has_private_part, value == 0.0) {
        (true, _) => parameter(FIELD, value).map(Some),
        (false, true) => Ok(None),
        (false, false) => {
            let problem = "noise is given, but every round is a warm-up round";
            Err(ConvertError::Contradiction { field: FIELD, problem })
        }
    }
}

impl From<Plan> for v1::Plan {
    fn from(plan: Plan) -> Self {
        Self {
            study_id: plan.study_id.into(),
            study_digest: digest_bytes(&plan.study_digest),
            sampling_probability: plan.sampling_probability.get(),
            noise_multiplier: plan.noise_multiplier.map_or(0.0, |noise| noise.get()),
            clip_norm: plan.clip_norm.get(),
            rounds: plan.rounds,
            warmup_rounds: plan.warmup_rounds,
            local_steps: plan.local_steps,
            total_units: plan.total_units,
            total_records: plan.total_records,
            delta: plan.delta.get(),
            epsilon_replace: plan.epsilon_replace.get(),
            epsilon_zero_out: plan.epsilon_zero_out.get(),
            records: plan.records.map(|records| v1::RecordsPlan {
                sampling_probability: records.sampling_probability.get(),
                noise_multiplier: records.noise_multiplier.get(),
                clip_norm: records.clip_norm.get(),
                public_rounds: records.public_rounds,
                epsilon_replace: records.epsilon_replace.get(),
                epsilon_zero_out: records.epsilon_zero_out.get(),
            }),
        }
    }
}
