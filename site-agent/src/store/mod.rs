//! What an agent must not forget: ledger, outbox and studies, in one SQLite file of the state folder.
//!
//! * [`ledger`]: the hash chain of charges, and the only way to add to it
//! * [`journal`]: its second copy, kept apart from the folder, that shows when the folder is older than it should be
//! * [`verified`]: verifying chain, signatures and journal without changing them
//! * [`ledger_file`]: a ledger as a file, and `ledger_key`: what it is signed with
//! * [`repair`]: bringing back charges that the folder has lost, and what an administrator decides
//! * [`outbox`]: updates from the moment they exist until the coordinator has them
//! * [`counts`]: tables of counts that have left with noise
//! * [`receipts`]: what the site has stated of every update that it released
//! * [`key_statements`]: what it has stated about the key that it signs with
//! * [`studies`]: documents the site has enrolled with
//! * [`approvals`]: offered studies, and what people at the site decided of them
//! * [`refusals`]: what the site did not do and why
//! * `identity_key`: the secret that keys identities which follow from the data
//!
//! Every write is one named transaction that may run again. `synchronous = FULL`: what a function has returned from
//! survives a power cut. SQL stands in this module and nowhere else.

pub mod approvals;
pub mod counts;
mod error;
mod identity_key;
pub mod journal;
pub mod key_statements;
pub mod ledger;
pub mod ledger_file;
pub mod ledger_key;
mod lock;
pub mod outbox;
pub mod receipts;
pub mod refusals;
pub mod repair;
pub mod studies;
pub mod verified;

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fusiondp_dp::{LedgerKey, SecureRng};
use fusiondp_runtime::files::create_private_folder;
use sqlx::migrate::Migrator;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, SqliteConnection};
use tokio::sync::{Mutex, MutexGuard};

pub use approvals::{Decision, Look, OfferedStudy};
pub use counts::CountsKey;
pub use error::StoreError;
pub use ledger::SiteLedger;
pub use outbox::{StoredUpdate, TaskKey};
pub use refusals::RefusalRow;
pub use studies::EnrolledStudy;

use journal::Journal;
use lock::StateLock;

/// The database's name in the state folder.
pub const DATABASE_FILE: &str = "site.sqlite";

/// Folder of derived data that may be deleted at any time.
pub const CACHE_FOLDER: &str = "cache";

/// Page cache of a connection; a negative number counts KiB. Rows are read rarely and updates are written once, so SQLite's
/// 2 MiB would only be what each of a thousand simulated sites takes.
const PAGE_CACHE: &str = "-256";

/// How long a write waits for that of another program: `approve` writes while an agent does.
const BUSY: Duration = Duration::from_secs(5);

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// An agent's state. One agent at a time may hold a folder's.
pub struct Store {
    connection: Mutex<SqliteConnection>,
    folder: Option<PathBuf>,
    /// `None` where the state is only read.
    signer: Option<Signer>,
    _lock: Option<StateLock>,
}

/// What every charge is signed with, and where it is written a second time.
struct Signer {
    key: LedgerKey,
    /// `None` for a state that ends with the process.
    journal: Option<Journal>,
}

impl Store {
    /// Opens the state folder for an agent, and makes it if it is new. The ledger's journal stands beside it.
    ///
    /// # Errors
    /// As [`Store::open_with_journal`].
    pub async fn open(folder: &Path) -> Result<Self, StoreError> {
        Self::open_with_journal(folder, &journal::default_path(folder)).await
    }

    /// Opens the state folder for an agent, and makes it if it is new.
    ///
    /// # Errors
    /// Another agent holds the folder; the folder or the database cannot be opened; the database is newer than this
    /// program; the ledger's key is missing.
    pub async fn open_with_journal(folder: &Path, journal: &Path) -> Result<Self, StoreError> {
        create_private_folder(folder)?;
        let lock = StateLock::take(folder).await?;
        let path = folder.join(DATABASE_FILE);
        create_private(&path)?;
        let options = SqliteConnectOptions::new().filename(&path);
        let mut connection = connect(options, &path).await?;
        MIGRATIONS.run_direct(None, &mut connection, false).await?;
        let key = ledger_key::load_or_create(&mut connection, folder).await?;
        let journal = Some(Journal::at(journal.to_owned(), key.public()));
        Ok(Self {
            connection: Mutex::new(connection),
            folder: Some(folder.to_owned()),
            signer: Some(Signer { key, journal }),
            _lock: Some(lock),
        })
    }

    /// Opens the state folder to read it, also while an agent runs.
    ///
    /// # Errors
    /// There is no database, or it cannot be read.
    pub async fn open_read_only(folder: &Path) -> Result<Self, StoreError> {
        let path = folder.join(DATABASE_FILE);
        if !path.is_file() {
            return Err(StoreError::Missing { path });
        }
        let connection = connect(SqliteConnectOptions::new().filename(&path).read_only(true), &path).await?;
        Ok(Self { connection: Mutex::new(connection), folder: None, signer: None, _lock: None })
    }

    /// Opens the state folder to write decisions, also while an agent runs. It takes no lock and must touch no other table.
    ///
    /// # Errors
    /// There is no database, it cannot be opened, or an agent of this version has not yet brought it up to date.
    pub async fn open_for_decisions(folder: &Path) -> Result<Self, StoreError> {
        let path = folder.join(DATABASE_FILE);
        if !path.is_file() {
            return Err(StoreError::Missing { path });
        }
        let connection = connect(SqliteConnectOptions::new().filename(&path), &path).await?;
        let store = Self { connection: Mutex::new(connection), folder: None, signer: None, _lock: None };
        store.require_approvals().await?;
        Ok(store)
    }

    /// Whether the database knows approvals.
    ///
    /// # Errors
    /// [`StoreError::Outdated`] when an agent of this version has not run on it yet.
    pub async fn require_approvals(&self) -> Result<(), StoreError> {
        let mut connection = self.connection().await;
        let table = sqlx::query("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'approval'");
        match table.fetch_optional(&mut *connection).await? {
            Some(_) => Ok(()),
            None => Err(StoreError::Outdated),
        }
    }

    /// Process id of the agent that holds a state folder, `unknown` if it cannot be read; `None` if no agent runs.
    ///
    /// # Errors
    /// The lock file cannot be opened.
    pub fn agent_of(folder: &Path) -> Result<Option<String>, StoreError> {
        lock::holder_of(folder)
    }

    /// A state that ends with the process, for simulations and tests: the same statements, no file.
    ///
    /// # Errors
    /// SQLite cannot be started, or the operating system gives no randomness.
    pub async fn in_memory() -> Result<Self, StoreError> {
        let mut connection =
            connect(SqliteConnectOptions::new().in_memory(true), Path::new(":memory:")).await?;
        MIGRATIONS.run_direct(None, &mut connection, false).await?;
        let key = LedgerKey::random(&mut SecureRng::from_os()?);
        ledger_key::keep_public(&mut connection, key.public()).await?;
        let signer = Some(Signer { key, journal: None });
        Ok(Self { connection: Mutex::new(connection), folder: None, signer, _lock: None })
    }

    /// Folder for derived data that may be deleted at any time; `None` without a state folder.
    pub fn cache_folder(&self) -> Option<PathBuf> {
        self.folder.as_ref().map(|folder| folder.join(CACHE_FOLDER))
    }

    fn signer(&self) -> Result<&Signer, StoreError> {
        self.signer.as_ref().ok_or(StoreError::ReadOnly)
    }

    async fn connection(&self) -> MutexGuard<'_, SqliteConnection> {
        self.connection.lock().await
    }
}

/// Makes an empty database that only its owner may read, whatever the umask; SQLite gives its companions the same mode.
fn create_private(path: &Path) -> Result<(), StoreError> {
    let made = File::options().append(true).create(true).mode(0o600).open(path);
    made.map(drop).map_err(|source| StoreError::Open { path: path.to_owned(), source: source.into() })
}

async fn connect(options: SqliteConnectOptions, path: &Path) -> Result<SqliteConnection, StoreError> {
    let options = options
        .journal_mode(SqliteJournalMode::Wal)
        .busy_timeout(BUSY)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .pragma("cache_size", PAGE_CACHE)
        .disable_statement_logging();
    options.connect().await.map_err(|source| StoreError::Open { path: path.to_owned(), source })
}

/// A count as SQLite stores it. Counts of this crate are far below 2^63; a larger one saturates rather than wraps.
fn integer(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A stored count; a negative one is damage.
fn count(column: &'static str, stored: i64) -> Result<u64, StoreError> {
    u64::try_from(stored).map_err(|_| StoreError::damaged(column, "negative"))
}

#[cfg(test)]
mod tests;
