//! What can go wrong with the store.

use std::path::PathBuf;

/// Why the store did not do something. Nothing of a failed transaction is kept.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be opened.
    #[error(
        "cannot open the database {url}: {source}; check state_dir or database_url and their permissions"
    )]
    Open {
        /// Address without credentials.
        url: String,
        /// What the driver says.
        #[source]
        source: sqlx::Error,
    },
    /// The schema cannot be brought up to date.
    #[error(
        "cannot migrate the database: {source}; a database of a newer coordinator cannot be opened by this one, \
         run that version or restore a backup"
    )]
    Migrate {
        /// What the migrator says.
        #[source]
        source: sqlx::migrate::MigrateError,
    },
    /// Another process has the state folder.
    #[error("{path} is in use by another coordinator; stop it, or give this one another state_dir")]
    InUse {
        /// The lock file.
        path: PathBuf,
    },
    /// Another process has the database.
    #[error("{url} is in use by another coordinator; stop it, or give this one another database")]
    DatabaseInUse {
        /// Address without credentials.
        url: String,
    },
    /// The state folder cannot be used.
    #[error("cannot use the state folder {path}: {source}; create it, writable for the coordinator only")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// A named transaction failed.
    #[error("transaction {transaction} failed: {source}")]
    Transaction {
        /// Its name.
        transaction: &'static str,
        /// Why.
        #[source]
        source: Box<StoreError>,
    },
    /// A statement failed.
    #[error("database: {0}")]
    Database(#[from] sqlx::Error),
    /// A column holds what this version cannot read.
    #[error(
        "column {column} holds an unreadable value: {source}; restore a backup or run the version that wrote it"
    )]
    Column {
        /// The column.
        column: &'static str,
        /// Why it cannot be read.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A row that must exist does not.
    #[error("the store holds no {what}; restore a backup if it was there before")]
    Missing {
        /// What was looked for.
        what: String,
    },
    /// A round edge starts from another phase than the stored one.
    #[error("{edge} found the round in another phase; another process writes to this database, stop it")]
    WrongPhase {
        /// The edge.
        edge: &'static str,
    },
}

impl StoreError {
    /// Whether running the transaction again may succeed.
    pub(super) fn is_transient(&self) -> bool {
        // SQLite: BUSY and LOCKED, also extended; PostgreSQL: serialization failure and deadlock.
        const SQLITE: [&str; 4] = ["5", "6", "517", "262"];
        const POSTGRES: [&str; 2] = ["40001", "40P01"];
        let StoreError::Database(sqlx::Error::Database(error)) = self else { return false };
        error.code().is_some_and(|code| SQLITE.contains(&code.as_ref()) || POSTGRES.contains(&code.as_ref()))
    }

    /// A column that cannot be read.
    pub(super) fn column<E>(column: &'static str, source: E) -> Self
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        StoreError::Column { column, source: source.into() }
    }
}
