//! Gradients, norms, logits and epsilons against independent reference figures, wherever such figures stand.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use fusiondp_tests::shared_data::{checkout, leave_out, shared_folder};
use fusiondp_tests::vectors::{Detail, Finding, check_folder, table};

fn assert_within_limits(folder: &Path, quantities: usize) {
    let findings = check_folder(folder, &|_, _| {}).unwrap();
    println!("{}\n{}", folder.display(), table(&findings, Detail::Worst));
    assert!(findings.iter().all(Finding::holds), "{}", table(&findings, Detail::All));
    assert!(findings.len() >= quantities, "only {} quantities in {}", findings.len(), folder.display());
}

#[test]
fn gradient_vectors_of_the_repository() {
    assert_within_limits(&checkout().join("shared/learn/tests/vectors"), 66);
}

#[test]
fn accounting_vectors_of_the_repository() {
    assert_within_limits(&checkout().join("shared/dp/tests/vectors"), 3);
}

#[test]
fn vectors_of_the_shared_folder() {
    match shared_folder(&checkout()).map(|folder| folder.join("vectors")).filter(|folder| folder.is_dir()) {
        Some(folder) => assert_within_limits(&folder, 69),
        None => leave_out("the shared folder of vectors"),
    }
}
