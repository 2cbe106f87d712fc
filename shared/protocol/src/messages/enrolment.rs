//! What a site is given to do, and how it joins a study.

use bytes::Bytes;
use fusiondp_dp::{Digest, LedgerPublicKey};

use crate::ids::StudyId;
use crate::messages::{EvaluationTask, TrainingTask};
use crate::study::{StudyDocument, StudyError};

/// The answer to a poll.
#[derive(Debug, Clone, PartialEq)]
pub enum Assignment {
    /// Nothing to do.
    Idle,
    /// Check a study and join it, or decline.
    Enrolment(EnrolmentOffer),
    /// Compute one round.
    Training(TrainingTask),
    /// Evaluate one model version.
    Evaluation(EvaluationTask),
}

/// A study to check and to join. Conversion has compared the digest and the id with the bytes; the bytes are read by
/// [`EnrolmentOffer::document`], so that a site can decline a study that it cannot read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnrolmentOffer {
    /// The study.
    pub study_id: StudyId,
    /// SHA-256 of `study_toml`.
    pub study_digest: Digest,
    /// The document as submitted, at most 1 MiB.
    pub study_toml: Bytes,
    /// When the offer ends, Unix milliseconds.
    pub deadline_ms: u64,
}

impl EnrolmentOffer {
    /// Offers a study.
    pub fn new(document: &StudyDocument, deadline_ms: u64) -> Self {
        Self {
            study_id: document.id().clone(),
            study_digest: document.digest(),
            study_toml: Bytes::copy_from_slice(document.text().as_bytes()),
            deadline_ms,
        }
    }

    /// Reads and validates the document.
    ///
    /// # Errors
    /// What [`StudyDocument::from_bytes`] finds, and [`StudyError::WrongId`] when the coordinator uses another id than
    /// follows from the bytes.
    pub fn document(&self) -> Result<StudyDocument, StudyError> {
        let document = StudyDocument::from_bytes(&self.study_toml)?;
        if *document.id() == self.study_id {
            return Ok(document);
        }
        Err(StudyError::WrongId { offered: self.study_id.clone(), derived: document.id().clone() })
    }
}

/// A site joins a study (`EnrolRequest`): it has checked the document against its data, imputers and policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrolment {
    /// The study.
    pub study_id: StudyId,
    /// Digest of the document that the site checked.
    pub study_digest: Digest,
    /// Privacy units in the training data (N_k), 1 to [`SiteSize::MAX`](crate::plan::SiteSize::MAX); public.
    pub units: u64,
    /// Records in the training data, `units` to [`SiteSize::MAX`](crate::plan::SiteSize::MAX); public.
    pub records: u64,
    /// Chain head of the site's ledger.
    pub ledger_head: Digest,
    /// What the site signs its ledger and its receipts with.
    pub ledger_key: LedgerPublicKey,
}
