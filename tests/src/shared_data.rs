//! Where reference data stands that is not part of the repository.

use std::path::{Path, PathBuf};

/// Environment variable that names the folder of shared data.
pub const SHARED_VARIABLE: &str = "FUSIONDP_SHARED";

/// The folder of shared data: `FUSIONDP_SHARED`, else `../shared` beside the checkout, if it exists.
#[must_use]
pub fn shared_folder(checkout: &Path) -> Option<PathBuf> {
    let named = std::env::var_os(SHARED_VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder = named.unwrap_or_else(|| checkout.join("..").join("shared"));
    folder.is_dir().then_some(folder)
}

/// The sepsis files of the shared data: one folder per hospital, `support.csv`.
#[must_use]
pub fn sepsis_folder(checkout: &Path) -> Option<PathBuf> {
    let folder = shared_folder(checkout)?.join("data").join("sepsis");
    folder.join("support.csv").is_file().then_some(folder)
}

/// The Parquet file of each hospital's hourly sepsis records, of A and of B.
#[must_use]
pub fn hourly_sepsis_files(checkout: &Path) -> Option<[PathBuf; 2]> {
    let folder = shared_folder(checkout)?.join("data").join("sepsis").join("hourly");
    let files = ["hospital-a.parquet", "hospital-b.parquet"].map(|name| folder.join(name));
    files.iter().all(|file| file.is_file()).then_some(files)
}

/// The checkout that this crate was compiled in.
#[must_use]
pub fn checkout() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_owned()
}

/// What a test does without data that it needs: with `CI=true` it fails, elsewhere it says so and is left out.
///
/// # Panics
/// With `CI=true`.
pub fn leave_out(what: &str) {
    let ci = std::env::var("CI").is_ok_and(|value| value == "true");
    assert!(!ci, "{what} is missing; with CI=true nothing may be left out (set {SHARED_VARIABLE})");
    println!(
        "left out: {what} is missing (set {SHARED_VARIABLE} or put it beside the checkout as ../shared)"
    );
}
