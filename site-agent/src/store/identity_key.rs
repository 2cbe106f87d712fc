//! The secret that keys identities which follow from the data.

use sqlx::SqliteConnection;

use super::{Store, StoreError};
use crate::data::identity::IdentityKey;

impl Store {
    /// The key of this state folder, made on first use.
    ///
    /// # Errors
    /// The database fails or is damaged, or the operating system gives no randomness.
    pub async fn identity_key(&self) -> Result<IdentityKey, StoreError> {
        let mut connection = self.connection().await;
        if let Some(key) = stored(&mut connection).await? {
            return Ok(key);
        }
        let key = IdentityKey::random()?;
        sqlx::query("INSERT INTO identity_key (id, key) VALUES (1, $1)")
            .bind(key.as_bytes())
            .execute(&mut *connection)
            .await?;
        Ok(key)
    }
}

async fn stored(connection: &mut SqliteConnection) -> Result<Option<IdentityKey>, StoreError> {
    let key: Option<Vec<u8>> =
        sqlx::query_scalar("SELECT key FROM identity_key").fetch_optional(connection).await?;
    let parse = |key: Vec<u8>| {
        key.try_into().map_err(|_| StoreError::damaged("identity_key.key", "of another length than 32 bytes"))
    };
    Ok(key.map(parse).transpose()?.map(IdentityKey::from_bytes))
}
