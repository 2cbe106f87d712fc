//! The receipts of one site in one study, as a file: `receipts-SITE.jsonl`.
//!
//! Lines of JSON: a [`ReceiptsHeader`], then one signed receipt a line in canonical form, then one signed ledger entry a line, in
//! canonical form and ledger order, for each table of counts with noise.
//!
//! | format | since | differs |
//! |---|---|---|
//! | `fusiondp/receipts/v1` | 0.1.0 | no key statements, no charges of counts; still read |
//! | [`RECEIPTS_FORMAT`] | 0.1.0 | the header has the site's key statements, and charges of counts end the file |

use fusiondp_dp::{LedgerPublicKey, SignedEntry};
use serde::{Deserialize, Serialize};

use super::SignedReceipt;
use crate::ids::{SiteId, StudyId};
use crate::key_statement::SignedKeyStatement;

/// What the first line says.
pub const RECEIPTS_FORMAT: &str = "fusiondp/receipts/v2";

/// What it said before there were key statements and charges of counts.
const OLDER_FORMAT: &str = "fusiondp/receipts/v1";

/// How the line of a signed ledger entry begins, as none of a receipt does.
const ENTRY: &str = "{\"entry\":";

/// Whose receipts a file holds, of what, and under which key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReceiptsHeader {
    /// [`RECEIPTS_FORMAT`] or the older one.
    pub format: String,
    /// The site.
    pub site: SiteId,
    /// The study.
    pub study: StudyId,
    /// The key that signs, as the site gave it when it enrolled.
    pub ledger_key: LedgerPublicKey,
    /// Whose key it is: one statement for each certificate that the site has had, oldest first. Empty where the site's agent
    /// makes none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub key_statements: Vec<SignedKeyStatement>,
}

/// The content of a file. Reading one verifies nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct ReceiptsFile {
    /// The first line.
    pub header: ReceiptsHeader,
    /// The lines after it.
    pub receipts: Vec<SignedReceipt>,
    /// The last lines: what the site has charged for tables of counts, in ledger order. From a coordinator those whose report
    /// arrived, from the site itself all.
    pub counts: Vec<SignedEntry>,
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
        let header = ReceiptsHeader { format, site, study, ledger_key, key_statements: Vec::new() };
        Self { header, receipts, counts: Vec::new() }
    }

    /// The same with what the site has stated about its key.
    #[must_use]
    pub fn with_key_statements(mut self, statements: Vec<SignedKeyStatement>) -> Self {
        self.header.key_statements = statements;
        self
    }

    /// The same with what the site has charged for tables of counts.
    #[must_use]
    pub fn with_counts(mut self, counts: Vec<SignedEntry>) -> Self {
        self.counts = counts;
        self
    }

    /// Whether charges of counts would stand in a file of this format.
    pub fn lists_counts(&self) -> bool {
        self.header.format != OLDER_FORMAT
    }

    /// Name of the file in a report folder.
    pub fn name(site: &SiteId) -> String {
        format!("receipts-{site}.jsonl")
    }

    /// The file's text.
    pub fn to_text(&self) -> String {
        // Unwrap safety: ids, texts and keys have a JSON form.
        let mut text = serde_json::to_string(&self.header).expect("a header has a JSON form");
        text.push('\n');
        for receipt in &self.receipts {
            text.push_str(&receipt.canonical_json());
            text.push('\n');
        }
        for charge in &self.counts {
            text.push_str(&charge.canonical_json());
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
        if ![RECEIPTS_FORMAT, OLDER_FORMAT].contains(&header.format.as_str()) {
            let problem =
                format!("format is \"{}\", this program reads \"{RECEIPTS_FORMAT}\"", header.format);
            return Err(failed(1, problem));
        }
        if header.format == OLDER_FORMAT && !header.key_statements.is_empty() {
            return Err(failed(1, format!("a file of format \"{OLDER_FORMAT}\" has no key_statements")));
        }
        let mut file = Self { header, receipts: Vec::new(), counts: Vec::new() };
        lines.try_for_each(|(line, text)| file.read_line(text).map_err(|problem| failed(line, problem)))?;
        Ok(file)
    }

    /// Reads a line after the first.
    fn read_line(&mut self, text: &str) -> Result<(), String> {
        let canonical = if text.starts_with(ENTRY) {
            if !self.lists_counts() {
                return Err(format!("a file of format \"{OLDER_FORMAT}\" has no charges of counts"));
            }
            let charge: SignedEntry = serde_json::from_str(text).map_err(|error| error.to_string())?;
            let canonical = charge.canonical_json();
            self.counts.push(charge);
            canonical
        } else if self.counts.is_empty() {
            let receipt: SignedReceipt = serde_json::from_str(text).map_err(|error| error.to_string())?;
            let canonical = receipt.canonical_json();
            self.receipts.push(receipt);
            canonical
        } else {
            return Err("a receipt after the charges of counts, which end a file".to_owned());
        };
        if canonical == text {
            return Ok(());
        }
        Err("not in canonical form, so not the bytes that were signed".to_owned())
    }
}
