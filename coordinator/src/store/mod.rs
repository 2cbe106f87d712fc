//! The coordinator's durable state: one concrete store over SQLite (embedded) or PostgreSQL.
//!
//! Everything goes through named transactions that may be run again: [`Store::write`] and [`Store::read`] take a
//! closure that works on one transaction and has no other effect. One process writes; inside it, writers queue on a
//! lock, because SQLite has one writer anyway and a queue in the process is fairer than its busy loop.
//!
//! | file | tables |
//! |---|---|
//! | `studies`, `ending` | `studies`; what an end leaves of one |
//! | `sites` | `sites`, `study_sites` |
//! | `rounds`, `history` | `rounds`, `round_sites`: the edges of the round state machine, and what was |
//! | `updates` | `updates` |
//! | `mirror`, `counts` | `mirror`, `warnings`; charges of tables of counts |
//! | `key_statements` | `key_statements` |
//! | `models` | `models`, `server_states` |
//! | `evaluations` | `evaluations`, `evaluation_sites`, `metrics` |
//! | `snapshot` | all facts of one study at one moment |
//!
//! The schema with a comment and unit on each column is in `migrations/`.

mod counts;
mod ending;
mod error;
mod evaluations;
mod history;
mod key_statements;
mod mirror;
mod models;
mod rounds;
mod row;
mod sites;
mod snapshot;
mod studies;
mod updates;

use std::fs::File;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fusiondp_runtime::files;
use futures::future::BoxFuture;
use sqlx::any::{AnyPoolOptions, install_default_drivers};
use sqlx::{Any, AnyConnection, AnyPool, Connection as _, Executor as _, Row as _, Transaction};
use tokio::sync::Mutex;

pub use error::StoreError;
pub use evaluations::{EvaluationRow, EvaluationSite, MetricNoise, MetricRow, ReportReceipt};
pub use history::{ParticipationRow, RoundRow};
pub use key_statements::{MAX_KEYS_PER_CERTIFICATE, StatementReceipt};
pub use mirror::{Claim, NewCharges, RecordClaim, StoredClaim, WarningRow};
pub use models::{ModelKind, ModelRow, NewModel};
pub use rounds::{AppliedRound, DeclinedTraining};
pub use sites::{RegisteredRow, Standing, StudySiteRow};
pub use snapshot::StudySnapshot;
pub use studies::{StoredPlan, StudyRow, StudyStart, Submission};
pub use updates::{NewUpdate, UpdateRefusal, UpdateRow};

/// How often a transaction is run when the database says that it collided with another.
const MAX_RUNS: u32 = 5;

/// Largest value of one column: the limit of SQLite as it is built; PostgreSQL takes a little more.
pub const MAX_BLOB_BYTES: u64 = 1_000_000_000;

/// Key of the advisory lock that one coordinator holds on its PostgreSQL database.
const DATABASE_LOCK: i64 = 0x6675_7369_6f6e_6470;

/// Where the state is kept.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// Folder of the lock file and, without `database_url`, of `coordinator.sqlite`. Created if absent.
    pub state_dir: PathBuf,
    /// `postgres://…`, with the cargo feature `postgres`; SQLite in `state_dir` if absent.
    pub database_url: Option<String>,
}

/// Handle on the state; clones share it.
#[derive(Clone)]
pub struct Store {
    pool: AnyPool,
    writer: Arc<Mutex<()>>,
    /// How transactions begin, where the database's own way does not serve.
    write_begin: Option<&'static str>,
    read_begin: Option<&'static str>,
    /// Held as long as any clone lives.
    _locks: Arc<Locks>,
}

/// What keeps a second coordinator off the same state. Both go with the process, however it ends.
struct Locks {
    _folder: File,
    /// PostgreSQL frees an advisory lock with its connection; nobody else uses this one.
    _database: Option<Mutex<AnyConnection>>,
}

/// One running transaction. `'env` is what the work of the transaction may borrow.
pub(crate) struct Tx<'env> {
    inner: Transaction<'static, Any>,
    env: PhantomData<&'env ()>,
}

impl Deref for Tx<'_> {
    type Target = AnyConnection;

    fn deref(&self) -> &AnyConnection {
        &self.inner
    }
}

impl DerefMut for Tx<'_> {
    fn deref_mut(&mut self) -> &mut AnyConnection {
        &mut self.inner
    }
}

impl Store {
    /// Opens the store, takes the locks of state folder and database and brings the schema up to date.
    ///
    /// # Errors
    /// [`StoreError`] when folder or database are in use by another coordinator, the database cannot be opened, or its schema is
    /// newer than this coordinator.
    pub async fn open(options: &StoreOptions) -> Result<Self, StoreError> {
        let folder = lock_folder(&options.state_dir)?;
        let embedded = options.database_url.is_none();
        let url = match &options.database_url {
            Some(url) => url.clone(),
            None => sqlite_url(&options.state_dir.join("coordinator.sqlite")),
        };
        install_default_drivers();
        let first = probe(&url, embedded).await?;
        let database = if embedded { None } else { Some(lock_database(first, &url).await?) };
        let pool = pool(&url, embedded).await?;
        sqlx::migrate!("./migrations").run(&pool).await.map_err(|source| StoreError::Migrate { source })?;
        Ok(Self {
            pool,
            writer: Arc::default(),
            write_begin: embedded.then_some("BEGIN IMMEDIATE"),
            // SQLite reads one snapshot anyway; PostgreSQL would read a newer one with each statement.
            read_begin: (!embedded).then_some("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"),
            _locks: Arc::new(Locks { _folder: folder, _database: database.map(Mutex::new) }),
        })
    }

    /// Runs a transaction that writes. It is durable when this returns `Ok`.
    pub(crate) async fn write<'env, T, F>(&'env self, name: &'static str, work: F) -> Result<T, StoreError>
    where
        F: for<'tx> Fn(&'tx mut Tx<'env>) -> BoxFuture<'tx, Result<T, StoreError>>,
    {
        let _turn = self.writer.lock().await;
        let mut runs = 1;
        loop {
            match self.run(self.write_begin, &work).await {
                Err(error) if error.is_transient() && runs < MAX_RUNS => {
                    runs += 1;
                    tracing::debug!(transaction = name, runs, "transaction collided and is run again");
                }
                outcome => return outcome.map_err(|source| named(name, source)),
            }
        }
    }

    /// Runs a transaction that only reads: one consistent snapshot.
    pub(crate) async fn read<'env, T, F>(&'env self, name: &'static str, work: F) -> Result<T, StoreError>
    where
        F: for<'tx> Fn(&'tx mut Tx<'env>) -> BoxFuture<'tx, Result<T, StoreError>>,
    {
        self.run(self.read_begin, &work).await.map_err(|source| named(name, source))
    }

    async fn run<'env, T, F>(&'env self, begin: Option<&'static str>, work: &F) -> Result<T, StoreError>
    where
        F: for<'tx> Fn(&'tx mut Tx<'env>) -> BoxFuture<'tx, Result<T, StoreError>>,
    {
        let inner = match begin {
            Some(statement) => self.pool.begin_with(statement).await?,
            None => self.pool.begin().await?,
        };
        let mut tx = Tx { inner, env: PhantomData };
        let value = work(&mut tx).await?;
        tx.inner.commit().await?;
        Ok(value)
    }
}

fn named(transaction: &'static str, source: StoreError) -> StoreError {
    StoreError::Transaction { transaction, source: Box::new(source) }
}

fn lock_folder(state_dir: &Path) -> Result<File, StoreError> {
    let failed = |source| StoreError::Folder { path: state_dir.to_owned(), source };
    files::create_private_folder(state_dir).map_err(|error| failed(std::io::Error::other(error)))?;
    let path = state_dir.join("coordinator.lock");
    let file = File::options().create(true).write(true).truncate(false).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(StoreError::InUse { path }),
        Err(std::fs::TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// Percent-encodes what an address would read as its own punctuation.
fn sqlite_url(path: &Path) -> String {
    let mut url = String::from("sqlite://");
    for character in path.to_string_lossy().chars() {
        match character {
            '%' => url.push_str("%25"),
            '?' => url.push_str("%3F"),
            '#' => url.push_str("%23"),
            other => url.push(other),
        }
    }
    url + "?mode=rwc"
}

/// A pool tries again for half a minute; what does not open once is told at once.
async fn probe(url: &str, embedded: bool) -> Result<AnyConnection, StoreError> {
    let mut first = AnyConnection::connect(url).await.map_err(|source| not_opened(url, source))?;
    prepare(&mut first, embedded).await.map_err(|source| not_opened(url, source))?;
    Ok(first)
}

async fn pool(url: &str, embedded: bool) -> Result<AnyPool, StoreError> {
    let options = AnyPoolOptions::new()
        .max_connections(8)
        .after_connect(move |connection, _| Box::pin(prepare(connection, embedded)));
    options.connect(url).await.map_err(|source| not_opened(url, source))
}

/// Keeps other coordinators off the database as long as the connection lives.
async fn lock_database(mut connection: AnyConnection, url: &str) -> Result<AnyConnection, StoreError> {
    let query = sqlx::query("SELECT pg_try_advisory_lock($1) AS locked").bind(DATABASE_LOCK);
    let row = query.fetch_one(&mut connection).await.map_err(|source| not_opened(url, source))?;
    match row.try_get("locked")? {
        true => Ok(connection),
        false => Err(StoreError::DatabaseInUse { url: without_credentials(url) }),
    }
}

fn not_opened(url: &str, source: sqlx::Error) -> StoreError {
    StoreError::Open { url: without_credentials(url), source }
}

/// Sets what SQLite keeps per connection.
async fn prepare(connection: &mut AnyConnection, embedded: bool) -> Result<(), sqlx::Error> {
    const PRAGMAS: [&str; 4] = [
        "PRAGMA journal_mode = WAL",
        "PRAGMA synchronous = FULL",
        "PRAGMA foreign_keys = ON",
        "PRAGMA busy_timeout = 5000",
    ];
    if embedded {
        for pragma in PRAGMAS {
            connection.execute(pragma).await?;
        }
    }
    Ok(())
}

/// Scheme, host and database of an address. Where its punctuation leaves any doubt, the scheme alone.
fn without_credentials(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return "…".to_owned() };
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    if query.contains('@') {
        return format!("{scheme}://…");
    }
    match place.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://…@{host}"),
        None => format!("{scheme}://{place}"),
    }
}

#[cfg(test)]
mod tests;
