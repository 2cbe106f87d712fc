//! What a command says on standard output and standard error, and how it tells an error.
//!
//! `println!` panics when whoever reads the output has gone, as in `study list | head -1`. [`out!`](crate::out) and
//! [`outln!`](crate::outln) return an [`OutputError`] instead, which ends the command and which [`reader_has_gone`]
//! tells from a failure. [`errln!`](crate::errln) goes on where `eprintln!` panics: what nobody reads is no reason to stop.

use std::error::Error;
use std::fmt;
use std::io::{self, Write as _};
use std::process::ExitCode;

use crate::errln;

/// Standard output does not take more.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to standard output: {0}")]
pub struct OutputError(#[from] io::Error);

/// Writes to standard output at once; [`out!`](crate::out) in the form of a function.
///
/// # Errors
/// [`OutputError`] when standard output is closed or its device is full.
pub fn write(text: fmt::Arguments<'_>) -> Result<(), OutputError> {
    let mut output = io::stdout().lock();
    output.write_fmt(text)?;
    Ok(output.flush()?)
}

/// Writes a line to standard error, if it can be written; [`errln!`](crate::errln) in the form of a function.
pub fn note(text: fmt::Arguments<'_>) {
    // A closed standard error leaves nowhere to say so.
    let _ = io::stderr().lock().write_fmt(text);
}

/// The exit code of a command that ended with an error, after one line about it on standard error. That nobody reads
/// the output any more is no failure.
pub fn exit_code(error: &(dyn Error + 'static), failure: ExitCode) -> ExitCode {
    if reader_has_gone(error) {
        return ExitCode::SUCCESS;
    }
    errln!("error: {}", one_line(error));
    failure
}

/// Whether a command ended because nobody reads on, which is no failure.
#[must_use]
pub fn reader_has_gone(error: &(dyn Error + 'static)) -> bool {
    causes(error)
        .filter_map(|cause| cause.downcast_ref::<OutputError>())
        .any(|OutputError(cause)| cause.kind() == io::ErrorKind::BrokenPipe)
}

/// An error with its causes in one line. A cause that the line quotes already is not told again.
#[must_use]
pub fn one_line(error: &(dyn Error + 'static)) -> String {
    let mut line = String::new();
    for cause in causes(error).map(ToString::to_string) {
        if line.is_empty() {
            line = cause;
        } else if !line.contains(&cause) {
            line.push_str(": ");
            line.push_str(&cause);
        }
    }
    line
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

/// `print!` that returns an [`OutputError`] where `print!` panics.
#[macro_export]
macro_rules! out {
    ($($argument:tt)*) => { $crate::console::write(format_args!($($argument)*)) };
}

/// `println!` that returns an [`OutputError`](crate::console::OutputError) where `println!` panics.
#[macro_export]
macro_rules! outln {
    () => { $crate::console::write(format_args!("\n")) };
    ($($argument:tt)*) => { $crate::console::write(format_args!("{}\n", format_args!($($argument)*))) };
}

/// `eprintln!` that does without where `eprintln!` panics.
#[macro_export]
macro_rules! errln {
    ($($argument:tt)*) => { $crate::console::note(format_args!("{}\n", format_args!($($argument)*))) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Told {
        text: &'static str,
        source: Option<Box<dyn Error + Send + Sync>>,
    }

    fn told(text: &'static str, source: impl Into<Box<dyn Error + Send + Sync>>) -> Told {
        Told { text, source: Some(source.into()) }
    }

    #[test]
    fn causes_are_said_once() {
        let cause = Told { text: "disk full", source: None };
        let error = told("saving", told("cannot write x: disk full", cause));
        assert_eq!(one_line(&error), "saving: cannot write x: disk full");
    }

    #[test]
    fn a_closed_pipe_is_told_from_a_full_disk_below_any_context() {
        let failed = |kind: io::ErrorKind| told("listing", OutputError(kind.into()));
        assert!(reader_has_gone(&failed(io::ErrorKind::BrokenPipe)));
        assert!(!reader_has_gone(&failed(io::ErrorKind::StorageFull)));
        // A pipe to another process that breaks is a failure like any other.
        assert!(!reader_has_gone(&told("running", io::Error::from(io::ErrorKind::BrokenPipe))));
    }
}
