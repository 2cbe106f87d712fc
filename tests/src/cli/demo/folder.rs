//! The folder of one demo run: started clean, and only ever removed when an earlier demo made it.

use std::fs;
use std::path::Path;

use anyhow::{Context, bail};

/// File that marks a folder as made by the demo.
pub(super) const MARKER: &str = ".fusiondp-demo";

/// Makes `folder` empty. An earlier demo's folder is removed first.
///
/// # Errors
/// When the folder holds something that no demo made, or the system refuses.
pub(super) fn start_clean(folder: &Path) -> anyhow::Result<()> {
    if folder.join(MARKER).is_file() {
        fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    } else if folder.exists() && fs::read_dir(folder)?.next().is_some() {
        bail!(
            "{} is not empty and was not made by an earlier demo (no file {MARKER}); name another one (--out or --run, make demo OUT=DIR)",
            folder.display()
        );
    }
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let text = "Written by fusiondp-simulate demo; the next demo removes this folder.\n";
    fs::write(folder.join(MARKER), text).with_context(|| format!("cannot write to {}", folder.display()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_earlier_run_is_removed() {
        let root = tempfile::tempdir().unwrap();
        let run = root.path().join("demo-run");
        start_clean(&run).unwrap();
        fs::write(run.join("old"), "").unwrap();
        start_clean(&run).unwrap();
        assert!(!run.join("old").exists() && run.join(MARKER).exists());
    }

    #[test]
    fn a_folder_of_somebody_else_is_left_alone() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("thesis.tex"), "").unwrap();
        let error = start_clean(root.path()).unwrap_err().to_string();
        assert!(error.contains("--out"), "{error}");
        assert!(root.path().join("thesis.tex").exists());
    }
}
