//! The exported model on raw rows, in ONNX Runtime from Rust and from Python, against the site's own probabilities.
#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use fusiondp_protocol::study::StudyDocument;
use fusiondp_site_agent::imputer::runtime::{RuntimeLookup, environment};
use fusiondp_tests::cohort::{CohortSpec, write};
use fusiondp_tests::harness::small;
use fusiondp_tests::harness::toml_text::TomlText;
use fusiondp_tests::shared_data::{checkout, leave_out};
use fusiondp_tests::simulation::{Outcome, SimulationOptions, exact, simulate};
use fusiondp_tests::split::{SplitOptions, split};
use ort::environment::Environment;
use ort::session::Session;
use ort::value::{Tensor, Value};

const TOLERANCE: f32 = 1e-5;

/// A trained model, the raw file it is run on, and the probabilities that the site computes itself.
struct Trained {
    outcome: Outcome,
    rows: PathBuf,
    probabilities: Vec<f32>,
}

async fn train(study: &TomlText, root: &Path) -> Trained {
    let data = root.join("data");
    write(CohortSpec::new(1, 300, 1).unwrap(), &data).unwrap();
    let mut study = study.clone();
    study.set("federation", "min_sites", 1).unwrap();
    let options = SimulationOptions {
        study: study.text().to_owned(),
        data: data.clone(),
        sites: 1,
        seed: 1,
        imputer: None,
        rounds: None,
        state: root.join("state"),
    };
    let outcome = simulate(&options, &mut |_| {}).await.unwrap();
    let cut = SplitOptions { sites: 1, seed: 1, unit_column: None };
    let sites = split(&data, cut, &root.join("cut")).unwrap();
    let document = StudyDocument::from_bytes(study.text().as_bytes()).unwrap();
    let scored = exact::score(document.study(), &outcome.parameters, &sites, "test").unwrap();
    let probabilities = scored.logits.iter().map(|logit| 1.0 / (1.0 + (-logit).exp())).collect();
    Trained { outcome, rows: data.join("hospital-a/test.csv"), probabilities }
}

/// Raw cells of one column, NaN where empty.
fn column(rows: &Path, name: &str) -> Vec<f32> {
    let mut reader = csv::Reader::from_path(rows).unwrap();
    let index = reader.headers().unwrap().iter().position(|header| header == name).unwrap();
    let cell = |row: csv::StringRecord| row[index].parse().unwrap_or(f32::NAN);
    reader.records().map(|row| cell(row.unwrap())).collect()
}

fn run_in_rust(environment: &Environment, model: &[u8], rows: &Path) -> Vec<f32> {
    let mut session = Session::builder(environment).unwrap().commit_from_memory(model).unwrap();
    let names: Vec<String> = session.inputs().iter().map(|input| input.name().to_owned()).collect();
    let inputs: Vec<(String, Value)> = names
        .into_iter()
        .map(|name| {
            let cells = column(rows, &name);
            let tensor = Tensor::from_array(([cells.len(), 1], cells)).unwrap();
            (name, tensor.into_dyn())
        })
        .collect();
    let outputs = session.run(inputs).unwrap();
    outputs["probability"].try_extract_tensor::<f32>().unwrap().1.to_vec()
}

fn assert_near(found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len());
    let worst = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    println!("{} rows, largest difference {worst:e}", found.len());
    assert!(worst <= TOLERANCE, "largest difference {worst}");
}

fn studies() -> [TomlText; 3] {
    let mut mlp = small::mlp_study(6, &"00".repeat(32)).unwrap();
    mlp.replace_section("imputer", "kind = \"declared-noise\"").unwrap();
    mlp.replace_section("fusion", "mode = \"feature-dp\"").unwrap();
    let mut adapted = mlp.clone();
    let model = "kind = \"mlp\"\nwidths = [16]\nprivate = { layers = [\"L.1\"], adapters = { rank = 2 } }";
    adapted.replace_section("model", model).unwrap();
    [small::split_study(6).unwrap(), mlp, adapted]
}

#[tokio::test(flavor = "multi_thread")]
async fn exported_models_give_the_sites_own_probabilities() {
    let lookup = RuntimeLookup::of_process(None);
    if lookup.locate().is_err() {
        return leave_out("ONNX Runtime (run deploy/onnxruntime/fetch.sh)");
    }
    let (_, environment) = environment(&lookup).unwrap();
    for study in studies() {
        let root = tempfile::tempdir().unwrap();
        let trained = train(&study, root.path()).await;
        let found = run_in_rust(&environment, &trained.outcome.report["model.onnx"], &trained.rows);
        assert_near(&found, &trained.probabilities);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn python_gets_the_same_from_raw_rows() {
    let Some(python) = python_with_onnxruntime() else {
        return leave_out("Python 3 with numpy and onnxruntime (tests/python/requirements.txt)");
    };
    for study in studies() {
        let root = tempfile::tempdir().unwrap();
        let trained = train(&study, root.path()).await;
        let (model, expected) = (root.path().join("model.onnx"), root.path().join("expected.csv"));
        fs::write(&model, &trained.outcome.report["model.onnx"]).unwrap();
        let mut text = "probability\n".to_owned();
        for probability in &trained.probabilities {
            writeln!(text, "{probability}").unwrap();
        }
        fs::write(&expected, text).unwrap();
        let script = checkout().join("tests/python/check_onnx.py");
        let output =
            Command::new(&python).arg(script).arg(&model).arg(&trained.rows).arg(&expected).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        assert!(said.contains("60 rows"), "{said}");
    }
}

/// A Python with the packages of `tests/python/requirements.txt`, in a virtual environment in the target folder.
fn python_with_onnxruntime() -> Option<PathBuf> {
    let executable = std::env::current_exe().unwrap();
    let target = executable.ancestors().find(|folder| folder.ends_with("release"))?.parent()?.to_owned();
    let venv = target.join("python-venv");
    let python = venv.join("bin/python");
    let requirements = checkout().join("tests/python/requirements.txt");
    let installed = venv.join("installed.txt");
    let wanted = fs::read_to_string(&requirements).unwrap();
    if fs::read_to_string(&installed).is_ok_and(|text| text == wanted) {
        return Some(python);
    }
    let run = |command: &mut Command| command.output().is_ok_and(|output| output.status.success());
    let ready = run(Command::new("python3").args(["-m", "venv"]).arg(&venv))
        && run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "-r"]).arg(&requirements));
    if !ready {
        return None;
    }
    fs::write(installed, wanted).unwrap();
    Some(python)
}
