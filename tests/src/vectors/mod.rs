//! Compares this build with independent reference figures.
//!
//! A folder of vectors holds any number of `*.safetensors` (gradients, norms and logits from PyTorch autograd in double
//! precision) and at most one `accounting.json` (epsilons from dp_accounting). Each file gives a line per quantity with
//! its largest relative error and the limit it must keep.
//!
//! | quantity | limit |
//! |---|---|
//! | logits, hidden layers, norms, clip factors, gradient sums, f64 | 1e-9 |
//! | the same in f32 | 1e-4 |
//! | PLD epsilon, both relations, on the references' own grid of losses | 0.5 % to either side |
//! | PLD epsilon, both relations, on this project's finer grid | 0.5 % above |
//! | RDP epsilon, `zero_out` | 0.5 % above |

mod accounting;
mod gradients;
#[cfg(test)]
mod tests;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;
use thiserror::Error;

/// Largest relative error of the double-precision path.
pub const LIMIT_F64: f64 = 1e-9;
/// Largest relative error of the single-precision path.
pub const LIMIT_F32: f64 = 1e-4;
/// Largest relative difference of an epsilon.
pub const LIMIT_EPSILON: f64 = 0.005;

/// Why vectors could not be checked. A figure beyond its limit is a [`Finding`], not an error.
#[derive(Debug, Error)]
pub enum VectorsError {
    /// No file to check.
    #[error("{} holds neither accounting.json nor a *.safetensors file", path.display())]
    Nothing {
        /// The folder.
        path: PathBuf,
    },
    /// A file could not be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file has another form than documented.
    #[error("{}: {problem}", path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

/// One quantity of one file.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    /// File name.
    pub file: String,
    /// What the limit belongs to: a precision, or an accountant and relation.
    pub group: String,
    /// Quantity compared.
    pub quantity: String,
    /// Largest relative error; for a one-sided limit the largest signed excess.
    pub error: f64,
    /// What it must not exceed.
    pub limit: f64,
}

impl Finding {
    /// Whether the limit is kept. An error that is no number keeps no limit.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.error <= self.limit
    }
}

/// Checks every vector file of a folder. `progress` is called with (done, total) after each unit of work.
///
/// # Errors
/// An empty folder, an unreadable file, or one of another form.
pub fn check_folder(
    folder: &Path,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<Vec<Finding>, VectorsError> {
    let mut findings = Vec::new();
    let files = tensor_files(folder)?;
    let accounting_file = folder.join("accounting.json");
    let with_accounting = accounting_file.is_file();
    if files.is_empty() && !with_accounting {
        return Err(VectorsError::Nothing { path: folder.to_owned() });
    }
    for file in files {
        findings.extend(gradients::check(&file)?);
    }
    if with_accounting {
        findings.extend(accounting::check(&accounting_file, progress)?);
    }
    Ok(findings)
}

fn tensor_files(folder: &Path) -> Result<Vec<PathBuf>, VectorsError> {
    let io = |source| VectorsError::Io { path: folder.to_owned(), source };
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(io)? {
        let path = entry.map_err(io)?.path();
        if path.extension().is_some_and(|extension| extension == "safetensors") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// How much a table shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// Of each group of a file (a precision, an epsilon) the figure nearest to its limit.
    Worst,
    /// Every quantity.
    All,
}

/// A table of findings for people, and a last line that says whether all limits are kept.
#[must_use]
pub fn table(findings: &[Finding], detail: Detail) -> String {
    let shown = match detail {
        Detail::Worst => worst_of_groups(findings),
        Detail::All => findings.iter().collect(),
    };
    let width = |of: fn(&Finding) -> &String| shown.iter().map(|f| of(f).len()).max().unwrap_or(0);
    let (files, groups) = (width(|f| &f.file), width(|f| &f.group));
    let mut text = String::new();
    for finding in &shown {
        let verdict = if finding.holds() { "ok" } else { "TOO LARGE" };
        text.push_str(&format!(
            "{:files$}  {:groups$}  largest relative error {:>9.2e}  limit {:.0e}  {verdict:9}  {}\n",
            finding.file, finding.group, finding.error, finding.limit, finding.quantity
        ));
    }
    let beyond = findings.iter().filter(|finding| !finding.holds()).count();
    text.push_str(&match beyond {
        0 => format!("all {} quantities within their limits\n", findings.len()),
        _ => format!("{beyond} of {} quantities beyond their limits\n", findings.len()),
    });
    text
}

/// The worst finding of each file and group, in the order of first appearance; NaN is worse than any number.
fn worst_of_groups(findings: &[Finding]) -> Vec<&Finding> {
    let mut worst: Vec<&Finding> = Vec::new();
    for finding in findings {
        let same = |other: &Finding| other.file == finding.file && other.group == finding.group;
        match worst.iter_mut().find(|other| same(other)) {
            Some(other) if finding.error.is_nan() || finding.error > other.error => *other = finding,
            Some(_) => {}
            None => worst.push(finding),
        }
    }
    worst
}
