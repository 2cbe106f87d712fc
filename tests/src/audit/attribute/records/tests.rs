#![allow(clippy::unwrap_used)]
use super::*;
use crate::harness::toml_text::{SAMPLE_STUDY, TomlText};

#[test]
fn opposites_share_public_cells_and_take_the_pair_crosswise() {
    let folder = tempfile::tempdir().unwrap();
    let study = Study::parse(SAMPLE_STUDY).unwrap();
    let (source, out) = (folder.path().join("train.csv"), folder.path().join("out.csv"));
    let header = "patient_id,HR,Age,Gender,Unit1,Unit2,HospAdmTime,ICULOS,SepsisLabel\n";
    std::fs::write(&source, format!("{header}a,80,50,1,,,-3,4,0\nb,90,60,0,1,0,-9,30,1\n")).unwrap();
    let mut records = Records::read(&study, &[source], 9).unwrap();
    records.add_opposites(&[1]);
    assert_eq!(records.units(), 2);
    let pair = records.pair(0);
    let written = |bit: bool| -> Vec<String> {
        records.write(&out, &HashMap::from([(1, (&pair, bit))])).unwrap();
        std::fs::read_to_string(&out).unwrap().lines().skip(1).map(str::to_owned).collect()
    };
    let (clear, set) = (written(false), written(true));
    assert_eq!((clear.len(), &clear[0]), (1 + 2 * COPIES, &set[0]));
    assert!(clear[1..].iter().all(|row| row.starts_with("b,90,")));
    let with_label = |rows: &[String], label: char| -> Vec<String> {
        let rows = rows[1..].iter().filter(|row| row.ends_with(label));
        rows.map(|row| row[..row.len() - 1].to_owned()).collect()
    };
    assert_eq!(with_label(&clear, '1').len(), COPIES);
    assert_eq!(with_label(&clear, '1'), with_label(&set, '0'));
    assert_eq!(with_label(&clear, '0'), with_label(&set, '1'));
    assert_ne!(with_label(&clear, '0'), with_label(&set, '0'));
}

#[test]
fn where_every_record_is_a_unit_opposites_are_units_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let mut text = TomlText::new(SAMPLE_STUDY);
    text.remove("privacy", "unit_column").unwrap();
    let schema =
        text.text().replacen("[[schema.columns]]\nname = \"patient_id\"\nrole = \"unit-id\"\n", "", 1);
    let study = Study::parse(&schema).unwrap();
    let source = folder.path().join("train.csv");
    let header = "HR,Age,Gender,Unit1,Unit2,HospAdmTime,ICULOS,SepsisLabel\n";
    std::fs::write(&source, format!("{header}80,50,1,,,-3,4,0\n90,60,0,1,0,-9,30,1\n")).unwrap();
    let mut records = Records::read(&study, &[source], 9).unwrap();
    records.add_opposites(&[1]);
    assert_eq!(records.units(), 2 + COPIES);
    assert!(records.units.iter().all(|rows| rows.len() == 1));
    assert_eq!(&records.units[2][0][7], "0");
}

#[test]
fn only_canaries_change_and_only_in_sensitive_cells() {
    let folder = tempfile::tempdir().unwrap();
    let study = Study::parse(SAMPLE_STUDY).unwrap();
    let source = folder.path().join("train.csv");
    let header = "patient_id,HR,Age,Gender,Unit1,Unit2,HospAdmTime,ICULOS,SepsisLabel\n";
    std::fs::write(
        &source,
        format!("{header}a,80,50,1,,,-3,4,0\nb,90,60,0,1,0,-9,30,1\na,81,50,1,,,-3,9,0\n"),
    )
    .unwrap();
    let records = Records::read(&study, std::slice::from_ref(&source), 9).unwrap();
    assert_eq!(records.units(), 2);
    let (pair, out) = (records.pair(0), folder.path().join("out.csv"));
    records.write(&out, &HashMap::from([(0, (&pair, true))])).unwrap();
    let text = std::fs::read_to_string(&out).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[3], "b,90,60,0,1,0,-9,30,1");
    assert!(lines[1].starts_with("a,80,") && lines[2].starts_with("a,81,") && lines[1].ends_with(",0"));
    assert_eq!(lines[1].split_once(",80,").unwrap().1, lines[2].split_once(",81,").unwrap().1);
    assert!(!lines[1].contains(",50,"));
    for (_, column) in &records.sensitive {
        for canary in 0..40 {
            let [one, two] = far_apart(column, canary);
            assert_ne!(one, two);
            assert!(column.parse(&one).is_ok() && column.parse(&two).is_ok(), "{}", column.name);
        }
    }
}
