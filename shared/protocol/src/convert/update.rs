//! Update and receipt.

use bytes::Bytes;
use fusiondp_dp::UpdateId;
use fusiondp_proto::v1;

use super::ConvertError;
use super::checks::{
    at_most, digest, digest_bytes, exact_bytes, invalid, non_negative, parsed, required, within,
};
use super::training::{MAX_PARAMETERS, chunk};
use crate::messages::{Limits, UpdateHeader, UpdateOutcome, UpdatePart};
use crate::plan::SiteSize;
use crate::receipt::{MAX_RECEIPT_BYTES, MAX_RECEIPT_CHARGES, SignedReceipt};
use crate::study::Training;

/// Most i64 values of one private sum.
const MAX_PRIVATE_VALUES: u64 = Limits::MAX_MODEL_BYTES / 8;

impl TryFrom<v1::UpdateChunk> for UpdatePart {
    type Error = ConvertError;

    fn try_from(wire: v1::UpdateChunk) -> Result<Self, ConvertError> {
        Ok(match required("UpdateChunk.part", wire.part)? {
            v1::update_chunk::Part::Header(header) => Self::Header(Box::new(header.try_into()?)),
            v1::update_chunk::Part::Data(data) => Self::Data(chunk("UpdateChunk.data", data)?),
        })
    }
}

impl From<UpdatePart> for v1::UpdateChunk {
    fn from(part: UpdatePart) -> Self {
        let part = match part {
            UpdatePart::Header(header) => v1::update_chunk::Part::Header((*header).into()),
            UpdatePart::Data(data) => v1::update_chunk::Part::Data(data),
        };
        Self { part: Some(part) }
    }
}

impl TryFrom<v1::UpdateHeader> for UpdateHeader {
    type Error = ConvertError;

    fn try_from(wire: v1::UpdateHeader) -> Result<Self, ConvertError> {
        let private_values =
            within("UpdateHeader.private_values", wire.private_values, 0..=MAX_PRIVATE_VALUES)?;
        let header = Self {
            update_id: UpdateId::from_bytes(exact_bytes("UpdateHeader.update_id", &wire.update_id)?),
            study_id: parsed("UpdateHeader.study_id", &wire.study_id)?,
            round: within("UpdateHeader.round", wire.round, 1..=Training::MAX_ROUNDS)?,
            attempt: within("UpdateHeader.attempt", wire.attempt, 1..=u32::MAX)?,
            model_version: wire.model_version,
            public_values: within("UpdateHeader.public_values", wire.public_values, 0..=MAX_PARAMETERS)?,
            private_values,
            units: within("UpdateHeader.units", wire.units, 1..=SiteSize::MAX)?,
            records: within("UpdateHeader.records", wire.records, 0..=SiteSize::MAX)?,
            payload_digest: digest("UpdateHeader.payload_digest", &wire.payload_digest)?,
            public_loss: non_negative("UpdateHeader.public_loss", wire.public_loss)?,
            receipt: receipt(&wire.receipt)?,
        };
        agree(&header)?;
        Ok(header)
    }
}

impl From<UpdateHeader> for v1::UpdateHeader {
    fn from(header: UpdateHeader) -> Self {
        Self {
            update_id: Bytes::copy_from_slice(header.update_id.as_bytes()),
            study_id: header.study_id.into(),
            round: header.round,
            attempt: header.attempt,
            model_version: header.model_version,
            public_values: header.public_values,
            private_values: header.private_values,
            units: header.units,
            records: header.records,
            payload_digest: digest_bytes(&header.payload_digest),
            public_loss: header.public_loss,
            receipt: Bytes::from(header.receipt.canonical_json()),
        }
    }
}

/// A receipt in its one canonical form: what is kept is what the site has signed, byte for byte.
fn receipt(json: &Bytes) -> Result<SignedReceipt, ConvertError> {
    const FIELD: &str = "UpdateHeader.receipt";
    at_most(FIELD, json.len(), MAX_RECEIPT_BYTES)?;
    let receipt: SignedReceipt = serde_json::from_slice(json).map_err(|error| invalid(FIELD, error))?;
    if receipt.canonical_json().as_bytes() != json.as_ref() {
        return Err(invalid(FIELD, "not in canonical form; send the bytes that were signed"));
    }
    at_most("UpdateHeader.receipt.charges", receipt.receipt.charges.len(), MAX_RECEIPT_CHARGES)?;
    let epsilon = receipt.receipt.epsilon;
    let all = [epsilon.replace, epsilon.zero_out, epsilon.data_replace, epsilon.data_zero_out];
    if !all.iter().all(|epsilon| epsilon.is_finite()) {
        return Err(invalid(
            "UpdateHeader.receipt.epsilon",
            "not finite; a site releases nothing without a bound",
        ));
    }
    Ok(receipt)
}

/// Header and receipt speak of the same update.
fn agree(header: &UpdateHeader) -> Result<(), ConvertError> {
    let receipt = &header.receipt.receipt;
    let differs = [
        ("update_id", receipt.update_id != header.update_id),
        ("study", receipt.study != header.study_id),
        ("round", receipt.round != header.round),
        ("attempt", receipt.attempt != header.attempt),
        ("model_version", receipt.model_version != header.model_version),
        ("public_values", receipt.public_values != header.public_values),
        ("private_values", receipt.private_values != header.private_values),
        ("payload_digest", receipt.payload_digest != header.payload_digest),
    ];
    match differs.iter().find(|(_, differs)| *differs) {
        None => Ok(()),
        Some((field, _)) => Err(invalid(
            "UpdateHeader.receipt",
            format!("{field} is not that of the header; send one update's own receipt"),
        )),
    }
}

impl TryFrom<v1::UpdateReceipt> for UpdateOutcome {
    type Error = ConvertError;

    fn try_from(wire: v1::UpdateReceipt) -> Result<Self, ConvertError> {
        use v1::update_receipt::Outcome;
        match wire.outcome() {
            Outcome::Unspecified => Err(ConvertError::Missing { field: "UpdateReceipt.outcome" }),
            Outcome::Accepted => Ok(Self::Accepted),
            Outcome::Duplicate => Ok(Self::Duplicate),
            Outcome::Late => Ok(Self::Late),
        }
    }
}

impl From<UpdateOutcome> for v1::UpdateReceipt {
    fn from(outcome: UpdateOutcome) -> Self {
        use v1::update_receipt::Outcome;
        let outcome = match outcome {
            UpdateOutcome::Accepted => Outcome::Accepted,
            UpdateOutcome::Duplicate => Outcome::Duplicate,
            UpdateOutcome::Late => Outcome::Late,
        };
        Self { outcome: outcome.into() }
    }
}
