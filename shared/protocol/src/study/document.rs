//! The bytes of a study, with digest, id and content.

use std::fmt;

use fusiondp_dp::Digest;

use super::{Study, StudyError};
use crate::ids::StudyId;

/// Largest study document, in bytes.
pub const MAX_STUDY_BYTES: usize = 1 << 20;

/// A valid study together with the bytes it was read from, which are what everybody agrees on.
#[derive(Clone, PartialEq)]
pub struct StudyDocument {
    text: String,
    digest: Digest,
    id: StudyId,
    study: Study,
}

impl StudyDocument {
    /// Reads and validates the bytes of a study.
    ///
    /// # Errors
    /// More than [`MAX_STUDY_BYTES`], no UTF-8, or what [`Study::parse`] finds.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, StudyError> {
        if bytes.len() > MAX_STUDY_BYTES {
            return Err(StudyError::TooLong { bytes: bytes.len() });
        }
        let text = std::str::from_utf8(bytes).map_err(|source| StudyError::NotUtf8 { source })?;
        let study = Study::parse(text)?;
        let digest = Digest::of(bytes);
        let id = StudyId::from_document(&study.study.name, &digest);
        Ok(Self { text: text.to_owned(), digest, id, study })
    }

    /// The document as submitted.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// SHA-256 of the document's bytes.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The study's id, derived from name and digest.
    pub fn id(&self) -> &StudyId {
        &self.id
    }

    /// The content.
    pub fn study(&self) -> &Study {
        &self.study
    }
}

impl fmt::Debug for StudyDocument {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("StudyDocument").field("id", &self.id).field("digest", &self.digest).finish()
    }
}
