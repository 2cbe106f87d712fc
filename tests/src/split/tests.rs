#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use super::*;

fn data() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (hospital, patients) in [("north", 90), ("south", 30)] {
        let path = folder.path().join(hospital);
        fs::create_dir(&path).unwrap();
        for (file, visits) in [("train.csv", 2), ("val.csv", 1), ("train_imputed.csv", 1)] {
            let mut text = "patient_id,HR\n".to_owned();
            for visit in 0..visits {
                for patient in 0..patients {
                    text.push_str(&format!("{hospital}{patient},{visit}.0\n"));
                }
            }
            fs::write(path.join(file), text).unwrap();
        }
    }
    fs::write(folder.path().join("support.csv"), "patient_id,HR\n").unwrap();
    folder
}

fn options(sites: usize, seed: u64) -> SplitOptions<'static> {
    SplitOptions { sites, seed, unit_column: Some("patient_id") }
}

fn rows(path: &Path) -> Vec<String> {
    fs::read_to_string(path).unwrap().lines().skip(1).map(str::to_owned).collect()
}

#[test]
fn as_many_sites_as_hospitals_use_the_folders_as_they_are() {
    let (data, out) = (data(), tempfile::tempdir().unwrap());
    let sites = split(data.path(), options(2, 1), out.path()).unwrap();
    assert_eq!(sites.iter().map(|s| s.site.as_str()).collect::<Vec<_>>(), ["north", "south"]);
    assert_eq!(sites[0].folder, data.path().join("north"));
    assert_eq!(fs::read_dir(out.path()).unwrap().count(), 0);
}

#[test]
fn whole_patients_go_to_one_site_in_every_file() {
    let (data, out) = (data(), tempfile::tempdir().unwrap());
    let sites = split(data.path(), options(5, 7), out.path()).unwrap();
    assert_eq!(sites.len(), 5);
    // The larger hospital is cut further.
    assert_eq!(sites.iter().filter(|s| s.hospital == "north").count(), 4);
    let mut site_of: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    let mut all = Vec::new();
    for site in &sites {
        for file in ["train.csv", "val.csv", "train_imputed.csv"] {
            for row in rows(&site.folder.join(file)) {
                site_of.entry(row.split(',').next().unwrap().to_owned()).or_default().insert(&site.site);
                all.push(format!("{file}:{row}"));
            }
        }
    }
    assert_eq!(site_of.len(), 120);
    assert!(site_of.values().all(|sites| sites.len() == 1));
    // No row is lost or doubled.
    let mut expected = Vec::new();
    for hospital in ["north", "south"] {
        for file in ["train.csv", "val.csv", "train_imputed.csv"] {
            let path = data.path().join(hospital).join(file);
            expected.extend(rows(&path).into_iter().map(|row| format!("{file}:{row}")));
        }
    }
    all.sort();
    expected.sort();
    assert_eq!(all, expected);
}

#[test]
fn another_seed_cuts_otherwise() {
    let data = data();
    let cut = |seed| {
        let out = tempfile::tempdir().unwrap();
        let sites = split(data.path(), options(3, seed), out.path()).unwrap();
        rows(&sites[0].folder.join("train.csv"))
    };
    assert_eq!(cut(1), cut(1));
    assert_ne!(cut(1), cut(2));
}

#[test]
fn without_a_column_rows_of_aligned_files_stay_together() {
    let (data, out) = (data(), tempfile::tempdir().unwrap());
    let by_row = SplitOptions { unit_column: None, ..options(3, 1) };
    let sites = split(data.path(), by_row, out.path()).unwrap();
    let ids = |file| rows(&sites[0].folder.join(file));
    assert_eq!(
        ids("val.csv"),
        ids("train_imputed.csv").iter().map(|row| row.replace("1.0", "0.0")).collect::<Vec<_>>()
    );
}

#[test]
fn a_parquet_file_is_a_hospital_that_stays_whole() {
    let (data, out) = (data(), tempfile::tempdir().unwrap());
    let file = data.path().join("east.parquet");
    fs::write(&file, "").unwrap();
    let sites = split(data.path(), options(3, 1), out.path()).unwrap();
    assert_eq!(sites.iter().map(|s| s.site.as_str()).collect::<Vec<_>>(), ["east", "north", "south"]);
    assert_eq!(sites[0].parquet.as_deref(), Some(file.as_path()));
    assert!(sites[1].parquet.is_none());
    fs::remove_dir_all(data.path().join("north")).unwrap();
    fs::remove_dir_all(data.path().join("south")).unwrap();
    let error = split(data.path(), options(2, 1), out.path()).unwrap_err().to_string();
    assert!(error.contains("east.parquet") && error.contains("not cut"), "{error}");
}

#[test]
fn misuse_is_named() {
    let (data, out) = (data(), tempfile::tempdir().unwrap());
    let error = split(data.path(), options(1, 1), out.path()).unwrap_err().to_string();
    assert!(error.contains("1 sites for 2 hospitals"), "{error}");
    let wrong = SplitOptions { unit_column: Some("id"), ..options(3, 1) };
    let error = split(data.path(), wrong, out.path()).unwrap_err().to_string();
    assert!(error.contains("no column \"id\"") && error.contains("patient_id,HR"), "{error}");
    let error = split(out.path(), options(3, 1), out.path()).unwrap_err().to_string();
    assert!(error.contains("no hospital"), "{error}");
    let many = split(data.path(), options(200, 1), out.path()).unwrap_err().to_string();
    assert!(many.contains("no training rows"), "{many}");
}
