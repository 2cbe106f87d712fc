//! A second copy of the ledger, kept apart from the state folder.
//!
//! Restoring the folder from an older backup forgets charges, and nothing in the folder can tell. The journal stands beside the
//! folder, or wherever the site says, best on another volume; it grows by every charge before anything is noised for it.
//! At the start both are compared:
//!
//! | database | journal | |
//! |---|---|---|
//! | n entries | the same | in order |
//! | n entries | the first of them | the agent, or the disk, ended between the two: the journal catches up |
//! | the first of them | n entries | the database is older: refused, `ledger restore` brings the rest back |
//! | n entries | others from some place on | two histories: refused, `ledger restore` charges for both |
//! | some | no file | refused until an administrator accepts a new journal |
//!
//! A last line that is torn is one that the database holds, since the database is written first.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use fusiondp_dp::{LedgerPublicKey, SignedEntry};
use fusiondp_runtime::files::folder_of;

use super::ledger_file::Header;

/// Why the journal does not serve.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// There is none, though there are charges.
    #[error(
        "{}: the ledger's journal is missing, so nothing tells whether the ledger's {entries} entries are all there are; put the \
         file back, or, if it is lost, let an administrator decide: `fusiondp-site ledger accept journal --reason TEXT`",
        path.display()
    )]
    Missing {
        /// The file.
        path: PathBuf,
        /// Entries in the database.
        entries: usize,
    },
    /// The database has forgotten charges.
    #[error(
        "the ledger has {database} entries and its journal {} has {journal}: the state folder was restored from an older \
         backup. The agent releases nothing until the charges are back: `fusiondp-site ledger restore`",
        path.display()
    )]
    Ahead {
        /// The journal.
        path: PathBuf,
        /// Entries in the database.
        database: usize,
        /// Entries in the journal.
        journal: usize,
    },
    /// Two histories.
    #[error(
        "the ledger and its journal {} differ from entry {sequence} on: two agents have worked on copies of one state folder. The \
         agent releases nothing until the charges of both are counted: `fusiondp-site ledger restore`",
        path.display()
    )]
    Forked {
        /// The journal.
        path: PathBuf,
        /// First entry that differs.
        sequence: usize,
    },
    /// Another ledger's journal.
    #[error(
        "{} is the journal of ledger key {found}, this state folder's is {expected}; give each site's agent a journal of its own in \
         [ledger]",
        path.display()
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Key of the file.
        found: LedgerPublicKey,
        /// Key of the state folder.
        expected: LedgerPublicKey,
    },
    /// Not a journal.
    #[error("{} is no ledger journal; restore it, or name another file in [ledger]", path.display())]
    Form {
        /// The file.
        path: PathBuf,
    },
    /// It cannot be read or written.
    #[error("the ledger's journal {}: {source}; is the disk full or read-only?", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

/// What a journal holds.
pub struct JournalLines {
    path: PathBuf,
    /// One canonical entry a line.
    lines: Vec<String>,
    /// Where a torn last line begins, in bytes.
    torn_at: Option<u64>,
}

impl JournalLines {
    /// Reads the journal of a ledger; `None` if there is no file.
    ///
    /// # Errors
    /// It cannot be read, or is another ledger's.
    pub fn read(path: &Path, key: LedgerPublicKey) -> Result<Option<Self>, JournalError> {
        let form = || JournalError::Form { path: path.to_owned() };
        let text = match fs::read(path) {
            Ok(bytes) => String::from_utf8(bytes).map_err(|_| form())?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(JournalError::File { path: path.to_owned(), source }),
        };
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        let mut lines = text[..whole].lines().map(str::to_owned);
        let header: Header =
            lines.next().and_then(|line| serde_json::from_str(&line).ok()).ok_or_else(form)?;
        if header.ledger_key != key {
            let (found, expected) = (header.ledger_key, key);
            return Err(JournalError::Foreign { path: path.to_owned(), found, expected });
        }
        let torn_at = (whole < text.len()).then_some(whole as u64);
        Ok(Some(Self { path: path.to_owned(), lines: lines.collect(), torn_at }))
    }

    /// How many of the database's newest entries the journal lacks.
    ///
    /// # Errors
    /// [`JournalError::Ahead`] or [`JournalError::Forked`].
    pub fn lacking(&self, entries: &[SignedEntry]) -> Result<usize, JournalError> {
        let own = entries.iter().map(SignedEntry::canonical_json);
        if let Some(sequence) = own.zip(&self.lines).position(|(own, line)| own != *line) {
            return Err(JournalError::Forked { path: self.path.clone(), sequence });
        }
        entries.len().checked_sub(self.lines.len()).ok_or_else(|| JournalError::Ahead {
            path: self.path.clone(),
            database: entries.len(),
            journal: self.lines.len(),
        })
    }
}

/// The journal of a state folder that an agent holds.
#[derive(Debug, Clone)]
pub(super) struct Journal {
    path: PathBuf,
    key: LedgerPublicKey,
}

impl Journal {
    /// The journal of a ledger; nothing is opened.
    pub(super) fn at(path: PathBuf, key: LedgerPublicKey) -> Self {
        Self { path, key }
    }

    /// Where it stands.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Compares with the entries of the database, makes the file if both are new, and brings it up to date where it lacks the
    /// newest entries.
    pub(super) fn reconcile(&self, entries: &[SignedEntry]) -> Result<(), JournalError> {
        let Some(lines) = JournalLines::read(&self.path, self.key)? else {
            return match entries.len() {
                0 => self.create(&[]),
                entries => Err(JournalError::Missing { path: self.path.clone(), entries }),
            };
        };
        let lacking = lines.lacking(entries)?;
        if let Some(length) = lines.torn_at {
            self.cut(length)?;
        }
        self.append(&entries[entries.len() - lacking..])
    }

    /// Writes the file anew: for a new ledger, and after an administrator's decision.
    pub(super) fn create(&self, entries: &[SignedEntry]) -> Result<(), JournalError> {
        let text = super::ledger_file::write(self.key, entries);
        let written = fusiondp_runtime::files::write_private(&self.path, text.as_bytes());
        written.map_err(|error| self.failed(io::Error::other(error)))
    }

    /// Adds entries and waits until the disk has them.
    pub(super) fn append(&self, entries: &[SignedEntry]) -> Result<(), JournalError> {
        if entries.is_empty() {
            return Ok(());
        }
        let text: String = entries.iter().map(|entry| entry.canonical_json() + "\n").collect();
        let append = || {
            let mut file = OpenOptions::new().append(true).open(&self.path)?;
            file.write_all(text.as_bytes())?;
            file.sync_data()
        };
        append().map_err(|source| self.failed(source))
    }

    fn cut(&self, length: u64) -> Result<(), JournalError> {
        let cut = || {
            let file = OpenOptions::new().write(true).open(&self.path)?;
            file.set_len(length)?;
            file.sync_data()
        };
        cut().map_err(|source| self.failed(source))
    }

    fn failed(&self, source: io::Error) -> JournalError {
        JournalError::File { path: self.path.clone(), source }
    }
}

/// Where the journal of a state folder stands unless the site says otherwise: beside it.
pub fn default_path(state_dir: &Path) -> PathBuf {
    let name =
        state_dir.file_name().map_or_else(|| "state".into(), |name| name.to_string_lossy().into_owned());
    folder_of(state_dir).join(format!("{name}.ledger.jsonl"))
}
