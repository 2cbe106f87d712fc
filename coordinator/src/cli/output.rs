//! Standard output of the commands.
//!
//! `println!` panics when whoever reads the output has gone, as in `study list | head -1`. Here that is an error, which
//! ends the command and which [`reader_has_gone`] tells from a failure.

use std::fmt;
use std::io::{self, Write as _};

/// Standard output does not take more.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to standard output: {0}")]
pub(crate) struct OutputError(#[from] io::Error);

/// Writes to standard output at once.
pub(crate) fn write(text: fmt::Arguments<'_>) -> Result<(), OutputError> {
    let mut output = io::stdout().lock();
    output.write_fmt(text)?;
    Ok(output.flush()?)
}

/// Whether a command ended because nobody reads on, which is no failure.
pub(super) fn reader_has_gone(error: &anyhow::Error) -> bool {
    let output = error.downcast_ref::<OutputError>();
    output.is_some_and(|OutputError(cause)| cause.kind() == io::ErrorKind::BrokenPipe)
}

/// `print!` that returns an [`OutputError`] where `print!` panics.
macro_rules! out {
    ($($argument:tt)*) => { $crate::cli::output::write(format_args!($($argument)*)) };
}

/// `println!` that returns an [`OutputError`] where `println!` panics.
macro_rules! outln {
    () => { $crate::cli::output::write(format_args!("\n")) };
    ($($argument:tt)*) => { $crate::cli::output::write(format_args!("{}\n", format_args!($($argument)*))) };
}

pub(crate) use {out, outln};
