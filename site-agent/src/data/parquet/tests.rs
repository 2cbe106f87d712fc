#![allow(clippy::unwrap_used)]
use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use arrow_array::builder::{ListBuilder, TimestampSecondBuilder};
use arrow_array::types::Int8Type;
use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, DictionaryArray, Float32Array,
    Float64Array, Int8Array, Int16Array, Int32Array, Int64Array, LargeStringArray, NullArray, RecordBatch,
    StringArray, UInt8Array, UInt16Array, UInt32Array, UInt64Array,
};
use arrow_schema::{Field, Schema as ArrowSchema};
use fusiondp_dp::Digest;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use proptest::prelude::*;

use super::*;
use crate::data::dataset::{ReadOptions, UnfitCells};
use crate::data::identity::{DataIdentity, IdentityKey};
use crate::data::{Dataset, RecordFiles};
use crate::testing::{clock, document};

/// Columns of one table by name.
type Columns = Vec<(&'static str, ArrayRef)>;

fn text(cells: &[Option<&str>]) -> ArrayRef {
    Arc::new(StringArray::from(cells.to_vec()))
}

/// The columns of [`crate::testing::STUDY`] for two patients with three records, in plain types.
fn plain() -> Columns {
    vec![
        ("id", text(&[Some("u1"), Some("u2"), Some("u1")])),
        ("a", Arc::new(Float64Array::from(vec![Some(2.5), None, Some(3.0)]))),
        ("c", text(&[Some("green"), None, Some("red")])),
        ("s", Arc::new(Float64Array::from(vec![Some(40.0), None, Some(41.0)]))),
        ("t", Arc::new(Int64Array::from(vec![Some(1), None, Some(0)]))),
        ("y", text(&[Some("yes"), Some("no"), Some("no")])),
    ]
}

/// [`plain`] with another array in one column.
fn with(name: &str, array: ArrayRef) -> Columns {
    let replace = |(column, old)| (column, if column == name { Arc::clone(&array) } else { old });
    plain().into_iter().map(replace).collect()
}

fn write_with(path: &Path, columns: Columns, properties: WriterProperties) {
    let fields: Vec<Field> =
        columns.iter().map(|(name, array)| Field::new(*name, array.data_type().clone(), true)).collect();
    let schema = Arc::new(ArrowSchema::new(fields));
    let arrays = columns.into_iter().map(|(_, array)| array).collect();
    let batch = RecordBatch::try_new(Arc::clone(&schema), arrays).unwrap();
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), schema, Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

fn write(path: &Path, columns: Columns) {
    write_with(path, columns, WriterProperties::builder().build());
}

fn read_as(paths: Vec<PathBuf>, unfit: UnfitCells) -> Result<Dataset, DataError> {
    let study = document(&[]);
    let options = ReadOptions {
        schema: &study.study().schema,
        unit_column: study.study().privacy.unit_column.as_deref(),
        part: None,
        unfit,
    };
    Dataset::read(&RecordFiles::new(paths).unwrap(), &options, &mut Progress::start(clock(), "reading"))
}

/// What one file of these columns is read as.
fn read(columns: Columns, unfit: UnfitCells) -> Result<Dataset, DataError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("records.parquet");
    write(&path, columns);
    read_as(vec![path], unfit)
}

fn refused(columns: Columns) -> DataError {
    read(columns, UnfitCells::Refuse).err().unwrap()
}

/// Everything of a data set but its digest, bit for bit.
fn bits(dataset: &Dataset) -> (Vec<Vec<u32>>, Vec<String>, Vec<usize>) {
    let column = |cells: &[f32]| cells.iter().map(|cell| cell.to_bits()).collect::<Vec<_>>();
    let columns = [
        dataset.public().column(0),
        dataset.public().column(1),
        dataset.sensitive().column(0),
        dataset.sensitive().column(1),
        dataset.labels().values(),
    ];
    let units = dataset.units();
    let ids = (0..units.count()).map(|unit| units.id(unit).unwrap().to_owned()).collect();
    let ends = (0..units.count()).map(|unit| units.rows(unit).end).collect();
    (columns.map(column).to_vec(), ids, ends)
}

/// The data set of a CSV file with these lines behind the header.
fn csv(lines: &str, unfit: UnfitCells) -> Result<Dataset, DataError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("records.csv");
    std::fs::write(&path, format!("id,a,c,s,t,y\n{lines}")).unwrap();
    read_as(vec![path], unfit)
}

const PLAIN: &str = "u1,2.5,green,40,1,yes\nu2,,,,,no\nu1,3,red,41,0,no\n";

#[test]
fn typed_cells_make_the_data_set_that_their_text_makes() {
    let wanted = bits(&csv(PLAIN, UnfitCells::Refuse).unwrap());
    let words: DictionaryArray<Int8Type> = [Some("green"), None, Some("red")].into_iter().collect();
    let labels: DictionaryArray<Int8Type> = ["yes", "no", "no"].into_iter().collect();
    let (one, none, zero) = (Some(1), None, Some(0));
    let tables: Vec<(&str, ArrayRef)> = vec![
        ("c", Arc::new(words)),
        ("y", Arc::new(labels)),
        ("c", Arc::new(LargeStringArray::from(vec![Some("green"), None, Some("red")]))),
        ("a", Arc::new(Float32Array::from(vec![Some(2.5), None, Some(3.0)]))),
        ("a", Arc::new(Float64Array::from(vec![Some(2.5), Some(f64::NAN), Some(3.0)]))),
        ("a", text(&[Some(" 2.5 "), Some("NA"), Some("3")])),
        ("t", Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)]))),
        ("t", Arc::new(Float32Array::from(vec![Some(1.0), None, Some(0.0)]))),
        ("t", Arc::new(Int8Array::from(vec![one, none, zero]))),
        ("t", Arc::new(Int16Array::from(vec![Some(1), None, Some(0)]))),
        ("t", Arc::new(Int32Array::from(vec![Some(1), None, Some(0)]))),
        ("t", Arc::new(UInt8Array::from(vec![Some(1), None, Some(0)]))),
        ("t", Arc::new(UInt16Array::from(vec![Some(1), None, Some(0)]))),
        ("t", Arc::new(UInt32Array::from(vec![Some(1), None, Some(0)]))),
        ("t", Arc::new(UInt64Array::from(vec![Some(1), None, Some(0)]))),
    ];
    for (name, array) in tables {
        let kind = array.data_type().clone();
        let dataset = read(with(name, array), UnfitCells::Refuse);
        assert_eq!(bits(&dataset.ok().unwrap()), wanted, "{name} as {kind}");
    }
    let empty = csv("u1,2.5,green,,1,yes\nu2,,,,,no\nu1,3,red,,0,no\n", UnfitCells::Refuse).unwrap();
    let nulls = read(with("s", Arc::new(NullArray::new(3))), UnfitCells::Refuse).unwrap();
    assert_eq!(bits(&nulls), bits(&empty));
}

#[test]
fn whole_numbers_name_units() {
    for array in [
        Arc::new(Int64Array::from(vec![7, -1, 7])) as ArrayRef,
        Arc::new(UInt64Array::from(vec![u64::MAX, 3, u64::MAX])),
    ] {
        let dataset = read(with("id", array), UnfitCells::Refuse).unwrap();
        assert_eq!(dataset.units().rows(0), 0..2);
        assert!(["7", "18446744073709551615"].contains(&dataset.units().id(0).unwrap()));
    }
}

#[test]
fn a_patient_may_lie_in_several_files_and_row_groups() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let groups = WriterProperties::builder()
        .set_max_row_group_row_count(Some(1))
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .build();
    write_with(&path("one.parquet"), plain(), groups);
    let snappy = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
    write_with(&path("two.parquet"), with("id", text(&[Some("u2"), Some("u3"), Some("u1")])), snappy);
    let head = ["one", "two"].map(|name| path(name).with_extension("parquet"));
    let opened = ParquetFile::open(&head[0]).unwrap();
    assert_eq!((opened.metadata.metadata().num_row_groups(), opened.records()), (3, 3));
    let dataset = read_as(head.to_vec(), UnfitCells::Refuse).unwrap();
    assert_eq!((dataset.records(), dataset.units().count()), (6, 3));
    assert_eq!([0, 1, 2].map(|unit| dataset.units().rows(unit)), [0..3, 3..5, 5..6]);
    let again = "u2,2.5,green,40,1,yes\nu3,,,,,no\nu1,3,red,41,0,no\n";
    let wanted = bits(&csv(&format!("{PLAIN}{again}"), UnfitCells::Refuse).unwrap());
    assert_eq!(bits(&dataset), wanted);
    // The same from two text files, which are one table as well.
    std::fs::write(path("one.csv"), format!("id,a,c,s,t,y\n{PLAIN}")).unwrap();
    std::fs::write(path("two.csv"), format!("id,a,c,s,t,y\n{again}")).unwrap();
    let texts = read_as(vec![path("one.csv"), path("two.csv")], UnfitCells::Refuse).unwrap();
    assert_eq!(bits(&texts), bits(&dataset));
    for (dataset, names) in [(&dataset, ["one.parquet", "two.parquet"]), (&texts, ["one.csv", "two.csv"])] {
        let bytes = names.map(|name| std::fs::read(path(name)).unwrap()).concat();
        assert_eq!(dataset.digest(), Digest::of(&bytes));
    }
    let reversed = read_as(head.iter().rev().cloned().collect(), UnfitCells::Refuse).unwrap();
    assert_ne!(reversed.digest(), dataset.digest());
    let key = IdentityKey::random().unwrap();
    let identity = |dataset: &Dataset| DataIdentity::of(dataset, None, &key);
    assert_eq!(identity(&dataset), identity(&reversed));
    assert_eq!(identity(&dataset), identity(&texts));
}

#[test]
fn types_that_do_not_fit_are_refused_by_name() {
    let mut stamps = TimestampSecondBuilder::new();
    let mut lists = ListBuilder::new(arrow_array::builder::Int64Builder::new());
    for number in 0..3 {
        stamps.append_value(777_000 + number);
        lists.append_value([Some(777)]);
    }
    let cells: Vec<(&str, ArrayRef, &[&str])> = vec![
        ("s", Arc::new(stamps.finish()), &["\"s\"", "Timestamp", "continuous", "double"]),
        ("s", Arc::new(lists.finish()), &["\"s\"", "List", "double"]),
        ("s", Arc::new(Date32Array::from(vec![777; 3])), &["\"s\"", "Date32"]),
        ("a", Arc::new(Decimal128Array::from(vec![777; 3])), &["\"a\"", "Decimal128", "double"]),
        ("a", Arc::new(BooleanArray::from(vec![true; 3])), &["\"a\"", "Boolean"]),
        ("c", Arc::new(BooleanArray::from(vec![true; 3])), &["\"c\"", "Boolean", "categorical"]),
        ("c", Arc::new(BinaryArray::from(vec![b"777".as_slice(); 3])), &["\"c\"", "Binary", "text"]),
        (
            "id",
            Arc::new(Float64Array::from(vec![777.0; 3])),
            &["\"id\"", "Float64", "unit id", "whole number"],
        ),
        ("id", Arc::new(BooleanArray::from(vec![true; 3])), &["\"id\"", "Boolean"]),
        ("id", Arc::new(NullArray::new(3)), &["\"id\"", "Null"]),
    ];
    for (name, array, parts) in cells {
        let error = refused(with(name, array)).to_string();
        for part in parts.iter().chain(&["records.parquet", "export it as"]) {
            assert!(error.contains(part), "{part}: {error}");
        }
        assert!(!error.contains("777"), "{error}");
    }
    // A column that the schema does not name may hold anything.
    let mut columns = plain();
    columns.insert(1, ("when", Arc::new(Date32Array::from(vec![1; 3]))));
    assert!(read(columns, UnfitCells::Refuse).is_ok());
}

#[test]
fn cells_are_refused_with_row_and_column_and_sensitive_ones_never_shown() {
    let numbers = |cells: [f64; 3]| Arc::new(Float64Array::from(cells.to_vec())) as ArrayRef;
    for (name, array, value) in [
        ("s", numbers([1.0, 1.0, 12_345.0]), "12345"),
        ("s", text(&[Some("1"), Some("1"), Some("fortysix")]), "fortysix"),
        ("s", numbers([1.0, 1.0, f64::INFINITY]), "inf"),
        ("t", numbers([1.0, 0.0, 0.3]), "0.3"),
        ("y", text(&[Some("no"), Some("no"), Some("perhaps")]), "perhaps"),
        ("y", text(&[Some("no"), Some("no"), None]), "perhaps"),
    ] {
        let error = refused(with(name, array));
        let (wire, local, debug) = (error.to_string(), error.with_value(), format!("{error:?}"));
        for part in ["records.parquet, row 3,", &format!("\"{name}\""), ";"] {
            assert!(wire.contains(part), "{part}: {wire}");
        }
        for told in [&wire, &local, &debug] {
            assert!(!told.contains(value), "{told}");
        }
    }
    let error = refused(with("a", numbers([1.0, 77.5, 1.0])));
    assert!(!error.to_string().contains("77.5") && error.with_value().contains("77.5"));
    for id in [None, Some(" ")] {
        let error = refused(with("id", text(&[Some("u"), id, Some("u")]))).to_string();
        assert!(error.contains("row 2") && error.contains("unit id is empty"), "{error}");
    }
}

#[test]
fn a_running_agent_refuses_no_sensitive_cell() {
    let numbers = |cells: [f64; 3]| Arc::new(Float64Array::from(cells.to_vec())) as ArrayRef;
    let mend = |name, array| read(with(name, array), UnfitCells::Mend);
    let mended = mend("s", numbers([140.0, f64::INFINITY, -3.0])).unwrap();
    assert_eq!(bits(&mended).0[2], [100f32.to_bits(), 0f32.to_bits(), f32::NAN.to_bits()]);
    let words = text(&[Some("140"), Some("tall"), Some("-3")]);
    assert_eq!(bits(&mend("s", words).unwrap()).0[2], bits(&mended).0[2]);
    assert!(mend("t", numbers([2.0, 0.5, 1.0])).unwrap().sensitive().column(1)[0].is_nan());
    assert!(mend("a", numbers([77.0, 1.0, 1.0])).is_err());
    assert!(mend("y", text(&[Some("yes"), Some("maybe"), None])).is_err());
}

#[test]
fn single_precision_counts_as_its_digits() {
    let edit = [(
        "kind = { type = \"continuous\", range = [0, 10] }",
        "kind = { type = \"continuous\", range = [0, 0.1] }",
    )];
    let study = document(&edit);
    let options = ReadOptions {
        schema: &study.study().schema,
        unit_column: None,
        part: None,
        unfit: UnfitCells::Refuse,
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("records.parquet");
    // As a double, 0.1f32 is larger than 0.1.
    write(&path, with("a", Arc::new(Float32Array::from(vec![0.1, 0.03, 0.0]))));
    let read = Dataset::read(
        &RecordFiles::new(vec![path]).unwrap(),
        &options,
        &mut Progress::start(clock(), "reading"),
    );
    assert_eq!(read.unwrap().public().column(0), [0.1, 0.03, 0.0]);
}

#[test]
fn defects_of_the_file_are_named_with_a_remedy() {
    let without: Columns = plain().into_iter().filter(|(name, _)| *name != "t").collect();
    let error = refused(without).to_string();
    assert!(error.contains("\"t\"") && error.contains("missing") && error.contains("sensitive"), "{error}");
    let mut twice = plain();
    twice.push(("a", Arc::new(Int64Array::from(vec![1, 1, 1]))));
    let error = refused(twice).to_string();
    assert!(error.contains("\"a\"") && error.contains("twice"), "{error}");
    let none = plain().into_iter().map(|(name, array)| (name, array.slice(0, 0))).collect();
    let error = refused(none).to_string();
    assert!(error.contains("no record") && error.contains("export"), "{error}");

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("records.parquet");
    let error = read_as(vec![path.clone()], UnfitCells::Mend).err().unwrap().to_string();
    assert!(error.contains("records.parquet") && error.contains("cannot be read"), "{error}");
    write(&path, plain());
    let whole = std::fs::read(&path).unwrap();
    for damaged in [&b"id,a\n"[..], &whole[..whole.len() / 2], b""] {
        std::fs::write(&path, damaged).unwrap();
        let error = read_as(vec![path.clone()], UnfitCells::Mend).err().unwrap().to_string();
        assert!(error.contains("records.parquet") && error.contains("damaged"), "{error}");
    }
}

#[test]
fn a_file_that_changes_while_it_is_read_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("records.parquet");
    let open = || {
        write(&path, plain());
        ParquetFile::open_hashing(&path, &Hasher::default(), &mut Progress::start(clock(), "reading"))
            .unwrap()
    };
    assert!(open().read(&[0], |_| Ok(())).is_ok());
    let file = open();
    std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"more").unwrap();
    assert!(matches!(file.read(&[0], |_| Ok(())), Err(DataError::Changed { .. })));
    let file = open();
    let later = file.stamp.modified + std::time::Duration::from_secs(1);
    File::options().append(true).open(&path).unwrap().set_modified(later).unwrap();
    let error = file.read(&[0], |_| Ok(())).err().unwrap().to_string();
    assert!(error.contains("records.parquet") && error.contains("renaming"), "{error}");
    // A file put in its place by renaming does not touch the open one.
    let file = open();
    std::fs::write(folder.path().join("new"), b"other").unwrap();
    std::fs::rename(folder.path().join("new"), &path).unwrap();
    assert!(file.read(&[0], |_| Ok(())).is_ok());
}

#[test]
fn only_the_columns_asked_for_are_decoded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("records.parquet");
    write(&path, plain());
    let mut seen = 0;
    let file = ParquetFile::open(&path).unwrap();
    file.read(&[4, 0, 4], |row| {
        seen += 1;
        let decoded: Vec<usize> = (0..6).filter(|&place| row.columns[place].is_some()).collect();
        assert_eq!(decoded, [0, 4]);
        Ok(())
    })
    .unwrap();
    assert_eq!(seen, 3);
}

/// One random record: unit, two numbers, a word, a binary value and a label, with nulls.
type RandomRow = (u8, Option<f32>, Option<f64>, Option<u8>, Option<bool>, bool);

fn random_row() -> impl Strategy<Value = RandomRow> {
    let single = prop_oneof![0f32..10.0, Just(10.0), Just(0.1), Just(-0.0)];
    let double = prop_oneof![-20f64..120.0, Just(1e300), Just(100.0)];
    (
        0u8..6,
        proptest::option::of(single),
        proptest::option::of(double),
        proptest::option::of(0u8..2),
        any::<Option<bool>>(),
        any::<bool>(),
    )
}

fn random_columns(rows: &[RandomRow]) -> Columns {
    let word = |row: &RandomRow| row.3.map(|word| ["red", "green"][usize::from(word)]);
    vec![
        ("y", text(&rows.iter().map(|row| Some(if row.5 { "yes" } else { "no" })).collect::<Vec<_>>())),
        ("t", Arc::new(rows.iter().map(|row| row.4).collect::<BooleanArray>())),
        ("s", Arc::new(rows.iter().map(|row| row.2).collect::<Float64Array>())),
        ("c", Arc::new(rows.iter().map(word).collect::<DictionaryArray<Int8Type>>())),
        ("a", Arc::new(rows.iter().map(|row| row.1).collect::<Float32Array>())),
        ("id", Arc::new(rows.iter().map(|row| Some(row.0)).collect::<UInt8Array>())),
    ]
}

fn random_lines(rows: &[RandomRow]) -> String {
    let or_empty = |cell: Option<String>| cell.unwrap_or_default();
    let line = |row: &RandomRow| {
        let word = row.3.map(|word| ["red", "green"][usize::from(word)].to_owned());
        let cells = [
            row.0.to_string(),
            or_empty(row.1.map(|cell| cell.to_string())),
            or_empty(word),
            or_empty(row.2.map(|cell| cell.to_string())),
            or_empty(row.4.map(|cell| u8::from(cell).to_string())),
            if row.5 { "yes" } else { "no" }.to_owned(),
        ];
        cells.join(",") + "\n"
    };
    rows.iter().map(line).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn parquet_and_text_of_one_table_make_the_same_data_set(
        rows in proptest::collection::vec(random_row(), 2..60), cut in 0usize..60, group in 1usize..20,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let cut = 1 + cut % (rows.len() - 1);
        let paths: Vec<PathBuf> = [(0, &rows[..cut]), (1, &rows[cut..])]
            .map(|(index, rows)| {
                let path = folder.path().join(format!("{index}.parquet"));
                let groups = WriterProperties::builder().set_max_row_group_row_count(Some(group));
                write_with(&path, random_columns(rows), groups.build());
                path
            })
            .to_vec();
        for unfit in [UnfitCells::Mend, UnfitCells::Refuse] {
            let typed = read_as(paths.clone(), unfit).map(|dataset| bits(&dataset));
            let texts = csv(&random_lines(&rows), unfit).map(|dataset| bits(&dataset));
            match (typed, texts) {
                (Ok(typed), Ok(texts)) => prop_assert_eq!(typed, texts),
                (Err(_), Err(_)) => prop_assert_eq!(unfit, UnfitCells::Refuse),
                (typed, texts) => prop_assert!(false, "{} and {}", typed.is_ok(), texts.is_ok()),
            }
        }
    }
}

/// Every file of a cohort by its own name: a cohort is a list as the training data is.
#[test]
fn cohorts_are_lists_too() {
    let folder = tempfile::tempdir().unwrap();
    let paths = ["one", "two"].map(|name| folder.path().join(name).with_extension("parquet"));
    paths.iter().for_each(|path| write(path, plain()));
    let files = RecordFiles::new(paths.to_vec()).unwrap();
    let cohorts = BTreeMap::from([("test".parse().unwrap(), files.clone())]);
    let source = crate::data::FileSource::new(files, cohorts, clock());
    let test = crate::data::source::Records::Cohort("test".parse().unwrap());
    let study = document(&[]);
    let dataset = crate::data::DataSource::read(&source, &test, study.study()).unwrap();
    assert_eq!((dataset.records(), dataset.units().count()), (6, 2));
    for (path, found) in
        paths.iter().map(|path| (path, crate::data::describe(path, crate::data::files::Format::Parquet)))
    {
        assert_eq!(found.unwrap(), "has 6 columns and 3 records", "{}", path.display());
    }
}
