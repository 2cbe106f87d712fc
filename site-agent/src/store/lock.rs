//! One agent per state folder.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use super::StoreError;

const LOCK_FILE: &str = "agent.lock";

/// Attempts at the lock and the wait between them: whoever asks for the holder has the lock for a moment.
const ATTEMPTS: (u32, Duration) = (5, Duration::from_millis(40));

/// Held for as long as the value lives; the system lets go of it when the process ends, however it ends.
pub(super) struct StateLock {
    _file: File,
}

impl StateLock {
    pub(super) async fn take(folder: &Path) -> Result<Self, StoreError> {
        for _ in 1..ATTEMPTS.0 {
            match Self::try_take(folder) {
                Err(StoreError::Locked { .. }) => tokio::time::sleep(ATTEMPTS.1).await,
                outcome => return outcome,
            }
        }
        Self::try_take(folder)
    }

    fn try_take(folder: &Path) -> Result<Self, StoreError> {
        let path = folder.join(LOCK_FILE);
        let failed = |source| StoreError::Lock { path: path.clone(), source };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(StoreError::Locked { folder: folder.to_owned(), holder: holder(&mut file) });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        // The id is for people only, so a failure to write it does not matter to the lock.
        let written = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| write!(file, "{}", std::process::id()))
            .and_then(|()| file.flush());
        if let Err(error) = written {
            tracing::debug!(%error, "process id not written to the lock file");
        }
        Ok(Self { _file: file })
    }
}

/// Who holds the folder's lock; `None` if nobody does.
pub(super) fn holder_of(folder: &Path) -> Result<Option<String>, StoreError> {
    let path = folder.join(LOCK_FILE);
    let failed = |source| StoreError::Lock { path: path.clone(), source };
    let mut file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(None),
        Err(TryLockError::WouldBlock) => Ok(Some(holder(&mut file))),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

fn holder(file: &mut File) -> String {
    let mut text = String::new();
    match file.take(20).read_to_string(&mut text) {
        Ok(_) if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => text,
        _ => "unknown".to_owned(),
    }
}
