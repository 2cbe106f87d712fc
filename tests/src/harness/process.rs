//! A background process with a log file, ended with its handle.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Child;
use tokio::time::{sleep, timeout};

use super::{CommandLine, HarnessError};

/// A running program. Dropping the handle kills it.
#[derive(Debug)]
pub struct Process {
    name: String,
    log: PathBuf,
    child: Child,
}

impl Process {
    /// Starts `line`; both streams are appended to `log`.
    ///
    /// # Errors
    /// When the log cannot be written or the program does not start.
    pub fn start(name: &str, line: &CommandLine, log: &Path) -> Result<Self, HarnessError> {
        let file = append(log)?;
        let copy = file.try_clone().map_err(HarnessError::io(log))?;
        let child = line
            .command()?
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(copy)
            .spawn()
            .map_err(|source| HarnessError::Start { command: line.to_string(), source })?;
        Ok(Self { name: name.to_owned(), log: log.to_owned(), child })
    }

    /// The log so far.
    #[must_use]
    pub fn log_text(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Log file.
    #[must_use]
    pub fn log_file(&self) -> &Path {
        &self.log
    }

    /// An error if the process has ended.
    ///
    /// # Errors
    /// [`HarnessError::Died`] with the end of the log.
    pub fn check_alive(&mut self) -> Result<(), HarnessError> {
        match self.child.try_wait().map_err(HarnessError::io(&self.log))? {
            None => Ok(()),
            Some(status) => Err(HarnessError::Died {
                name: self.name.clone(),
                status,
                log: self.log.clone(),
                tail: tail(&self.log_text(), 20),
            }),
        }
    }

    /// Waits until the log holds `text`.
    ///
    /// # Errors
    /// When the process ends before, or `limit` passes.
    pub async fn wait_for_log(&mut self, text: &str, limit: Duration) -> Result<(), HarnessError> {
        let waited = timeout(limit, async {
            while !self.log_text().contains(text) {
                self.check_alive()?;
                sleep(Duration::from_millis(20)).await;
            }
            Ok(())
        });
        let waited = waited.await;
        waited.unwrap_or_else(|_| {
            Err(HarnessError::Timeout {
                what: format!("{text:?} in the log of {}", self.name),
                seconds: limit.as_secs(),
                seen: tail(&self.log_text(), 10),
            })
        })
    }

    /// Waits for the process to end by itself.
    ///
    /// # Errors
    /// When `limit` passes.
    pub async fn wait(&mut self, limit: Duration) -> Result<ExitStatus, HarnessError> {
        match timeout(limit, self.child.wait()).await {
            Ok(status) => status.map_err(HarnessError::io(&self.log)),
            Err(_) => Err(HarnessError::Timeout {
                what: format!("{} to end", self.name),
                seconds: limit.as_secs(),
                seen: tail(&self.log_text(), 10),
            }),
        }
    }

    /// Ends the process at once and without warning (SIGKILL), as a crash or a power cut would.
    ///
    /// # Errors
    /// When the system refuses.
    pub async fn kill(mut self) -> Result<(), HarnessError> {
        self.child.kill().await.map_err(HarnessError::io(&self.log))
    }

    /// Asks the process to end (SIGTERM) and waits.
    ///
    /// # Errors
    /// When the system refuses or `limit` passes.
    pub async fn terminate(mut self, limit: Duration) -> Result<ExitStatus, HarnessError> {
        let pid = self.child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        if let Some(pid) = pid {
            kill_process(pid, Signal::TERM).map_err(|e| HarnessError::io(&self.log)(e.into()))?;
        }
        self.wait(limit).await
    }
}

fn append(log: &Path) -> Result<File, HarnessError> {
    if let Some(folder) = log.parent() {
        fs::create_dir_all(folder).map_err(HarnessError::io(folder))?;
    }
    OpenOptions::new().create(true).append(true).open(log).map_err(HarnessError::io(log))
}

fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_is_the_end() {
        assert_eq!(tail("a\nb\nc\n", 2), "b\nc");
        assert_eq!(tail("a", 2), "a");
    }
}
