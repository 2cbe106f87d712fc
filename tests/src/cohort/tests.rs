#![allow(clippy::unwrap_used)]

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use super::*;

fn column(path: &Path, name: &str) -> Vec<String> {
    let mut reader = csv::Reader::from_path(path).unwrap();
    let index = reader.headers().unwrap().iter().position(|h| h == name).unwrap();
    reader.records().map(|row| row.unwrap()[index].to_owned()).collect()
}

fn missing(path: &Path, name: &str) -> f64 {
    let cells = column(path, name);
    cells.iter().filter(|cell| cell.is_empty()).count() as f64 / cells.len() as f64
}

fn cohort(patients: u32, seed: u64) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    write(CohortSpec::new(2, patients, seed).unwrap(), folder.path()).unwrap();
    folder
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_seed_others() {
    let (a, b, c) = (cohort(200, 1), cohort(200, 1), cohort(200, 2));
    for file in ["hospital-a/train.csv", "hospital-b/test.csv", "support.csv", "README.md"] {
        assert_eq!(fs::read(a.path().join(file)).unwrap(), fs::read(b.path().join(file)).unwrap());
        assert_ne!(fs::read(a.path().join(file)).unwrap(), fs::read(c.path().join(file)).unwrap());
    }
}

#[test]
fn the_bytes_are_pinned() {
    // Guards against a change of generator or of an elementary function going unnoticed.
    use sha2::Digest;
    let folder = cohort(200, 1);
    let digest = sha2::Sha256::digest(fs::read(folder.path().join("hospital-a/train.csv")).unwrap());
    assert_eq!(hex::encode(digest), "a3134f0c368b017622e1a78db27a585835b07d8ed5cd830478741111cc48d109");
}

#[test]
fn header_lines_are_those_of_the_sepsis_files() {
    let folder = cohort(50, 1);
    let first = |file: &str| {
        let text = fs::read_to_string(folder.path().join(file)).unwrap();
        text.lines().next().unwrap().to_owned()
    };
    assert_eq!(first("support.csv"), FEATURE_COLUMNS.join(","));
    assert_eq!(first("hospital-a/val.csv"), format!("{},SepsisLabel", FEATURE_COLUMNS.join(",")));
    let measured: Vec<_> = measurement::MEASUREMENTS.iter().map(|m| m.name).collect();
    assert_eq!(measured, FEATURE_COLUMNS[1..31]);
}

#[test]
fn patients_occur_once() {
    let folder = cohort(400, 1);
    let mut seen = HashSet::new();
    let mut files = vec!["support.csv".to_owned()];
    for hospital in ["hospital-a", "hospital-b"] {
        files.extend(["train", "val", "test"].map(|part| format!("{hospital}/{part}.csv")));
    }
    for file in files {
        for id in column(&folder.path().join(file), "patient_id") {
            assert!(seen.insert(id), "a patient occurs twice");
        }
    }
    assert_eq!(seen.len(), 2 * (400 + 100));
}

#[test]
fn hospitals_differ_as_documented() {
    let folder = cohort(4000, 1);
    let (a, b) = (folder.path().join("hospital-a/train.csv"), folder.path().join("hospital-b/train.csv"));
    assert!(missing(&a, "HCO3") < 0.08 && missing(&b, "HCO3") > 0.9);
    assert!(missing(&a, "DBP") > 0.25 && missing(&b, "DBP") < 0.05);
    assert!(column(&b, "Age").iter().all(|age| age.ends_with(".0")));
    assert!(column(&a, "Age").iter().any(|age| !age.ends_with(".0") && !age.ends_with(".00")));
    let mean = |path: &Path| {
        let ages: Vec<f64> = column(path, "Age").iter().map(|age| age.parse().unwrap()).collect();
        ages.iter().sum::<f64>() / ages.len() as f64
    };
    assert!(mean(&a) - mean(&b) > 3.0);
    // Unit is missing for both or for neither.
    let pairs = column(&a, "Unit1").into_iter().zip(column(&a, "Unit2"));
    assert!(pairs.into_iter().all(|(one, two)| one.is_empty() == two.is_empty()));
}

#[test]
fn positives_are_rare_in_every_file_of_every_hospital() {
    let folder = tempfile::tempdir().unwrap();
    let summaries = write(CohortSpec::new(6, 4000, 3).unwrap(), folder.path()).unwrap();
    for summary in summaries {
        let rate = summary.positives.iter().sum::<u64>() as f64 / 4000.0;
        assert!((0.05..=0.10).contains(&rate), "{}: {rate}", summary.name);
    }
}

#[test]
fn values_stay_in_physiological_ranges() {
    let folder = cohort(1000, 5);
    for m in &measurement::MEASUREMENTS {
        for cell in column(&folder.path().join("hospital-a/train.csv"), m.name) {
            if !cell.is_empty() {
                let value: f64 = cell.parse().unwrap();
                assert!((m.limits[0] - 0.01..=m.limits[1] + 0.01).contains(&value), "{} {value}", m.name);
            }
        }
    }
}

#[test]
fn a_sensitive_feature_acts_non_linearly() {
    // Share of positives by age band at a large synthetic hospital: both ends above the middle.
    let folder = cohort(20_000, 1);
    let path = folder.path().join("hospital-a/train.csv");
    let rate = |from: f64, to: f64| {
        let pairs = column(&path, "Age").into_iter().zip(column(&path, LABEL_COLUMN));
        let labels: Vec<f64> = pairs
            .filter(|(age, _)| (from..to).contains(&age.parse::<f64>().unwrap()))
            .map(|(_, label)| label.parse().unwrap())
            .collect();
        labels.iter().sum::<f64>() / labels.len() as f64
    };
    let (young, middle, old) = (rate(18.0, 36.0), rate(48.0, 68.0), rate(82.0, 96.0));
    assert!(young > 1.3 * middle && old > 1.3 * middle, "{young} {middle} {old}");
}

#[test]
fn a_folder_with_other_files_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("notes.txt"), "mine").unwrap();
    let error = write(CohortSpec::new(2, 50, 1).unwrap(), folder.path()).unwrap_err();
    assert!(matches!(error, CohortError::Occupied { .. }), "{error}");
    assert_eq!(fs::read_to_string(folder.path().join("notes.txt")).unwrap(), "mine");
    assert!(!folder.path().join("support.csv").exists());
}

#[test]
fn sizes_out_of_range_are_named() {
    assert!(CohortSpec::new(0, 100, 1).unwrap_err().to_string().contains("--hospitals 0"));
    assert!(CohortSpec::new(27, 100, 1).unwrap_err().to_string().contains("1 to 26"));
    assert!(CohortSpec::new(2, 10, 1).unwrap_err().to_string().contains("--patients 10"));
}
