//! A ledger as a file: the form of the journal and of exports.
//!
//! Lines of JSON. The first is `{"format":"fusiondp/ledger/v1","ledger_key":"<64 digits>"}`, then one signed entry a line, in
//! canonical form and ledger order. Receipts of a study, as a coordinator exports them, are read too: their charges, and those of
//! counts after them, are entries of the same ledger, with gaps where the site has charged for something else.

use std::collections::BTreeMap;
use std::path::Path;

use fusiondp_dp::{LedgerError, LedgerPublicKey, SignedEntry};
use fusiondp_protocol::receipt::ReceiptsFile;
use fusiondp_runtime::files::{FileError, read_limited};
use serde::{Deserialize, Serialize};

/// What the first line says.
pub const FORMAT: &str = "fusiondp/ledger/v1";

/// More than any site charges in its life: about ten million entries.
const MAX_FILE_BYTES: u64 = 16 << 30;

/// The first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Header {
    pub(crate) format: String,
    pub(crate) ledger_key: LedgerPublicKey,
}

/// Entries as a file holds them.
pub struct LedgerFile {
    /// The key that the file names; its entries have been verified with it.
    pub key: LedgerPublicKey,
    /// In ledger order, each by itself verified; with gaps where the file has some.
    pub entries: Vec<SignedEntry>,
}

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LedgerFileError {
    /// It cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// It is something else.
    #[error(
        "{file} line {line}: {problem}; give a file that `fusiondp-site ledger export` wrote, the journal, or \
         receipts-SITE.jsonl of a study's report"
    )]
    Form {
        /// Name of the file.
        file: String,
        /// Line, from 1.
        line: usize,
        /// What is wrong.
        problem: String,
    },
    /// An entry that does not verify.
    #[error("{file} line {line}: {source}")]
    Entry {
        /// Name of the file.
        file: String,
        /// Line, from 1.
        line: usize,
        /// What is wrong.
        #[source]
        source: LedgerError,
    },
}

impl Header {
    pub(crate) fn line(key: LedgerPublicKey) -> String {
        let header = Self { format: FORMAT.to_owned(), ledger_key: key };
        // Unwrap safety: two texts have a JSON form.
        #[allow(clippy::unwrap_used)]
        let text = serde_json::to_string(&header).unwrap();
        text + "\n"
    }
}

/// The text of a ledger file.
pub fn write<'a>(key: LedgerPublicKey, entries: impl IntoIterator<Item = &'a SignedEntry>) -> String {
    let mut text = Header::line(key);
    for entry in entries {
        text.push_str(&entry.canonical_json());
        text.push('\n');
    }
    text
}

impl LedgerFile {
    /// Reads a file and verifies each entry by itself: its hash, and the signature by the key that the file names.
    ///
    /// # Errors
    /// [`LedgerFileError`] naming file, line and remedy.
    pub fn read(path: &Path) -> Result<Self, LedgerFileError> {
        let file = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        let bytes = read_limited(path, MAX_FILE_BYTES)?;
        let form = |(line, problem)| LedgerFileError::Form { file: file.clone(), line, problem };
        let text = std::str::from_utf8(&bytes).map_err(|error| form((1, error.to_string())))?;
        let (key, lines) = parse(text).map_err(form)?;
        let mut entries = BTreeMap::new();
        for (line, entry) in lines {
            let failed = |source| LedgerFileError::Entry { file: file.clone(), line, source };
            entry.verify(&key).map_err(failed)?;
            entries.insert(entry.entry.sequence(), entry);
        }
        Ok(Self { key, entries: entries.into_values().collect() })
    }
}

/// Entries with the lines they stand in.
type Lines = Vec<(usize, SignedEntry)>;

fn parse(text: &str) -> Result<(LedgerPublicKey, Lines), (usize, String)> {
    let mut lines = (1..).zip(text.lines());
    let header = lines.next().and_then(|(_, line)| serde_json::from_str::<Header>(line).ok());
    match header {
        Some(header) if header.format == FORMAT => {
            let entry = |(line, text)| match serde_json::from_str(text) {
                Ok(entry) => Ok((line, entry)),
                Err(error) => Err((line, error.to_string())),
            };
            Ok((header.ledger_key, lines.map(entry).collect::<Result<_, _>>()?))
        }
        _ => parse_receipts(text),
    }
}

fn parse_receipts(text: &str) -> Result<(LedgerPublicKey, Lines), (usize, String)> {
    let file = ReceiptsFile::parse(text).map_err(|error| (error.line, error.problem))?;
    let counts = (2 + file.receipts.len()..).zip(file.counts);
    let lines = (2..).zip(file.receipts);
    let charges =
        lines.flat_map(|(line, signed)| signed.receipt.charges.into_iter().map(move |charge| (line, charge)));
    Ok((file.header.ledger_key, charges.chain(counts).collect()))
}
