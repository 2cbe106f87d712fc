//! Registration and poll.

use bytes::Bytes;
use fusiondp_dp::SignedEntry;
use fusiondp_proto::v1;

use super::ConvertError;
use super::checks::{at_most, invalid, line, parsed, required, within};
use crate::key_statement::{MAX_KEY_STATEMENT_BYTES, SignedKeyStatement};
use crate::messages::{Limits, MAX_POLL_WAIT_MS, Poll, Registered, Registration};

/// Longest text that names a version of the software, in characters.
pub(super) const MAX_VERSION_LENGTH: usize = 64;
/// Longest name of a consortium, in characters.
const MAX_NAME_LENGTH: usize = 120;
/// Longest JSON of one ledger entry, in bytes.
const MAX_ENTRY_BYTES: usize = 16 << 10;

impl TryFrom<v1::Limits> for Limits {
    type Error = ConvertError;

    fn try_from(wire: v1::Limits) -> Result<Self, ConvertError> {
        let chunk_range = Limits::MIN_CHUNK_BYTES..=Limits::MAX_CHUNK_BYTES;
        let model_range = 1..=Limits::MAX_MODEL_BYTES;
        Ok(Self {
            max_chunk_bytes: within("Limits.max_chunk_bytes", wire.max_chunk_bytes, chunk_range)?,
            max_model_bytes: within("Limits.max_model_bytes", wire.max_model_bytes, model_range)?,
        })
    }
}

impl From<Limits> for v1::Limits {
    fn from(limits: Limits) -> Self {
        Self { max_chunk_bytes: limits.max_chunk_bytes, max_model_bytes: limits.max_model_bytes }
    }
}

impl TryFrom<v1::RegisterRequest> for Registration {
    type Error = ConvertError;

    fn try_from(wire: v1::RegisterRequest) -> Result<Self, ConvertError> {
        Ok(Self {
            protocol_version: wire.protocol_version,
            agent_version: line("RegisterRequest.agent_version", wire.agent_version, MAX_VERSION_LENGTH)?,
            limits: required("RegisterRequest.limits", wire.limits)?.try_into()?,
            key_statement: key_statement(&wire.key_statement)?.map(Box::new),
        })
    }
}

/// A statement in its one canonical form: what is kept and handed on is what the site has signed.
fn key_statement(json: &Bytes) -> Result<Option<SignedKeyStatement>, ConvertError> {
    const FIELD: &str = "RegisterRequest.key_statement";
    at_most(FIELD, json.len(), MAX_KEY_STATEMENT_BYTES)?;
    if json.is_empty() {
        return Ok(None);
    }
    let signed: SignedKeyStatement = serde_json::from_slice(json).map_err(|error| invalid(FIELD, error))?;
    if signed.canonical_json().as_bytes() != json.as_ref() {
        return Err(invalid(FIELD, "not in canonical form; send the bytes that were signed"));
    }
    Ok(Some(signed))
}

impl From<Registration> for v1::RegisterRequest {
    fn from(registration: Registration) -> Self {
        Self {
            protocol_version: registration.protocol_version,
            agent_version: registration.agent_version,
            limits: Some(registration.limits.into()),
            key_statement: registration
                .key_statement
                .map_or_else(Bytes::new, |signed| Bytes::from(signed.canonical_json())),
        }
    }
}

impl TryFrom<v1::RegisterResponse> for Registered {
    type Error = ConvertError;

    fn try_from(wire: v1::RegisterResponse) -> Result<Self, ConvertError> {
        Ok(Self {
            protocol_version: wire.protocol_version,
            site_id: parsed("RegisterResponse.site_id", &wire.site_id)?,
            consortium: line("RegisterResponse.consortium", wire.consortium, MAX_NAME_LENGTH)?,
            limits: required("RegisterResponse.limits", wire.limits)?.try_into()?,
            server_time_ms: wire.server_time_ms,
            newest_entry: newest_entry(&wire.newest_entry)?,
        })
    }
}

fn newest_entry(json: &Bytes) -> Result<Option<SignedEntry>, ConvertError> {
    const FIELD: &str = "RegisterResponse.newest_entry";
    at_most(FIELD, json.len(), MAX_ENTRY_BYTES)?;
    if json.is_empty() {
        return Ok(None);
    }
    serde_json::from_slice(json).map(Some).map_err(|error| invalid(FIELD, error))
}

impl From<Registered> for v1::RegisterResponse {
    fn from(registered: Registered) -> Self {
        Self {
            protocol_version: registered.protocol_version,
            site_id: registered.site_id.into(),
            consortium: registered.consortium,
            limits: Some(registered.limits.into()),
            server_time_ms: registered.server_time_ms,
            newest_entry: registered
                .newest_entry
                .map_or_else(Bytes::new, |entry| Bytes::from(entry.canonical_json())),
        }
    }
}

impl TryFrom<v1::NextAssignmentRequest> for Poll {
    type Error = ConvertError;

    fn try_from(wire: v1::NextAssignmentRequest) -> Result<Self, ConvertError> {
        Ok(Self { wait_ms: within("NextAssignmentRequest.wait_ms", wire.wait_ms, 0..=MAX_POLL_WAIT_MS)? })
    }
}

impl From<Poll> for v1::NextAssignmentRequest {
    fn from(poll: Poll) -> Self {
        Self { wait_ms: poll.wait_ms }
    }
}
