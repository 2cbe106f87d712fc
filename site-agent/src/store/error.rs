//! Why state could not be kept.

use std::path::PathBuf;

use fusiondp_runtime::files::FileError;

/// A failure of the agent's store. No message holds a stored value.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another agent is at work.
    #[error(
        "{}: another agent (process {holder}) holds this state folder; stop it, or give this one its own state_dir",
        folder.display()
    )]
    Locked {
        /// The folder.
        folder: PathBuf,
        /// Process id, or `unknown`.
        holder: String,
    },
    /// The lock file cannot be made.
    #[error("{}: the lock file cannot be opened; make state_dir writable for the agent's user", path.display())]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The folder cannot be made.
    #[error(transparent)]
    Folder(#[from] FileError),
    /// There is nothing to read.
    #[error("{}: no such file; the agent has not run with this state_dir yet", path.display())]
    Missing {
        /// The database.
        path: PathBuf,
    },
    /// The database cannot be opened.
    #[error("{}: the database cannot be opened; check its permissions, or restore it from a backup", path.display())]
    Open {
        /// The database.
        path: PathBuf,
        /// What SQLite said.
        #[source]
        source: sqlx::Error,
    },
    /// The schema of the database could not be brought up to date.
    #[error("the database is of another version than this program; use the newest `fusiondp-site`")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// The tables of approvals are missing.
    #[error(
        "the database is of an earlier version; run `fusiondp-site run` of this version once, then try again"
    )]
    Outdated,
    /// A statement failed.
    #[error("the state database failed; is the disk full or read-only?")]
    Query(#[from] sqlx::Error),
    /// Somebody asks a state that was opened to be read for something to be written.
    #[error("the state was opened to be read only; nothing was written")]
    ReadOnly,
    /// The ledger cannot be signed.
    #[error(transparent)]
    LedgerKey(#[from] super::ledger_key::LedgerKeyError),
    /// The ledger's journal does not serve.
    #[error(transparent)]
    Journal(#[from] super::journal::JournalError),
    /// No secret could be drawn.
    #[error("no secret key could be made: {0}")]
    Seed(#[from] fusiondp_dp::SeedError),
    /// A stored value cannot be read back.
    #[error("stored {column} is {problem}: the state database is damaged; restore it from a backup")]
    Damaged {
        /// Where it stands.
        column: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The same update is there with other content, or its charges are missing or released already.
    #[error("update {update_id} cannot be stored: {problem}; nothing was released")]
    NotReleasable {
        /// The update.
        update_id: String,
        /// What is wrong.
        problem: &'static str,
    },
}

impl StoreError {
    pub(super) fn damaged(column: &'static str, problem: &'static str) -> Self {
        Self::Damaged { column, problem }
    }
}
