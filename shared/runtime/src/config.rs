//! Strict configuration: one TOML file, and environment variables over it.
//!
//! Strict means: an unknown field, a fraction where an integer belongs, a truth value where a number belongs, and `nan`
//! or `inf` anywhere are errors that name the field. Settings structs take part with `#[serde(deny_unknown_fields)]` and
//! validated newtypes.
//!
//! The variable `FUSIONDP_SITE__POLICY__MIN_UNITS=50` sets `min_units` of section `[policy]` for the prefix
//! `FUSIONDP_SITE`: two underscores separate levels, case does not matter. Its text is read as a TOML value where it is
//! one (`50`, `true`, `"50"`, `["a", "b"]`), else as text, and then held to the same rules as the file. A variable with
//! one underscore after the prefix is an error: who wrote `FUSIONDP_SITE_POLICY__MIN_UNITS` must not run without it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use config::Source;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use crate::files::{FileError, read_limited};

/// Larger files are no configuration.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Between the levels of a variable's name.
const LEVEL_SEPARATOR: &str = "__";

/// How the names go on that Kubernetes and Docker set for a service called like the prefix.
const SERVICE_NAMES: [&str; 3] = ["SERVICE_HOST", "SERVICE_PORT", "PORT"];

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file is not UTF-8.
    #[error("{}: not UTF-8 text; save it as UTF-8", file.display())]
    NotText {
        /// Which file.
        file: PathBuf,
    },
    /// The file is not TOML.
    #[error("{}, line {line}: not TOML: {problem}", file.display())]
    Syntax {
        /// Which file.
        file: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What is wrong, without the line's content: it may hold a secret.
        problem: String,
    },
    /// A field has a wrong value, is missing or is unknown.
    #[error("{origin}: {}{problem}", field_prefix(field))]
    Field {
        /// File or environment variable that set it.
        origin: String,
        /// Path of the field, for example `policy.min_units`; empty for the whole document.
        field: String,
        /// What is wrong, what is expected.
        problem: String,
    },
    /// The environment holds a variable of ours that is not UTF-8.
    #[error("an environment variable beginning with {prefix}{LEVEL_SEPARATOR} is not UTF-8 text; unset it")]
    Environment {
        /// Prefix of the variables.
        prefix: String,
    },
    /// A variable that looks like an override and is none.
    #[error(
        "environment variable {name} sets nothing; write two underscores after {prefix} and between levels, or unset it"
    )]
    Variable {
        /// The variable.
        name: String,
        /// What overrides begin with, without underscores.
        prefix: String,
    },
}

fn field_prefix(field: &str) -> String {
    if field.is_empty() { String::new() } else { format!("`{field}`: ") }
}

/// Where overrides come from.
#[derive(Clone, Debug)]
pub struct Environment {
    prefix: String,
    /// `None`: the process's own variables.
    variables: Option<HashMap<String, String>>,
    /// Names with the prefix that somebody else reads.
    others: &'static [&'static str],
}

impl Environment {
    /// The process's variables that begin with `<prefix>__`.
    #[must_use]
    pub fn of_process(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned(), variables: None, others: &[] }
    }

    /// Given variables in place of the process's, for tests and embedding.
    #[must_use]
    pub fn given(prefix: &str, variables: HashMap<String, String>) -> Self {
        Self { prefix: prefix.to_owned(), variables: Some(variables), others: &[] }
    }

    /// Permits variables that begin with the prefix but belong to somebody else, for example to the command line.
    #[must_use]
    pub fn besides(self, others: &'static [&'static str]) -> Self {
        Self { others, ..self }
    }

    /// Refuses variables that were meant as overrides but would be passed over.
    fn check_names(&self) -> Result<(), ConfigError> {
        let names: Vec<String> = match &self.variables {
            Some(variables) => variables.keys().cloned().collect(),
            None => std::env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned()).collect(),
        };
        match names.into_iter().filter(|name| self.is_misspelled(name)).min() {
            Some(name) => Err(ConfigError::Variable { name, prefix: self.prefix.clone() }),
            None => Ok(()),
        }
    }

    /// Whether a name begins with `<prefix>_`, but not with two underscores, and is nobody's.
    fn is_misspelled(&self, name: &str) -> bool {
        let name = name.to_uppercase();
        let rest = name.strip_prefix(&self.prefix.to_uppercase()).and_then(|rest| rest.strip_prefix('_'));
        rest.is_some_and(|rest| {
            let of_a_service = SERVICE_NAMES.iter().any(|start| {
                rest.strip_prefix(start).is_some_and(|end| end.is_empty() || end.starts_with('_'))
            });
            !rest.starts_with('_') && !of_a_service && !self.others.contains(&name.as_str())
        })
    }

    /// Overrides as (field path, text), in a fixed order.
    fn overrides(&self) -> Result<Vec<(String, String)>, ConfigError> {
        self.check_names()?;
        let source = config::Environment::with_prefix(&self.prefix)
            .prefix_separator(LEVEL_SEPARATOR)
            .separator(LEVEL_SEPARATOR)
            .source(self.variables.clone().map(|variables| variables.into_iter().collect()));
        let unreadable = |_| ConfigError::Environment { prefix: self.prefix.clone() };
        let mut overrides = source
            .collect()
            .map_err(unreadable)?
            .into_iter()
            .map(|(field, value)| Ok((field, value.into_string().map_err(unreadable)?)))
            .collect::<Result<Vec<_>, ConfigError>>()?;
        overrides.sort();
        Ok(overrides)
    }

    fn variable_of(&self, field: &str) -> String {
        let path = field.replace('.', LEVEL_SEPARATOR).to_uppercase();
        format!("environment variable {}{LEVEL_SEPARATOR}{path}", self.prefix)
    }
}

/// Reads a configuration file with the process's `<env_prefix>__…` variables over it.
///
/// # Errors
/// [`ConfigError`], naming the file or variable, the field, what is wrong and what is expected.
pub fn load<T: DeserializeOwned>(path: &Path, env_prefix: &str) -> Result<T, ConfigError> {
    load_layered(path, &Environment::of_process(env_prefix))
}

/// Reads a configuration file with overrides from the given environment.
///
/// # Errors
/// As [`load`].
pub fn load_layered<T: DeserializeOwned>(path: &Path, environment: &Environment) -> Result<T, ConfigError> {
    let mut table = read_table(path)?;
    let mut set_by_variable = Vec::new();
    for (field, text) in environment.overrides()? {
        set_field(&mut table, &field, &text).map_err(|problem| ConfigError::Field {
            origin: environment.variable_of(&field),
            field: field.clone(),
            problem,
        })?;
        set_by_variable.push(field);
    }
    deserialize(table, |field| match set_by_variable.iter().find(|set| covers(set, field)) {
        Some(set) => environment.variable_of(set),
        None => path.display().to_string(),
    })
}

/// Reads a TOML file by the same strict rules, without environment variables.
///
/// # Errors
/// As [`load`].
pub fn load_file<T: DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    deserialize(read_table(path)?, |_| path.display().to_string())
}

/// A path from a configuration file: relative paths count from the folder `base`, which is the file's.
#[must_use]
pub fn resolve(base: &Path, path: &Path) -> PathBuf {
    base.join(path)
}

fn read_table(path: &Path) -> Result<Table, ConfigError> {
    let bytes = read_limited(path, MAX_FILE_BYTES)?;
    let text = String::from_utf8(bytes).map_err(|_| ConfigError::NotText { file: path.to_owned() })?;
    text.parse::<Table>().map_err(|error| ConfigError::Syntax {
        file: path.to_owned(),
        line: line_of(&text, error.span().map_or(0, |span| span.start)),
        problem: error.message().to_owned(),
    })
}

fn line_of(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}

fn set_field(table: &mut Table, field: &str, text: &str) -> Result<(), String> {
    let value = text.parse::<Value>().unwrap_or_else(|_| Value::String(text.to_owned()));
    let mut levels = field.split('.').collect::<Vec<_>>();
    let last = levels.pop().filter(|name| !name.is_empty()).ok_or("names no field")?;
    let mut section = table;
    for level in levels {
        section = section
            .entry(level)
            .or_insert_with(|| Value::Table(Table::new()))
            .as_table_mut()
            .ok_or_else(|| format!("`{level}` is a value, not a section"))?;
    }
    section.insert(last.to_owned(), value);
    Ok(())
}

fn covers(set: &str, field: &str) -> bool {
    field.strip_prefix(set).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

fn deserialize<T: DeserializeOwned>(table: Table, origin: impl Fn(&str) -> String) -> Result<T, ConfigError> {
    let refuse =
        |field: String, problem: String| ConfigError::Field { origin: origin(&field), field, problem };
    let table = Value::Table(table);
    if let Some(field) = non_finite("", &table) {
        return Err(refuse(field, "must be a finite number".to_owned()));
    }
    serde_path_to_error::deserialize(table).map_err(|error| {
        let field = error.path().to_string();
        let field = if field == "." { String::new() } else { field };
        refuse(field, problem_text(error.inner()))
    })
}

/// The path of the first `nan` or `inf`.
fn non_finite(path: &str, value: &Value) -> Option<String> {
    match value {
        Value::Float(number) if !number.is_finite() => Some(path.to_owned()),
        Value::Array(items) => {
            items.iter().enumerate().find_map(|(index, item)| non_finite(&format!("{path}[{index}]"), item))
        }
        Value::Table(table) => table.iter().find_map(|(name, item)| {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            non_finite(&path, item)
        }),
        _ => None,
    }
}

fn problem_text(error: &toml::de::Error) -> String {
    let message = error.message().trim();
    let hint = if message.starts_with("invalid type:") && message.ends_with("expected a string") {
        "; put it in double quotes"
    } else if message.starts_with("missing field") {
        "; it has no default, so add a line that sets it"
    } else {
        ""
    };
    format!("{message}{hint}")
}

#[cfg(test)]
mod tests;
