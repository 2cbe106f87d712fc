#![allow(clippy::unwrap_used)]
use std::sync::Arc;

use fusiondp_runtime::clock::Clock;

use super::dataset::{ReadOptions, UnfitCells};
use super::identity::{DataIdentity, IdentityKey};
use super::*;
use crate::testing::{clock, document};

const HEADER: &str = "id,a,c,s,t,y\n";

fn read_as(bytes: &[u8], part: Option<Part>, unfit: UnfitCells) -> Result<Dataset, DataError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("records.csv");
    std::fs::write(&path, bytes).unwrap();
    let study = document(&[]);
    let options = ReadOptions {
        schema: &study.study().schema,
        unit_column: study.study().privacy.unit_column.as_deref(),
        part,
        unfit,
    };
    let clock: Arc<dyn Clock> = clock();
    Dataset::read(&RecordFiles::csv(path), &options, &mut Progress::start(clock, "reading"))
}

fn read_part(bytes: &[u8], part: Option<Part>) -> Result<Dataset, DataError> {
    read_as(bytes, part, UnfitCells::Refuse)
}

fn read(text: &str) -> Result<Dataset, DataError> {
    read_part(text.as_bytes(), None)
}

/// The message for the wire and the one for the site, of a file that is refused.
fn refused(text: &str) -> (String, String) {
    let error = read(text).err().unwrap();
    (error.to_string(), error.with_value())
}

#[test]
fn cells_become_numbers_and_units_become_neighbors() {
    let dataset = read(&format!("{HEADER}u1,2.5,green,40,1,yes\nu2,,,,,no\nu1,3,red,41,0,no\n")).unwrap();
    assert_eq!((dataset.records(), dataset.units().count()), (3, 2));
    assert_eq!(dataset.public().column(0)[..2], [2.5, 3.0]);
    assert_eq!(dataset.public().column(1)[..2], [1.0, 0.0]);
    assert!(dataset.public().column(0)[2].is_nan() && dataset.sensitive().column(0)[2].is_nan());
    assert_eq!(dataset.sensitive().column(0)[..2], [40.0, 41.0]);
    assert_eq!(dataset.labels().values(), [1.0, 0.0, 0.0]);
    assert_eq!((dataset.units().rows(0), dataset.units().id(1)), (0..2, Some("u2")));
}

#[test]
fn column_order_further_columns_and_a_byte_order_mark_do_not_matter() {
    let text = "\u{feff}y,extra,t,s,c,a,id\nyes,?,1,40,green,2.5,u1\n";
    let dataset = read(text).unwrap();
    assert_eq!(dataset.public().column(0), [2.5]);
    assert_eq!(dataset.labels().values(), [1.0]);
}

#[test]
fn a_public_cell_is_named_with_its_value_at_the_site_only() {
    let (wire, local) = refused(&format!("{HEADER}u1,2,red,40,1,yes\nu2,77.5,red,40,1,yes\n"));
    for part in ["records.csv", "line 3", "\"a\"", "range", "clip"] {
        assert!(wire.contains(part), "{part}: {wire}");
    }
    assert!(!wire.contains("77.5") && local.contains("77.5"), "{wire} / {local}");
    let (wire, local) = refused(&format!("{HEADER}u1,2,purple,40,1,yes\n"));
    assert!(wire.contains("vocabulary") && !wire.contains("purple") && local.contains("purple"));
}

#[test]
fn a_sensitive_cell_or_label_is_named_and_never_shown() {
    for (row, column, value) in [
        ("u1,2,red,12345,1,yes", "\"s\"", "12345"),
        ("u1,2,red,fortysix,1,yes", "\"s\"", "fortysix"),
        ("u1,2,red,40,0.3,yes", "\"t\"", "0.3"),
        ("u1,2,red,40,1,perhaps", "\"y\"", "perhaps"),
    ] {
        let error = read(&format!("{HEADER}{row}\n")).err().unwrap();
        let (wire, local, debug) = (error.to_string(), error.with_value(), format!("{error:?}"));
        assert!(wire.contains(column) && wire.contains("line 2") && wire.contains(';'), "{wire}");
        for text in [&wire, &local, &debug] {
            assert!(!text.contains(value), "{text}");
        }
    }
    let (wire, _) = refused(&format!("{HEADER}u1,2,red,40,1,\n"));
    assert!(wire.contains("\"y\"") && wire.contains("empty"), "{wire}");
}

#[test]
fn defects_of_the_file_are_named_with_a_remedy() {
    for (text, parts) in [
        ("", vec!["empty", "first line"]),
        (HEADER, vec!["no record", "export"]),
        ("id,a,c,s,y\nu1,1,red,1,no\n", vec!["\"t\"", "missing", "sensitive"]),
        ("a,c,s,t,y\n1,red,1,1,no\n", vec!["\"id\"", "missing", "unit-id"]),
        ("id,a,a,c,s,t,y\nu1,1,1,red,1,1,no\n", vec!["\"a\"", "twice", "rename"]),
        ("id,a,c,s,t,y\nu1,1,red,1,1,no\nu2,1,red\n", vec!["line 3", "3 cells", "6", "quoted"]),
        ("id,a,c,s,t,y\n ,1,red,1,1,no\n", vec!["line 2", "\"id\"", "empty"]),
    ] {
        let (wire, _) = refused(text);
        for part in parts {
            assert!(wire.contains(part), "{part}: {wire}");
        }
    }
    let latin1 = read_part(b"id,a,c,s,t,y\nu1,1,r\xe9d,1,1,no\n", None).err().unwrap().to_string();
    assert!(latin1.contains("line 2") && latin1.contains("UTF-8"), "{latin1}");
}

#[test]
fn lines_are_counted_over_quoted_line_breaks() {
    let (wire, _) = refused("id,a,c,s,t,y\n\"u\n1\",1,red,1,1,no\nu2,99,red,1,1,no\n");
    assert!(wire.contains("line 4"), "{wire}");
}

#[test]
fn a_missing_file_is_named_without_its_folder_on_the_wire() {
    let study = document(&[]);
    let source = FileSource::csv("/nowhere/secret/train.csv".into(), Default::default(), clock());
    let error = source.read(&source::Records::Train, study.study()).err().unwrap();
    assert!(error.to_string().contains("train.csv") && !error.to_string().contains("secret"), "{error}");
    let cohort = source::Records::Cohort("val".parse().unwrap());
    let error = source.read(&cohort, study.study()).err().unwrap().to_string();
    assert!(error.contains("\"val\"") && error.contains("[data.cohorts]"), "{error}");
}

#[test]
fn parts_share_the_units_among_them() {
    let rows: String = (0..200).map(|row| format!("u{},1,red,1,1,no\n", row % 50)).collect();
    let text = format!("{HEADER}{rows}");
    let mut units = Vec::new();
    let mut digests = Vec::new();
    for index in 0..4 {
        let part = read_part(text.as_bytes(), Part::new(index, 4)).unwrap();
        assert_eq!(part.records(), 4 * part.units().count());
        units.extend((0..part.units().count()).map(|unit| part.units().id(unit).unwrap().to_owned()));
        digests.push(part.digest());
    }
    units.sort();
    units.dedup();
    assert_eq!(units.len(), 50);
    digests.dedup();
    assert_eq!(digests.len(), 4);
    assert!(Part::new(4, 4).is_none() && Part::span(1..1, 4).is_none() && Part::span(3..5, 4).is_none());
    let rest = read_part(text.as_bytes(), Part::span(1..4, 4)).unwrap();
    let first = read_part(text.as_bytes(), Part::new(0, 4)).unwrap();
    assert_eq!((rest.units().count() + first.units().count(), rest.records() + first.records()), (50, 200));
    let empty = read_part(format!("{HEADER}u1,1,red,1,1,no\n").as_bytes(), Part::new(0, 2));
    let other = read_part(format!("{HEADER}u1,1,red,1,1,no\n").as_bytes(), Part::new(1, 2));
    assert_eq!(empty.is_ok(), other.is_err());
}

#[test]
fn held_out_cohorts_share_no_unit_with_the_training_records() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("all.csv");
    let rows: String = (0..200).map(|row| format!("u{},1,red,1,1,no\n", row % 50)).collect();
    std::fs::write(&path, format!("{HEADER}{rows}")).unwrap();
    let study = document(&[]);
    let source = || FileSource::csv(path.clone(), Default::default(), clock());
    let names = ["val", "test"].map(|name| name.parse().unwrap()).to_vec();
    assert!(source().holding_out(names.clone(), 2).is_none());
    let source = source().holding_out(names.clone(), 5).unwrap();
    let tables = [source::Records::Train].into_iter().chain(names.into_iter().map(source::Records::Cohort));
    let mut units = Vec::new();
    for records in tables {
        let dataset = source.read(&records, study.study()).unwrap();
        assert_eq!(dataset.records(), 4 * dataset.units().count());
        units.extend((0..dataset.units().count()).map(|unit| dataset.units().id(unit).unwrap().to_owned()));
    }
    assert_eq!(units.len(), 50);
    units.sort();
    units.dedup();
    assert_eq!(units.len(), 50);
    let other = source::Records::Cohort("other".parse().unwrap());
    assert!(matches!(source.read(&other, study.study()), Err(DataError::UnknownCohort { .. })));
}

#[test]
fn a_corrected_cell_keeps_the_identity_and_changes_the_digest() {
    let one = read(&format!("{HEADER}u1,2,red,40,1,yes\nu2,2,red,40,1,no\n")).unwrap();
    let other = read(&format!("{HEADER}u2,2,red,41,1,no\nu1,2,red,40,1,yes\n")).unwrap();
    assert_ne!(one.digest(), other.digest());
    let key = IdentityKey::random().unwrap();
    let identity = |dataset: &Dataset, declared| DataIdentity::of(dataset, declared, &key);
    assert_eq!(identity(&one, None), identity(&other, None));
    let more = read(&format!("{HEADER}u1,2,red,40,1,yes\n")).unwrap();
    assert_ne!(identity(&one, None), identity(&more, None));
    let named = "icu".to_owned().try_into().unwrap();
    assert_eq!(identity(&one, Some(&named)), identity(&more, Some(&named)));
}

#[test]
fn a_reading_that_others_see_the_outcome_of_refuses_no_sensitive_cell() {
    let mend = |text: &str| read_as(format!("{HEADER}{text}").as_bytes(), None, UnfitCells::Mend);
    let dataset = mend("u1,2,red,140,1,yes\nu2,3,red,tall,2,no\n").unwrap();
    assert_eq!(dataset.sensitive().column(0)[0], 100.0);
    assert!(dataset.sensitive().column(0)[1].is_nan() && dataset.sensitive().column(1)[1].is_nan());
    assert_eq!(dataset.sensitive().column(1)[0], 1.0);
    // The site's own check names them, and public cells and labels are refused in any case.
    assert!(refused(&format!("{HEADER}u1,2,red,140,1,yes\n")).0.contains("\"s\""));
    assert!(mend("u1,77,red,40,1,yes\n").is_err());
    assert!(mend("u1,2,red,40,1,maybe\n").is_err());
}
