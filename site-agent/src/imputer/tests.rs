#![allow(clippy::unwrap_used)]
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fusiondp_dp::Digest;
use fusiondp_learn::imputer::{ImputerFit, fit};
use fusiondp_learn::onnx::export_imputer;
use fusiondp_learn::schema::Schema;
use fusiondp_learn::table::{ImputedFeatures, PublicFeatures};
use serde::Deserialize;

use super::cache::{CacheKey, ImputationCache};
use super::declared_noise::DeclaredNoise;
use super::onnx::{OnnxImputer, OnnxSettings, find};
use super::runtime::RuntimeLookup;
use super::*;
use crate::data::dataset::{ReadOptions, UnfitCells};
use crate::data::{Dataset, Progress, RecordFiles};
use crate::policy::Purpose;
use crate::testing::{clock, document, provider, sources, write_records};

fn dataset(folder: &Path) -> Dataset {
    let study = document(&[]);
    sources(folder).source.read(&crate::data::source::Records::Train, study.study()).unwrap()
}

fn schema() -> Schema {
    document(&[]).study().schema.clone()
}

fn impute(imputer: &dyn Imputer, dataset: &Dataset) -> Result<ImputedFeatures, ImputerError> {
    let schema = schema();
    imputer.impute(&ImputerInput { schema: &schema, public: dataset.public(), units: dataset.units() })
}

/// The study's imputer, which reads `imputed.csv`.
fn precomputed(folder: &Path, dataset: &Dataset) -> Result<ImputedFeatures, ImputerError> {
    let imputer = provider(folder).find(&document(&[])).unwrap().unwrap();
    impute(imputer.as_ref(), dataset)
}

fn settings(mapped: &[(&str, &str)]) -> OnnxSettings {
    OnnxSettings {
        mapped: mapped.iter().map(|(feature, place)| ((*feature).to_owned(), (*place).to_owned())).collect(),
        lookup: RuntimeLookup::of_process(None),
        clock: clock(),
        turn: Arc::default(),
        workers: NonZeroUsize::MIN.saturating_add(1),
    }
}

/// Whether ONNX Runtime is there; its absence is an error where everything must be tested.
fn runtime_is_there(test: &str) -> bool {
    match runtime::environment(&RuntimeLookup::of_process(None)) {
        Ok(_) => true,
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "{error}");
            println!("{test}: skipped, {error}");
            false
        }
    }
}

#[test]
fn precomputed_values_are_joined_by_unit() {
    let folder = tempfile::tempdir().unwrap();
    write_records(folder.path(), 5, 2, false);
    let dataset = dataset(folder.path());
    let before = precomputed(folder.path(), &dataset).unwrap();
    let path = folder.path().join("imputed.csv");
    let text = std::fs::read_to_string(&path).unwrap();
    let mut lines: Vec<&str> = text.lines().collect();
    // Units in another order, one unit more; rows of a unit stay in order.
    lines[1..].sort_by_key(|line| std::cmp::Reverse(line.split(',').next().unwrap().to_owned()));
    std::fs::write(&path, lines.join("\n") + "\nu99,1,1\n").unwrap();
    let after = precomputed(folder.path(), &dataset).unwrap();
    for column in 0..2 {
        assert_eq!(before.column(column), after.column(column));
    }
    assert_eq!(before.rows(), 10);
}

#[test]
fn precomputed_files_that_do_not_fit_are_named() {
    let folder = tempfile::tempdir().unwrap();
    write_records(folder.path(), 3, 2, false);
    let dataset = dataset(folder.path());
    let path = folder.path().join("imputed.csv");
    for (text, parts) in [
        ("id,s,t\nu0,1,1\nu0,1,1\n", ["2 of the site's units", "imputed.csv"]),
        ("id,s,t\nu0,1,1\nu0,1,1\nu1,1,1\nu2,1,1\nu2,1,1\n", ["1 units", "another number of rows"]),
        ("id,s\nu0,1\n", ["\"t\"", "missing"]),
        ("id,s,t\nu0,1,\n", ["line 2", "\"t\""]),
        ("id,s,t\nu0,fast,1\n", ["line 2", "\"s\""]),
    ] {
        std::fs::write(&path, text).unwrap();
        let error = precomputed(folder.path(), &dataset).err().unwrap().to_string();
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
        assert!(!error.contains("fast") && !error.contains("u1"), "{error}");
    }
}

#[test]
fn precomputed_numbers_are_clipped_and_probabilities_kept() {
    let folder = tempfile::tempdir().unwrap();
    write_records(folder.path(), 1, 1, false);
    std::fs::write(folder.path().join("imputed.csv"), "id,s,t\nu0,250.5,0.3\n").unwrap();
    let imputed = precomputed(folder.path(), &dataset(folder.path())).unwrap();
    assert_eq!((imputed.column(0), imputed.column(1)), (&[100.0][..], &[0.3][..]));
}

#[test]
fn an_empty_precomputed_cell_is_filled_and_does_not_show() {
    let folder = tempfile::tempdir().unwrap();
    write_records(folder.path(), 3, 1, false);
    std::fs::write(folder.path().join("imputed.csv"), "id,s,t\nu0,10,1\nu1,,0\nu2,30,1\n").unwrap();
    let imputed = precomputed(folder.path(), &dataset(folder.path())).unwrap();
    assert_eq!(imputed.column(0), &[10.0, 10.0, 30.0]);
}

#[test]
fn a_study_without_its_imputer_is_told_what_to_configure() {
    let empty = ImputerProvider::new(ProviderSettings::default(), Purpose::Production, clock());
    let ask = |kind: &str| empty.find(&document(&[("kind = \"precomputed\"", kind)])).err().unwrap();
    assert!(ask("kind = \"precomputed\"").to_string().contains("[imputer.precomputed]"));
    let pinned = format!("kind = \"onnx\"\nsha256 = \"{}\"", Digest::of(b"model"));
    assert!(ask(&pinned).to_string().contains("[imputer] dir"));
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("other.onnx"), b"other").unwrap();
    let settings = ProviderSettings { folder: Some(folder.path().to_owned()), ..ProviderSettings::default() };
    let some = ImputerProvider::new(settings, Purpose::Production, clock());
    let error = some.find(&document(&[("kind = \"precomputed\"", &pinned)])).err().unwrap();
    assert!(
        error.to_string().contains("other.onnx")
            && error.to_string().contains(&Digest::of(b"model").to_string())
    );
    let unpinned = some.find(&document(&[("kind = \"precomputed\"", "kind = \"onnx\"")])).err().unwrap();
    assert!(matches!(unpinned, ImputerError::NotPinned));
}

#[test]
fn a_pinned_precomputed_file_must_have_its_digest() {
    let folder = tempfile::tempdir().unwrap();
    write_records(folder.path(), 2, 1, false);
    let pinned = format!("kind = \"precomputed\"\nsha256 = \"{}\"", Digest::of(b"another file"));
    let imputer =
        provider(folder.path()).find(&document(&[("kind = \"precomputed\"", &pinned)])).unwrap().unwrap();
    let error = impute(imputer.as_ref(), &dataset(folder.path())).err().unwrap();
    assert!(matches!(error, ImputerError::DigestMismatch { .. }) && error.is_refusal());
}

#[test]
fn declared_noise_depends_on_study_unit_and_column_alone() {
    let folder = tempfile::tempdir().unwrap();
    write_records(folder.path(), 300, 2, false);
    let dataset = dataset(folder.path());
    let noise = |study: &[u8]| impute(&DeclaredNoise::new(Digest::of(study)), &dataset).unwrap();
    let (one, same, other) = (noise(b"a"), noise(b"a"), noise(b"b"));
    assert_eq!(one.column(0), same.column(0));
    assert_ne!(one.column(0), other.column(0));
    let values = one.column(0);
    let mean = values.iter().sum::<f32>() / 600.0;
    // Uniform on [0, 100]: the mean of 600 has deviation 1.2; fixed draw.
    assert!((45.0..55.0).contains(&mean), "{mean}");
    assert!(values.iter().all(|value| (0.0..=100.0).contains(value)));
    assert!(one.column(1).iter().all(|value| *value == 0.0 || *value == 1.0));
    assert_ne!(values[0], values[1], "records of one unit draw apart");
}

#[test]
fn the_cache_gives_back_what_it_took_and_nothing_damaged() {
    let folder = tempfile::tempdir().unwrap();
    write_records(folder.path(), 20, 1, false);
    let dataset = dataset(folder.path());
    let imputed = impute(&DeclaredNoise::new(Digest::of(b"a")), &dataset).unwrap();
    let cache = ImputationCache::new(folder.path().join("cache"));
    let schema = schema();
    let key = CacheKey::new(Digest::of(b"imputer"), dataset.digest(), &schema);
    assert!(cache.load(key, &schema, 20).is_none());
    cache.store(key, &imputed).unwrap();
    let loaded = cache.load(key, &schema, 20).unwrap();
    assert_eq!((loaded.column(0), loaded.column(1)), (imputed.column(0), imputed.column(1)));

    let other = CacheKey::new(Digest::of(b"other imputer"), dataset.digest(), &schema);
    assert!(cache.load(other, &schema, 20).is_none());
    let file = std::fs::read_dir(folder.path().join("cache")).unwrap().next().unwrap().unwrap().path();
    let bytes = std::fs::read(&file).unwrap();
    for position in [0, 20, 45, 60, bytes.len() - 1] {
        let mut damaged = bytes.clone();
        damaged[position] ^= 1;
        std::fs::write(&file, damaged).unwrap();
        assert!(cache.load(key, &schema, 20).is_none(), "byte {position}");
    }
    std::fs::write(&file, &bytes[..bytes.len() - 3]).unwrap();
    assert!(cache.load(key, &schema, 20).is_none());
    std::fs::write(&file, [bytes.clone(), vec![0]].concat()).unwrap();
    assert!(cache.load(key, &schema, 20).is_none());
}

/// A small network fitted by the learning engine, as a file, and its own values.
fn exported(dataset: &Dataset) -> (Vec<u8>, ImputedFeatures) {
    let schema = schema();
    let options = ImputerFit { widths: vec![8], epochs: 3, ..ImputerFit::default() };
    let network = fit(&schema, dataset.public(), dataset.sensitive(), &options, &mut |_| {}).unwrap();
    let bytes = export_imputer(&network, &BTreeMap::new()).unwrap();
    (bytes, network.impute(dataset.public()).unwrap())
}

#[test]
fn an_exported_network_imputes_as_the_engine_does() {
    if !runtime_is_there("an_exported_network_imputes_as_the_engine_does") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    // More than one batch, so that both workers and the seam between batches are used.
    write_records(folder.path(), 9_000, 1, false);
    let dataset = dataset(folder.path());
    let (bytes, expected) = exported(&dataset);
    let imputer = OnnxImputer::new(bytes, &schema(), settings(&[])).unwrap();
    let imputed = impute(&imputer, &dataset).unwrap();
    for column in 0..2 {
        for (row, (found, wanted)) in imputed.column(column).iter().zip(expected.column(column)).enumerate() {
            assert!((found - wanted).abs() <= 1e-3, "column {column}, row {row}");
        }
    }
}

#[test]
fn what_a_site_must_not_run_is_refused_before_it_runs() {
    let garbage = OnnxImputer::new(b"\xff\xffno model".to_vec(), &schema(), settings(&[])).err().unwrap();
    assert!(matches!(garbage, ImputerError::Refused(_)) && garbage.is_refusal());
    let folder = tempfile::tempdir().unwrap();
    write_records(folder.path(), 60, 1, false);
    let (bytes, _) = exported(&dataset(folder.path()));
    let text = document(&[]).text().replace("name = \"s\"", "name = \"weight\"");
    let renamed = fusiondp_protocol::study::StudyDocument::from_bytes(text.as_bytes()).unwrap();
    let error =
        OnnxImputer::new(bytes.clone(), &renamed.study().schema, settings(&[])).err().unwrap().to_string();
    assert!(error.contains("\"weight\"") && error.contains("[imputer.outputs]"), "{error}");
    assert!(
        OnnxImputer::new(bytes.clone(), &renamed.study().schema, settings(&[("weight", "s[0:1]")])).is_ok()
    );
    let text = document(&[]).text().replace("name = \"a\"", "name = \"pulse\"");
    let renamed = fusiondp_protocol::study::StudyDocument::from_bytes(text.as_bytes()).unwrap();
    let error =
        OnnxImputer::new(bytes.clone(), &renamed.study().schema, settings(&[])).err().unwrap().to_string();
    assert!(error.contains("input \"a\""), "{error}");
    let mapped = OnnxImputer::new(bytes.clone(), &schema(), settings(&[("t", "s")])).unwrap();
    let plain = OnnxImputer::new(bytes, &schema(), settings(&[])).unwrap();
    assert_ne!(mapped.cache_key(), plain.cache_key());
}

/// `tests/data/imputers`: models that scikit-learn made, with what ONNX Runtime gives for them in Python.
#[derive(Deserialize)]
struct Expected {
    imputed: BTreeMap<String, Vec<f32>>,
}

fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/imputers")
}

fn stock_records() -> (Schema, Dataset) {
    let schema: BTreeMap<String, Schema> =
        toml::from_str(&std::fs::read_to_string(models().join("schema.toml")).unwrap()).unwrap();
    let mut schema = schema.into_values().next().unwrap();
    // The records have no label, and the reader wants one.
    for column in &mut schema.columns {
        if column.role == fusiondp_learn::schema::Role::Label {
            column.missing = Some(fusiondp_learn::schema::MissingPolicy::Refuse);
        }
    }
    let label = schema.label().unwrap().name.clone();
    let text = std::fs::read_to_string(models().join("records.csv")).unwrap();
    let mut rows = text.lines();
    let header = rows.next().unwrap();
    let labelled: String = rows.map(|row| format!("{row},0\n")).collect();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("records.csv");
    std::fs::write(&path, format!("{header},{label}\n{labelled}")).unwrap();
    let options = ReadOptions { schema: &schema, unit_column: None, part: None, unfit: UnfitCells::Refuse };
    let dataset =
        Dataset::read(&RecordFiles::csv(path), &options, &mut Progress::start(clock(), "reading")).unwrap();
    (schema, dataset)
}

fn run(
    schema: &Schema,
    public: &PublicFeatures,
    units: &Units,
    file: &str,
    mapped: &[(&str, &str)],
) -> ImputedFeatures {
    let bytes = std::fs::read(models().join(file)).unwrap();
    let imputer = OnnxImputer::new(bytes, schema, settings(mapped)).unwrap();
    imputer.impute(&ImputerInput { schema, public, units }).unwrap()
}

#[test]
fn scikit_learn_exports_give_what_python_gives() {
    if !runtime_is_there("scikit_learn_exports_give_what_python_gives") {
        return;
    }
    let (schema, dataset) = stock_records();
    let expected: BTreeMap<String, Expected> =
        serde_json::from_str(&std::fs::read_to_string(models().join("expected.json")).unwrap()).unwrap();
    // `stock.onnx` holds two of the four features; the other two are mapped to what it has, to run it at all.
    let two_of_four = [("male", "variable[0:1]"), ("referral", "variable[0:1]")];
    for (file, mapped) in [("boosting", &[][..]), ("linear", &[])] {
        let imputed = run(&schema, dataset.public(), dataset.units(), &format!("{file}.onnx"), mapped);
        for (index, column) in schema.sensitive().enumerate() {
            let wanted = &expected[file].imputed[&column.name];
            for (row, (found, wanted)) in imputed.column(index).iter().zip(wanted).enumerate() {
                assert!(
                    (found - wanted).abs() <= 1e-4 * wanted.abs().max(1.0),
                    "{file}, {}, row {row}",
                    column.name
                );
            }
        }
    }
    let bytes = std::fs::read(models().join("stock.onnx")).unwrap();
    assert!(matches!(
        OnnxImputer::new(bytes.clone(), &schema, settings(&[])),
        Err(ImputerError::Output { .. })
    ));
    let imputer = OnnxImputer::new(bytes, &schema, settings(&two_of_four)).unwrap();
    let input = ImputerInput { schema: &schema, public: dataset.public(), units: dataset.units() };
    let error = imputer.impute(&input).err().unwrap().to_string();
    assert!(error.contains("\"referral\"") && error.contains("per word"), "{error}");
}

#[test]
fn a_file_is_found_by_its_digest_whatever_its_name() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("b.onnx"), b"model b").unwrap();
    std::fs::write(folder.path().join("a.onnx"), b"model a").unwrap();
    std::fs::write(folder.path().join("notes.txt"), b"model c").unwrap();
    let (path, bytes) = find(folder.path(), Digest::of(b"model b")).unwrap();
    assert_eq!((path.file_name().unwrap().to_str().unwrap(), bytes), ("b.onnx", b"model b".to_vec()));
    let error = find(folder.path(), Digest::of(b"model c")).err().unwrap().to_string();
    assert!(error.contains("a.onnx") && error.contains("b.onnx") && !error.contains("notes"), "{error}");
}
