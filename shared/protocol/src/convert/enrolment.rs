//! Assignments and enrolment.

use bytes::Bytes;
use fusiondp_dp::{Digest, LedgerPublicKey};
use fusiondp_proto::v1;
use fusiondp_proto::v1::assignment::Work;

use super::ConvertError;
use super::checks::{at_most, digest, digest_bytes, exact_bytes, parsed, required, within};
use crate::messages::{Assignment, Enrolment, EnrolmentOffer};
use crate::plan::SiteSize;
use crate::study::MAX_STUDY_BYTES;

impl TryFrom<v1::Assignment> for Assignment {
    type Error = ConvertError;

    fn try_from(wire: v1::Assignment) -> Result<Self, ConvertError> {
        Ok(match required("Assignment.work", wire.work)? {
            Work::Idle(v1::Idle {}) => Self::Idle,
            Work::Enrolment(offer) => Self::Enrolment(offer.try_into()?),
            Work::Training(task) => Self::Training(task.try_into()?),
            Work::Evaluation(task) => Self::Evaluation(task.try_into()?),
        })
    }
}

impl From<Assignment> for v1::Assignment {
    fn from(assignment: Assignment) -> Self {
        let work = match assignment {
            Assignment::Idle => Work::Idle(v1::Idle {}),
            Assignment::Enrolment(offer) => Work::Enrolment(offer.into()),
            Assignment::Training(task) => Work::Training(task.into()),
            Assignment::Evaluation(task) => Work::Evaluation(task.into()),
        };
        Self { work: Some(work) }
    }
}

impl TryFrom<v1::EnrolmentOffer> for EnrolmentOffer {
    type Error = ConvertError;

    fn try_from(wire: v1::EnrolmentOffer) -> Result<Self, ConvertError> {
        at_most("EnrolmentOffer.study_toml", wire.study_toml.len(), MAX_STUDY_BYTES)?;
        let study_digest = digest("EnrolmentOffer.study_digest", &wire.study_digest)?;
        if Digest::of(&wire.study_toml) != study_digest {
            let problem = "study_digest is not the SHA-256 of study_toml";
            return Err(ConvertError::Contradiction { field: "EnrolmentOffer.study_digest", problem });
        }
        Ok(Self {
            study_id: parsed("EnrolmentOffer.study_id", &wire.study_id)?,
            study_digest,
            study_toml: wire.study_toml,
            deadline_ms: wire.deadline_ms,
        })
    }
}

impl From<EnrolmentOffer> for v1::EnrolmentOffer {
    fn from(offer: EnrolmentOffer) -> Self {
        Self {
            study_id: offer.study_id.into(),
            study_digest: digest_bytes(&offer.study_digest),
            study_toml: offer.study_toml,
            deadline_ms: offer.deadline_ms,
        }
    }
}

impl TryFrom<v1::EnrolRequest> for Enrolment {
    type Error = ConvertError;

    fn try_from(wire: v1::EnrolRequest) -> Result<Self, ConvertError> {
        let units = within("EnrolRequest.units", wire.units, 1..=SiteSize::MAX)?;
        Ok(Self {
            study_id: parsed("EnrolRequest.study_id", &wire.study_id)?,
            study_digest: digest("EnrolRequest.study_digest", &wire.study_digest)?,
            units,
            records: within("EnrolRequest.records", wire.records, units..=SiteSize::MAX)?,
            ledger_head: digest("EnrolRequest.ledger_head", &wire.ledger_head)?,
            ledger_key: exact_bytes("EnrolRequest.ledger_key", &wire.ledger_key)
                .map(LedgerPublicKey::from_bytes)?,
        })
    }
}

impl From<Enrolment> for v1::EnrolRequest {
    fn from(enrolment: Enrolment) -> Self {
        Self {
            study_id: enrolment.study_id.into(),
            study_digest: digest_bytes(&enrolment.study_digest),
            units: enrolment.units,
            records: enrolment.records,
            ledger_head: digest_bytes(&enrolment.ledger_head),
            ledger_key: Bytes::copy_from_slice(enrolment.ledger_key.as_bytes()),
        }
    }
}
