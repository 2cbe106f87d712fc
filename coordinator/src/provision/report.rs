//! What a provisioning run did, for people.

use std::fmt;
use std::path::{Path, PathBuf};

/// What a run of [`provision`](super::provision) found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProvisionReport {
    out: PathBuf,
    created: Vec<PathBuf>,
    updated: Vec<PathBuf>,
    kept: usize,
    removed_sites: Vec<String>,
    leftovers: Vec<PathBuf>,
    warnings: Vec<String>,
}

impl ProvisionReport {
    pub(super) fn new(out: &Path) -> Self {
        Self { out: out.to_owned(), ..Self::default() }
    }

    pub(super) fn created(&mut self, path: &Path) {
        self.created.push(path.to_owned());
    }

    pub(super) fn updated(&mut self, path: &Path) {
        self.updated.push(path.to_owned());
    }

    pub(super) fn kept(&mut self) {
        self.kept += 1;
    }

    pub(super) fn removed_site(&mut self, id: String) {
        self.removed_sites.push(id);
    }

    pub(super) fn leftover(&mut self, path: PathBuf) {
        self.leftovers.push(path);
    }

    pub(super) fn warning(&mut self, text: String) {
        self.warnings.push(text);
    }

    /// Files that did not exist before.
    #[must_use]
    pub fn created_files(&self) -> &[PathBuf] {
        &self.created
    }

    /// Files that were replaced: only ever the coordinator's copy of the consortium file.
    #[must_use]
    pub fn updated_files(&self) -> &[PathBuf] {
        &self.updated
    }

    /// How many files were there already and stayed as they were.
    #[must_use]
    pub fn kept_files(&self) -> usize {
        self.kept
    }

    /// Sites that have a kit but stand no longer in the consortium file. Their kits stay; the coordinator admits them no
    /// more once it is restarted with its new list.
    #[must_use]
    pub fn removed_sites(&self) -> &[String] {
        &self.removed_sites
    }

    /// Unfinished files of an interrupted run, which may be deleted.
    #[must_use]
    pub fn leftover_files(&self) -> &[PathBuf] {
        &self.leftovers
    }

    /// What a person should look at, one line each.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

impl fmt::Display for ProvisionReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let relative = |path: &Path| path.strip_prefix(&self.out).unwrap_or(path).display().to_string();
        for path in &self.created {
            writeln!(f, "created  {}", relative(path))?;
        }
        for path in &self.updated {
            writeln!(f, "updated  {} (restart the coordinator to apply it)", relative(path))?;
        }
        for id in &self.removed_sites {
            writeln!(
                f,
                "removed  {id} is not in the consortium file; its kit stays, delete sites/{id} if it is gone"
            )?;
        }
        for path in &self.leftovers {
            writeln!(f, "leftover {} is unfinished, from an interrupted run; delete it", relative(path))?;
        }
        for warning in &self.warnings {
            writeln!(f, "warning  {warning}")?;
        }
        let (created, kept) = (self.created.len(), self.kept);
        write!(f, "{}: {created} files created, {kept} kept as they were", self.out.display())
    }
}
