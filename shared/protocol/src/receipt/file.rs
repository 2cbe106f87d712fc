//! The receipts of one site in one study, as a file: `receipts-SITE.jsonl`.
//!
//! Lines of JSON: a [`ReceiptsHeader`], then one signed receipt a line in canonical form.

use fusiondp_dp::LedgerPublicKey;
use serde::{Deserialize, Serialize};

use super::SignedReceipt;
use crate::ids::{SiteId, StudyId};

/// What the first line says.
pub const RECEIPTS_FORMAT: &str = "fusiondp/receipts/v1";

/// Whose receipts a file holds, of what, and under which key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReceiptsHeader {
    /// [`RECEIPTS_FORMAT`].
    pub format: String,
    /// The site.
    pub site: SiteId,
    /// The study.
    pub study: StudyId,
    /// The key that signs, as the site gave it when it enrolled.
    pub ledger_key: LedgerPublicKey,
}

/// The content of a file. Reading one verifies nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct ReceiptsFile {
    /// The first line.
    pub header: ReceiptsHeader,
    /// The others.
    pub receipts: Vec<SignedReceipt>,
}

/// A file that holds no receipts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct ReceiptsFileError {
    /// Line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub problem: String,
}

impl ReceiptsFile {
    /// The receipts of a site in a study.
    pub fn new(
        site: SiteId,
        study: StudyId,
        ledger_key: LedgerPublicKey,
        receipts: Vec<SignedReceipt>,
    ) -> Self {
        let format = RECEIPTS_FORMAT.to_owned();
        Self { header: ReceiptsHeader { format, site, study, ledger_key }, receipts }
    }

    /// Name of the file in a report folder.
    pub fn name(site: &SiteId) -> String {
        format!("receipts-{site}.jsonl")
    }

    /// The file's text.
    pub fn to_text(&self) -> String {
        // Unwrap safety: ids, a text and a key have a JSON form.
        let mut text = serde_json::to_string(&self.header).expect("a header has a JSON form");
        text.push('\n');
        for receipt in &self.receipts {
            text.push_str(&receipt.canonical_json());
            text.push('\n');
        }
        text
    }

    /// Reads a file's text.
    ///
    /// # Errors
    /// The first line that is not what it should be, also a receipt in another than its canonical form.
    pub fn parse(text: &str) -> Result<Self, ReceiptsFileError> {
        let failed = |line: usize, problem: String| ReceiptsFileError { line, problem };
        let mut lines = (1..).zip(text.lines());
        let (_, first) = lines.next().ok_or_else(|| failed(1, "the file is empty".to_owned()))?;
        let header: ReceiptsHeader =
            serde_json::from_str(first).map_err(|error| failed(1, error.to_string()))?;
        if header.format != RECEIPTS_FORMAT {
            let problem =
                format!("format is \"{}\", this program reads \"{RECEIPTS_FORMAT}\"", header.format);
            return Err(failed(1, problem));
        }
        let receipt = |(line, text): (usize, &str)| {
            let receipt: SignedReceipt =
                serde_json::from_str(text).map_err(|error| failed(line, error.to_string()))?;
            if receipt.canonical_json() == text {
                return Ok(receipt);
            }
            Err(failed(line, "not in canonical form, so not the bytes that were signed".to_owned()))
        };
        Ok(Self { header, receipts: lines.map(receipt).collect::<Result<_, _>>()? })
    }
}
