//! A command as a user would type it, and where its program lies.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Output;

use tokio::process::Command;

use super::HarnessError;

/// A command line of one of the project's programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandLine {
    program: &'static str,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
}

impl CommandLine {
    /// `program` without arguments.
    #[must_use]
    pub fn new(program: &'static str) -> Self {
        Self { program, arguments: Vec::new(), environment: Vec::new() }
    }

    /// Adds several arguments.
    #[must_use]
    pub fn args<I: IntoIterator<Item: AsRef<OsStr>>>(mut self, arguments: I) -> Self {
        self.arguments.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Ready to start.
    ///
    /// # Errors
    /// [`HarnessError::NoBinary`] when the program has not been built.
    pub fn command(&self) -> Result<Command, HarnessError> {
        let mut command = Command::new(binary(self.program)?);
        command.args(&self.arguments).envs(self.environment.iter().cloned());
        command.kill_on_drop(true);
        Ok(command)
    }

    /// Runs to the end and returns what it said.
    ///
    /// # Errors
    /// When the program is missing or does not start. An exit code other than 0 is not an error here.
    pub async fn output(&self) -> Result<Output, HarnessError> {
        let output = self.command()?.stdin(std::process::Stdio::null()).output().await;
        output.map_err(|source| HarnessError::Start { command: self.to_string(), source })
    }

    /// Runs to the end and returns standard output.
    ///
    /// # Errors
    /// [`HarnessError::Failed`] with standard error when the exit code is not 0.
    pub async fn stdout(&self) -> Result<String, HarnessError> {
        let output = self.output().await?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(HarnessError::Failed {
            command: self.to_string(),
            status: output.status,
            said: both_streams(&output),
        })
    }

    /// Runs to the end on this process's own terminal.
    ///
    /// # Errors
    /// [`HarnessError::Failed`] when the exit code is not 0.
    pub async fn run(&self) -> Result<(), HarnessError> {
        let status = self.command()?.status().await;
        let status = status.map_err(|source| HarnessError::Start { command: self.to_string(), source })?;
        if status.success() {
            return Ok(());
        }
        Err(HarnessError::Failed { command: self.to_string(), status, said: String::new() })
    }
}

/// Standard output and error of a finished program as one text.
#[must_use]
pub fn both_streams(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

impl fmt::Display for CommandLine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in &self.environment {
            write!(formatter, "{}={} ", name.display(), quoted(value))?;
        }
        formatter.write_str(self.program)?;
        for argument in &self.arguments {
            write!(formatter, " {}", quoted(argument))?;
        }
        Ok(())
    }
}

fn quoted(argument: &OsStr) -> String {
    let text = argument.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.into_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Path of a built program: beside the running executable, or one folder up (test executables lie in `deps`).
///
/// # Errors
/// [`HarnessError::NoBinary`] when it has not been built.
pub fn binary(name: &'static str) -> Result<PathBuf, HarnessError> {
    let executable = std::env::current_exe().unwrap_or_default();
    let folders = executable.ancestors().skip(1).take(2).map(Path::to_owned).collect::<Vec<_>>();
    folders
        .iter()
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
        .ok_or(HarnessError::NoBinary { name, folders })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_read_as_a_shell_takes_them() {
        let line = CommandLine::new("fusiondp-site").args(["run", "--config"]).arg("my site/it's.toml");
        assert_eq!(line.to_string(), r"fusiondp-site run --config 'my site/it'\''s.toml'");
        assert_eq!(CommandLine::new("x").env("A", "b c").arg("").to_string(), "A='b c' x ''");
    }
}
