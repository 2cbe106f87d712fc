//! Update and receipt.

use bytes::Bytes;
use fusiondp_dp::{LedgerEntry, UpdateId};
use fusiondp_proto::v1;

use super::ConvertError;
use super::checks::{
    at_most, digest, digest_bytes, epsilon, exact_bytes, invalid, non_negative, parsed, required, within,
};
use super::training::{MAX_PARAMETERS, chunk};
use crate::messages::{LedgerMirror, Limits, MAX_MIRRORED_ENTRIES, UpdateHeader, UpdateOutcome, UpdatePart};
use crate::plan::SiteSize;
use crate::study::Training;

/// Longest canonical JSON of one ledger entry, in bytes.
const MAX_ENTRY_BYTES: usize = 16 << 10;
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
        if private_values > 0 && wire.ledger.is_none() {
            let problem = "a private sum comes with the ledger entries it was charged to";
            return Err(ConvertError::Contradiction { field: "UpdateHeader.ledger", problem });
        }
        Ok(Self {
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
            ledger: wire.ledger.map(TryInto::try_into).transpose()?,
        })
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
            ledger: header.ledger.map(Into::into),
        }
    }
}

impl TryFrom<v1::LedgerMirror> for LedgerMirror {
    type Error = ConvertError;

    fn try_from(wire: v1::LedgerMirror) -> Result<Self, ConvertError> {
        within("LedgerMirror.entries", wire.entries.len(), 1..=MAX_MIRRORED_ENTRIES)?;
        let entries: Vec<LedgerEntry> = wire.entries.iter().map(entry).collect::<Result<_, _>>()?;
        Ok(Self {
            entries,
            head: digest("LedgerMirror.head", &wire.head)?,
            epsilon_replace: epsilon("LedgerMirror.epsilon_replace", wire.epsilon_replace)?,
            epsilon_zero_out: epsilon("LedgerMirror.epsilon_zero_out", wire.epsilon_zero_out)?,
            data_epsilon_replace: epsilon("LedgerMirror.data_epsilon_replace", wire.data_epsilon_replace)?,
            data_epsilon_zero_out: epsilon("LedgerMirror.data_epsilon_zero_out", wire.data_epsilon_zero_out)?,
        })
    }
}

/// One entry in its one canonical form: the mirror keeps what the site's ledger holds, byte for byte.
fn entry(json: &Bytes) -> Result<LedgerEntry, ConvertError> {
    const FIELD: &str = "LedgerMirror.entries";
    at_most(FIELD, json.len(), MAX_ENTRY_BYTES)?;
    let entry: LedgerEntry = serde_json::from_slice(json).map_err(|error| invalid(FIELD, error))?;
    if entry.canonical_json().as_bytes() != json.as_ref() {
        return Err(invalid(FIELD, "an entry is not in canonical form; send the ledger's own bytes"));
    }
    Ok(entry)
}

impl From<LedgerMirror> for v1::LedgerMirror {
    fn from(mirror: LedgerMirror) -> Self {
        Self {
            entries: mirror.entries.iter().map(|entry| Bytes::from(entry.canonical_json())).collect(),
            head: digest_bytes(&mirror.head),
            epsilon_replace: mirror.epsilon_replace.get(),
            epsilon_zero_out: mirror.epsilon_zero_out.get(),
            data_epsilon_replace: mirror.data_epsilon_replace.get(),
            data_epsilon_zero_out: mirror.data_epsilon_zero_out.get(),
        }
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
