//! Writing files so that a crash leaves the old content or the new, never half of either, and keys to their owner alone.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rand::TryRng;
use rand::rngs::SysRng;

/// End of the name of a file that is being written; one that is left over tells of a crash and may be deleted.
pub const PARTIAL_SUFFIX: &str = ".partial";

/// Mode of files that only their owner may read.
const PRIVATE_FILE: u32 = 0o600;
/// Mode of other files, before the umask.
const SHARED_FILE: u32 = 0o644;
/// Mode of folders that only their owner may enter.
const PRIVATE_FOLDER: u32 = 0o700;

/// Why a file could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The operating system refused to read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The operating system refused to write.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// Which file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// More bytes than the reader is willing to take.
    #[error("{} is larger than {limit_bytes} bytes; is it the right file?", path.display())]
    TooLarge {
        /// Which file.
        path: PathBuf,
        /// The limit.
        limit_bytes: u64,
    },
    /// A file that must not be replaced is there.
    #[error("{} exists already and is not replaced", path.display())]
    Exists {
        /// Which file.
        path: PathBuf,
    },
}

impl FileError {
    /// Whether the file was not there.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Read { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// Replaces the file's content in one step and waits until the disk has it.
///
/// # Errors
/// [`FileError::Write`].
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    write(path, bytes, SHARED_FILE, Existing::Replace)
}

/// Like [`write_atomic`], with a file that only its owner can read (0600) from its first byte on.
///
/// # Errors
/// [`FileError::Write`].
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    write(path, bytes, PRIVATE_FILE, Existing::Replace)
}

/// Like [`write_atomic`], but refuses to replace a file.
///
/// # Errors
/// [`FileError::Exists`], [`FileError::Write`].
pub fn create_atomic(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    write(path, bytes, SHARED_FILE, Existing::Keep)
}

/// Like [`write_private`], but refuses to replace a file.
///
/// # Errors
/// [`FileError::Exists`], [`FileError::Write`].
pub fn create_private(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    write(path, bytes, PRIVATE_FILE, Existing::Keep)
}

/// Creates a folder, and those above it, that only its owner can enter (0700). A folder that exists stays as it is.
///
/// # Errors
/// [`FileError::Write`].
pub fn create_private_folder(path: &Path) -> Result<(), FileError> {
    DirBuilder::new()
        .recursive(true)
        .mode(PRIVATE_FOLDER)
        .create(path)
        .map_err(|source| FileError::Write { path: path.to_owned(), source })
}

/// Reads a whole file of at most `limit_bytes`.
///
/// # Errors
/// [`FileError::Read`], [`FileError::TooLarge`].
pub fn read_limited(path: &Path, limit_bytes: u64) -> Result<Vec<u8>, FileError> {
    let failed = |source| FileError::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(limit_bytes.saturating_add(1)).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > limit_bytes {
        return Err(FileError::TooLarge { path: path.to_owned(), limit_bytes });
    }
    Ok(bytes)
}

/// What to do about a file that is there.
#[derive(Clone, Copy)]
enum Existing {
    Replace,
    Keep,
}

fn write(path: &Path, bytes: &[u8], mode: u32, existing: Existing) -> Result<(), FileError> {
    let failed = |source| FileError::Write { path: path.to_owned(), source };
    let partial = partial_path(path).map_err(failed)?;
    write_by_way_of(&partial, path, bytes, (mode, existing))
}

fn write_by_way_of(
    partial: &Path,
    path: &Path,
    bytes: &[u8],
    (mode, existing): (u32, Existing),
) -> Result<(), FileError> {
    let failed = |source| FileError::Write { path: path.to_owned(), source };
    // Whoever has a file of this name is still writing it, so it stays.
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(partial).map_err(failed)?;
    let outcome = write_synced(file, bytes).map_err(failed).and_then(|()| publish(partial, path, existing));
    if outcome.is_err() {
        // The first error is the one to report; a file that stays behind carries a telling name.
        let _ = fs::remove_file(partial);
    }
    outcome
}

fn write_synced(mut file: File, bytes: &[u8]) -> io::Result<()> {
    file.write_all(bytes)?;
    file.sync_all()
}

fn publish(partial: &Path, path: &Path, existing: Existing) -> Result<(), FileError> {
    let failed = |source| FileError::Write { path: path.to_owned(), source };
    match existing {
        Existing::Replace => fs::rename(partial, path).map_err(failed)?,
        Existing::Keep => {
            // A rename would replace; a second link to the same content cannot.
            fs::hard_link(partial, path).map_err(|source| match source.kind() {
                io::ErrorKind::AlreadyExists => FileError::Exists { path: path.to_owned() },
                _ => failed(source),
            })?;
            fs::remove_file(partial).map_err(failed)?;
        }
    }
    File::open(folder_of(path)).and_then(|folder| folder.sync_all()).map_err(failed)
}

/// A name beside the target that no other writer uses, whatever machine or container shares the folder.
fn partial_path(path: &Path) -> io::Result<PathBuf> {
    let name =
        path.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "not a file name"))?;
    let mut random = [0; 8];
    SysRng.try_fill_bytes(&mut random).map_err(io::Error::other)?;
    let name = format!(".{}.{}{PARTIAL_SUFFIX}", name.to_string_lossy(), hex::encode(random));
    Ok(folder_of(path).join(name))
}

/// The folder that a file is in; the current one for a bare name.
#[must_use]
pub fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn private_files_belong_to_their_owner_also_after_a_rewrite() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret.key");
        fs::write(&path, "old, readable by everybody").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        write_private(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(mode(&path), 0o600);
    }

    #[test]
    fn creating_never_replaces_and_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.key");
        create_private(&path, b"first").unwrap();
        let error = create_private(&path, b"second").unwrap_err();
        assert!(matches!(error, FileError::Exists { .. }), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"first");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_write_replaces_in_one_step() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.json");
        write_atomic(&path, b"one").unwrap();
        write_atomic(&path, b"two").unwrap();
        create_atomic(&folder.path().join("other"), b"x").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_partial_file_of_another_writer_stays() {
        let folder = tempfile::tempdir().unwrap();
        let (path, partial) = (folder.path().join("model"), folder.path().join(".model.7.partial"));
        fs::write(&partial, "half of it").unwrap();
        for existing in [Existing::Replace, Existing::Keep] {
            let error = write_by_way_of(&partial, &path, b"mine", (SHARED_FILE, existing)).unwrap_err();
            assert!(matches!(error, FileError::Write { .. }), "{error}");
        }
        assert_eq!(fs::read(&partial).unwrap(), b"half of it");
        assert!(!path.exists());
        assert_ne!(partial_path(&path).unwrap(), partial_path(&path).unwrap());
    }

    #[test]
    fn folders_are_private_and_errors_name_the_path() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("a/b");
        create_private_folder(&inner).unwrap();
        assert_eq!((mode(&inner), mode(inner.parent().unwrap())), (0o700, 0o700));
        let error = write_atomic(&folder.path().join("missing/x"), b"").unwrap_err();
        assert!(error.to_string().contains("missing/x"), "{error}");
    }

    #[test]
    fn reading_has_a_limit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        fs::write(&path, [0; 10]).unwrap();
        assert_eq!(read_limited(&path, 10).unwrap().len(), 10);
        assert!(matches!(read_limited(&path, 9), Err(FileError::TooLarge { limit_bytes: 9, .. })));
        assert!(read_limited(&folder.path().join("none"), 9).unwrap_err().is_not_found());
    }
}
