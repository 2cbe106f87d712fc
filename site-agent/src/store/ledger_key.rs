//! The key that signs the site's ledger: made once, in a file that only the agent reads, beside the database.

use std::path::{Path, PathBuf};

use fusiondp_dp::{LedgerKey, LedgerPublicKey, SecureRng};
use fusiondp_runtime::files::{FileError, create_private, read_limited};
use sqlx::SqliteConnection;

use super::{Store, StoreError};

/// The key's name in the state folder: the seed, 64 hexadecimal digits.
pub const KEY_FILE: &str = "ledger.key";

/// Longer files are no keys.
const MAX_KEY_BYTES: u64 = 1024;

/// Why the ledger cannot be signed.
#[derive(Debug, thiserror::Error)]
pub enum LedgerKeyError {
    /// The ledger has a key and the file is gone.
    #[error(
        "{}: the ledger's key is missing, and without it the agent can sign nothing; restore the file from a backup, or begin a \
         new state_dir and bring the charges over with `fusiondp-site ledger restore --from FILE --trust-key {public}`",
        path.display()
    )]
    Missing {
        /// The file.
        path: PathBuf,
        /// Public half of the key.
        public: LedgerPublicKey,
    },
    /// The file holds another key.
    #[error("{}: the file holds another key than the ledger is signed with ({public}); restore the right one", path.display())]
    Other {
        /// The file.
        path: PathBuf,
        /// Public half of the ledger's key.
        public: LedgerPublicKey,
    },
    /// The file holds no key.
    #[error("{}: no key of 64 hexadecimal digits; restore the file from a backup", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
}

/// The key of a state folder, made when the ledger has none yet.
pub(super) async fn load_or_create(
    connection: &mut SqliteConnection,
    folder: &Path,
) -> Result<LedgerKey, StoreError> {
    let path = folder.join(KEY_FILE);
    let (public, key) = (public(connection).await?, read(&path)?);
    let key = match (public, key) {
        (Some(public), None) => return Err(LedgerKeyError::Missing { path, public }.into()),
        (Some(public), Some(key)) if key.public() != public => {
            return Err(LedgerKeyError::Other { path, public }.into());
        }
        (_, Some(key)) => key,
        (None, None) => {
            let key = LedgerKey::random(&mut SecureRng::from_os()?);
            create_private(&path, hex::encode(key.seed()).as_bytes()).map_err(LedgerKeyError::from)?;
            key
        }
    };
    keep_public(connection, key.public()).await?;
    Ok(key)
}

/// Notes the public half of a ledger's key.
pub(super) async fn keep_public(
    connection: &mut SqliteConnection,
    public: LedgerPublicKey,
) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO ledger_key (id, public_key) VALUES (1, $1) ON CONFLICT (id) DO NOTHING")
        .bind(public.to_string())
        .execute(connection)
        .await?;
    Ok(())
}

async fn public(connection: &mut SqliteConnection) -> Result<Option<LedgerPublicKey>, StoreError> {
    let text: Option<String> =
        sqlx::query_scalar("SELECT public_key FROM ledger_key").fetch_optional(connection).await?;
    let parse =
        |text: String| text.parse().map_err(|_| StoreError::damaged("ledger_key.public_key", "no key"));
    text.map(parse).transpose()
}

/// `None` if there is no file.
fn read(path: &Path) -> Result<Option<LedgerKey>, LedgerKeyError> {
    let bytes = match read_limited(path, MAX_KEY_BYTES) {
        Ok(bytes) => bytes,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let mut seed = [0; LedgerKey::SEED_BYTES];
    let damaged = |_| LedgerKeyError::Damaged { path: path.to_owned() };
    hex::decode_to_slice(bytes.trim_ascii_end(), &mut seed).map_err(damaged)?;
    Ok(Some(LedgerKey::from_seed(seed)))
}

impl Store {
    /// Public half of the key that this store signs with.
    ///
    /// # Errors
    /// The store was opened to be read.
    pub fn signing_key(&self) -> Result<LedgerPublicKey, StoreError> {
        Ok(self.signer()?.key.public())
    }

    /// Public half of the key that signs this ledger; `None` before an agent has run.
    ///
    /// # Errors
    /// The database fails or is damaged.
    pub async fn ledger_public_key(&self) -> Result<Option<LedgerPublicKey>, StoreError> {
        public(&mut *self.connection().await).await
    }
}
