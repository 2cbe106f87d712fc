//! Computed imputations on disk, so that a restart does not compute them again.
//!
//! An entry holds imputed values only, a function of public features. It is named by a digest over imputer, data and
//! schema, readable by its owner alone, and carries a digest of its own content: a damaged entry is computed anew.
//!
//! ```text
//! magic "FDPIMP1\n" | key, 32 bytes | rows, u64 | columns, u64 | cells, f32 column by column | SHA-256 of all before
//! ```
//! Integers and floats are little-endian.

use std::path::{Path, PathBuf};

use fusiondp_dp::Digest;
use fusiondp_learn::schema::Schema;
use fusiondp_learn::table::ImputedFeatures;
use fusiondp_runtime::files::{FileError, create_private_folder, read_limited, write_private};

const MAGIC: &[u8; 8] = b"FDPIMP1\n";
const HEADER_BYTES: usize = 8 + 32 + 8 + 8;
const DIGEST_BYTES: usize = 32;

/// Entries of one state folder.
#[derive(Debug, Clone)]
pub struct ImputationCache {
    folder: PathBuf,
}

/// Names an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheKey(Digest);

impl CacheKey {
    /// The key of what `imputer` makes of `data` under a schema.
    pub fn new(imputer: Digest, data: Digest, schema: &Schema) -> Self {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(imputer.as_bytes());
        bytes.extend(data.as_bytes());
        // Debug text of a schema shows every field and nothing else, and a schema holds no patient's value.
        bytes.extend(Digest::of(format!("{schema:?}").as_bytes()).as_bytes());
        Self(Digest::of(&bytes))
    }
}

impl ImputationCache {
    /// Entries in a folder, which is made when the first is stored.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// The entry of this key for `rows` records; `None` if there is none, or it is damaged.
    pub fn load(&self, key: CacheKey, schema: &Schema, rows: usize) -> Option<ImputedFeatures> {
        let path = self.path(key);
        let columns = schema.sensitive().count();
        let expected = HEADER_BYTES + rows * columns * 4 + DIGEST_BYTES;
        let bytes = match read_limited(&path, expected as u64) {
            Ok(bytes) => bytes,
            Err(error) if error.is_not_found() => return None,
            Err(_) => return damaged(&path),
        };
        let cells =
            decode(&bytes, key, rows, columns).and_then(|cells| ImputedFeatures::new(schema, cells).ok());
        if cells.is_none() {
            return damaged(&path);
        }
        cells
    }

    /// Stores an entry.
    ///
    /// # Errors
    /// The folder or the file cannot be written.
    pub fn store(&self, key: CacheKey, imputed: &ImputedFeatures) -> Result<(), FileError> {
        create_private_folder(&self.folder)?;
        write_private(&self.path(key), &encode(key, imputed))
    }

    fn path(&self, key: CacheKey) -> PathBuf {
        self.folder.join(format!("imputed-{}.bin", key.0))
    }
}

fn damaged(path: &Path) -> Option<ImputedFeatures> {
    tracing::warn!(
        file = crate::data::csv::file_name(path),
        "cached imputation is damaged and is computed anew"
    );
    None
}

fn encode(key: CacheKey, imputed: &ImputedFeatures) -> Vec<u8> {
    let (rows, columns) = (imputed.rows(), imputed.columns());
    let mut bytes = Vec::with_capacity(HEADER_BYTES + rows * columns * 4 + DIGEST_BYTES);
    bytes.extend(MAGIC);
    bytes.extend(key.0.as_bytes());
    bytes.extend((rows as u64).to_le_bytes());
    bytes.extend((columns as u64).to_le_bytes());
    for column in 0..columns {
        bytes.extend(imputed.column(column).iter().flat_map(|cell| cell.to_le_bytes()));
    }
    let digest = Digest::of(&bytes);
    bytes.extend(digest.as_bytes());
    bytes
}

fn decode(bytes: &[u8], key: CacheKey, rows: usize, columns: usize) -> Option<Vec<Vec<f32>>> {
    let (content, digest) = bytes.split_at_checked(bytes.len().checked_sub(DIGEST_BYTES)?)?;
    let (header, cells) = content.split_at_checked(HEADER_BYTES)?;
    let mut expected = MAGIC.to_vec();
    expected.extend(key.0.as_bytes());
    expected.extend((rows as u64).to_le_bytes());
    expected.extend((columns as u64).to_le_bytes());
    let whole = header == expected && cells.len() == rows * columns * 4;
    if !whole || Digest::of(content).as_bytes() != digest {
        return None;
    }
    let (words, _) = cells.as_chunks::<4>();
    let cells: Vec<f32> = words.iter().map(|word| f32::from_le_bytes(*word)).collect();
    Some((0..columns).map(|column| cells[column * rows..(column + 1) * rows].to_vec()).collect())
}
