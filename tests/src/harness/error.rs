//! Why a federation of processes could not be set up or driven.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;

use thiserror::Error;

/// Why a federation of processes could not be set up or driven.
#[derive(Debug, Error)]
pub enum HarnessError {
    /// A program is not where the build puts it.
    #[error("{name} is not built (looked in {folders:?}); run `make build`")]
    NoBinary {
        /// Program.
        name: &'static str,
        /// Folders looked in.
        folders: Vec<PathBuf>,
    },
    /// A program did not start.
    #[error("`{command}` did not start: {source}")]
    Start {
        /// As typed.
        command: String,
        /// What the system said.
        source: io::Error,
    },
    /// A program ended with an error.
    #[error("`{command}` ended with {status}{}", said_lines(said))]
    Failed {
        /// As typed.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// What it said.
        said: String,
    },
    /// A background process ended although it was still needed.
    #[error("{name} ended with {status}; the end of its log {}:\n{tail}", log.display())]
    Died {
        /// Process.
        name: String,
        /// How it ended.
        status: ExitStatus,
        /// Log file.
        log: PathBuf,
        /// Last lines of the log.
        tail: String,
    },
    /// Something did not happen in time.
    #[error("waited {seconds} s for {what}: {seen}")]
    Timeout {
        /// What was awaited.
        what: String,
        /// How long, in seconds.
        seconds: u64,
        /// What was seen last.
        seen: String,
    },
    /// The port for the coordinator cannot be used.
    #[error(
        "port {port} on 127.0.0.1 cannot be used: {source}; stop what uses it or choose another with --port (make demo PORT=n)"
    )]
    Port {
        /// Port.
        port: u16,
        /// What the system said.
        source: io::Error,
    },
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file or an answer did not have the expected form.
    #[error("{what}: {problem}")]
    Form {
        /// File or command.
        what: String,
        /// What is wrong.
        problem: String,
    },
}

impl HarnessError {
    /// An unreadable or unwritable file.
    pub fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }

    /// An unexpected form.
    pub fn form(what: impl ToString, problem: impl ToString) -> Self {
        Self::Form { what: what.to_string(), problem: problem.to_string() }
    }
}

fn said_lines(said: &str) -> String {
    if said.trim().is_empty() { String::new() } else { format!(":\n{}", said.trim_end()) }
}
