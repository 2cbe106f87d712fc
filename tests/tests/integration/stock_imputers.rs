//! Models exported by the scikit-learn scripts of `deploy/imputers`, run by the site's own imputer.
//!
//! `tests/data/imputers/README.md` says how the files were made; `expected.json` was written by ONNX Runtime in Python.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fusiondp_dp::Digest;
use fusiondp_protocol::study::StudyDocument;
use fusiondp_protocol::support::SupportUnits;
use fusiondp_runtime::SystemClock;
use fusiondp_site_agent::data::source::Records;
use fusiondp_site_agent::data::{DataSource, FileSource};
use fusiondp_site_agent::imputer::runtime::RuntimeLookup;
use fusiondp_site_agent::imputer::{ImputerInput, ImputerProvider, ProviderSettings};
use fusiondp_site_agent::policy::Purpose;
use fusiondp_tests::shared_data::{checkout, leave_out};
use serde_json::Value;

fn data() -> PathBuf {
    checkout().join("tests/data/imputers")
}

/// A study on the columns of `schema.toml` that the model imputes.
fn study(sensitive: &[String], sha256: &str) -> StudyDocument {
    let schema: toml::Table = fs::read_to_string(data().join("schema.toml")).unwrap().parse().unwrap();
    let mut columns = schema["schema"]["columns"].as_array().unwrap().clone();
    columns.retain(|column| {
        let name = column["name"].as_str().unwrap();
        column["role"].as_str() != Some("sensitive") || sensitive.iter().any(|kept| kept == name)
    });
    let mut text = format!(
        "[study]\nname = \"imputers\"\n[model]\nkind = \"linear\"\n[imputer]\nkind = \"onnx\"\nsha256 = \"{sha256}\"\n\
         [fusion]\nmode = \"fusiondp\"\n[privacy]\nclip_norm = 1.0\ndelta = 1e-5\ntarget = {{ noise_multiplier = 1.0 }}\n\
         [training]\nrounds = 1\nexpected_batch_size = 2\npublic_batch_size = 2\n\
         optimizer = {{ kind = \"sgd\", learning_rate = 0.1 }}\n[federation]\nmin_sites = 1\n"
    );
    write!(text, "[schema]\ncolumns = {}\n", toml::Value::Array(columns)).unwrap();
    StudyDocument::from_bytes(text.as_bytes()).unwrap()
}

/// `records.csv` with a label column, which a training file has and the imputer does not see.
fn records(folder: &Path) -> PathBuf {
    let text = fs::read_to_string(data().join("records.csv")).unwrap();
    let mut lines = text.lines();
    let mut labelled = format!("{},outcome\n", lines.next().unwrap());
    for line in lines {
        writeln!(labelled, "{line},0").unwrap();
    }
    let path = folder.join("records.csv");
    fs::write(&path, labelled).unwrap();
    path
}

fn names(expected: &Value) -> Vec<String> {
    expected["imputed"].as_object().unwrap().keys().cloned().collect()
}

#[test]
fn stock_exports_give_the_expected_cells() {
    let lookup = RuntimeLookup::of_process(None);
    if lookup.locate().is_err() {
        return leave_out("ONNX Runtime (run deploy/onnxruntime/fetch.sh)");
    }
    let expected: Value = serde_json::from_slice(&fs::read(data().join("expected.json")).unwrap()).unwrap();
    for model in ["boosting", "linear", "stock"] {
        let file = data().join(format!("{model}.onnx"));
        let sha256 = Digest::of(&fs::read(&file).unwrap()).to_string();
        let document = study(&names(&expected[model]), &sha256);
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(SystemClock);
        let source = FileSource::csv(records(folder.path()), Default::default(), clock.clone());
        let dataset = source.read(&Records::Train, document.study()).unwrap();
        let settings =
            ProviderSettings { folder: Some(data()), lookup: lookup.clone(), ..ProviderSettings::default() };
        let provider = ImputerProvider::new(settings, Purpose::Production, clock);
        let imputer = provider.find(&document).unwrap().unwrap();
        let schema = &document.study().schema;
        let input = ImputerInput { schema, public: dataset.public(), units: dataset.units() };
        let imputed = imputer.impute(&input).unwrap();
        assert_eq!(imputed.rows(), 12);
        for (index, column) in schema.sensitive().enumerate() {
            let wanted = expected[model]["imputed"][&column.name].as_array().unwrap();
            for (row, (&cell, wanted)) in imputed.column(index).iter().zip(wanted).enumerate() {
                let wanted = wanted.as_f64().unwrap() as f32;
                let near = (cell - wanted).abs() <= 1e-5 * wanted.abs().max(1.0);
                assert!(near, "{model}, {} of row {row}: {cell}, expected {wanted}", column.name);
            }
        }
    }
}

/// Both writers of support lists agree, so that a site finds its patients whoever fitted the imputer.
#[test]
fn the_scripts_list_support_patients_as_imputer_fit_does() {
    let folder = tempfile::tempdir().unwrap();
    let support = folder.path().join("support.csv");
    fs::write(&support, "HR,patient_id\n80,p2\n81, p10 \n82,\n83,p2\n84,é-7\n").unwrap();
    let program = "import json, support, sys; print(json.dumps(support.metadata(support.ids(sys.argv[1], 'patient_id'))))";
    let output = std::process::Command::new("python3")
        .current_dir(checkout().join("deploy/imputers"))
        .args(["-B", "-c", program])
        .arg(&support)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let written: BTreeMap<String, String> = serde_json::from_slice(&output.stdout).unwrap();
    let listed = SupportUnits::of(["p2", "p10", "é-7"]).unwrap();
    assert_eq!(written, BTreeMap::from(listed.to_metadata()));
    let read = SupportUnits::from_metadata(&written).unwrap().unwrap();
    assert!(read.count() == 3 && read.contains("p10") && !read.contains("p1"));
}

#[test]
fn a_model_with_another_digest_is_refused() {
    let expected: Value = serde_json::from_slice(&fs::read(data().join("expected.json")).unwrap()).unwrap();
    let document = study(&names(&expected["linear"]), &"ab".repeat(32));
    let settings = ProviderSettings { folder: Some(data()), ..ProviderSettings::default() };
    let provider = ImputerProvider::new(settings, Purpose::Production, Arc::new(SystemClock));
    let error = provider.find(&document).err().unwrap().to_string();
    assert!(error.contains("abab"), "{error}");
}
