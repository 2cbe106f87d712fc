#![allow(clippy::unwrap_used)]

use super::*;

fn finding(error: f64) -> Finding {
    Finding { file: "a".to_owned(), group: "f64".to_owned(), quantity: "q".to_owned(), error, limit: 0.005 }
}

#[test]
fn a_figure_that_is_no_number_keeps_no_limit() {
    assert!(finding(0.005).holds());
    assert!(finding(-1.0).holds());
    assert!(!finding(0.0051).holds());
    assert!(!finding(f64::NAN).holds());
}

#[test]
fn the_table_counts_what_is_beyond() {
    let text = table(&[finding(0.001), finding(0.1)], Detail::All);
    assert_eq!(text.lines().count(), 3);
    assert!(
        text.contains("TOO LARGE") && text.ends_with("1 of 2 quantities beyond their limits\n"),
        "{text}"
    );
    assert!(table(&[finding(0.001)], Detail::All).ends_with("all 1 quantities within their limits\n"));
}

#[test]
fn the_short_table_shows_the_worst_of_a_group() {
    let text = table(&[finding(0.001), finding(0.004), finding(0.002)], Detail::Worst);
    assert_eq!(text.lines().count(), 2);
    assert!(text.contains("4.00e-3"), "{text}");
    assert!(table(&[finding(0.1), finding(f64::NAN)], Detail::Worst).contains("NaN"));
}

#[test]
fn a_folder_without_vectors_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let error = check_folder(folder.path(), &|_, _| {}).unwrap_err();
    assert!(matches!(error, VectorsError::Nothing { .. }), "{error}");
}

#[test]
fn a_wrong_figure_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let case = r#"{"parts": [{"noise_multiplier": 1.0, "sampling_rate": 1.0, "steps": 1}], "delta": 1e-5,
        "eps_pld_zero_out": 4.37717810002493, "eps_pld_replace": 9.0, "eps_rdp_zero_out": 4.728507067217623}"#;
    fs::write(folder.path().join("accounting.json"), format!("{{\"cases\": [{case}]}}")).unwrap();
    let findings = check_folder(folder.path(), &|_, _| {}).unwrap();
    let beyond: Vec<&str> =
        findings.iter().filter(|finding| !finding.holds()).map(|finding| finding.group.as_str()).collect();
    assert_eq!(beyond, ["PLD replace", "PLD replace, adaptive, above"], "{findings:?}");
}

#[test]
fn a_file_of_another_form_is_named() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("accounting.json"), "{}").unwrap();
    let error = check_folder(folder.path(), &|_, _| {}).unwrap_err().to_string();
    assert!(error.contains("accounting.json") && error.contains("cases"), "{error}");
}
