//! Sweeps on a small synthetic cohort.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use fusiondp_dp::{NeighboringRelation, epsilon};
use fusiondp_protocol::study::StudyDocument;
use fusiondp_site_agent::policy::EpsilonMeter;

use super::cell::{Cell, Target};
use super::data::{ImputedFile, Prepared, prepare};
use super::engine::{RunOptions, Trained, train};
use super::mode::{DataName, ImputerName, Recipe};
use super::settings::{ImputerPin, SweepSettings};
use super::*;
use crate::cohort::{CohortSpec, write};

/// Small networks and few rounds.
const SETTINGS: &str = r#"
[sepsis.network]
model = { kind = "mlp", widths = [8], layer_norm = true, dropout = 0.1 }
fusion = { calibration_weight = 1.0 }
privacy = { unit_column = "patient_id", clip_norm = 1.0, delta = 1e-5 }
training = { rounds = 4, expected_batch_size = 40, public_batch_size = 80, optimizer = { kind = "sgd", learning_rate = 0.1 } }
[sepsis.mode.fusiondp]
[sepsis.mode.calibrated]
[sepsis.mode.warm-start]
fusion = { warmup_rounds = 2 }
[sepsis.mode.naive-fusion]
fusion = { calibration_weight = 1e-300 }
[sepsis.mode.feature-dp]
[sepsis.mode.dp-sgd]
[sepsis.mode.hybrid-only]
[sepsis.mode.non-private]
[sepsis.mode.public-only]
model = { kind = "split", widths = [8] }
training = { private_optimizer = { kind = "sgd", learning_rate = 1.0 } }
"#;

/// A folder of shared data with a synthetic sepsis cohort.
fn shared() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let sepsis = folder.path().join("data").join("sepsis");
    fs::create_dir_all(&sepsis).unwrap();
    write(CohortSpec::new(2, 300, 1).unwrap(), &sepsis).unwrap();
    folder
}

fn options(shared: &Path, out: &Path) -> ReproduceOptions {
    ReproduceOptions {
        shared: shared.to_owned(),
        out: out.to_owned(),
        settings: SweepSettings::parse(SETTINGS).unwrap(),
        data: vec![DataName::Sepsis],
        only: Vec::new(),
        imputers: vec![ImputerName::Constant],
        epsilons: vec![1.0, 2.0],
        seeds: 2,
        sites: 3,
        rounds: None,
        boosting: None,
        threads: 1,
    }
}

/// Runs until `stop` runs are finished; returns how many were trained and how many were there before.
fn sweep(options: &ReproduceOptions, stop: Option<usize>) -> (Reproduction, usize, usize) {
    let (mut trained, mut before) = (0, 0);
    let reproduction = reproduce(options, &mut |event| {
        let Event::Finished { resumed, .. } = event else { return ControlFlow::Continue(()) };
        if resumed {
            before += 1
        } else {
            trained += 1
        }
        if stop == Some(trained) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    (reproduction.unwrap(), trained, before)
}

fn table_of(options: &ReproduceOptions) -> String {
    fs::read_to_string(options.out.join("table.md")).unwrap()
}

#[test]
fn a_stopped_sweep_goes_on_where_it_was_and_ends_in_the_same_table() {
    let (shared, whole, parts) = (shared(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let at_once = options(shared.path(), whole.path());
    let (reproduction, trained, _) = sweep(&at_once, None);
    // Six noised modes at two epsilons and three without a target, over two seeds.
    assert_eq!((trained, reproduction.rows.len(), reproduction.complete), (30, 15, true));

    let in_parts = options(shared.path(), parts.path());
    let (stopped, trained, _) = sweep(&in_parts, Some(7));
    assert_eq!((trained, stopped.complete), (7, false));
    assert_ne!(table_of(&in_parts), table_of(&at_once));
    // As after a kill while a line was written.
    let file = parts.path().join("results.jsonl");
    let torn = fs::read_to_string(&file).unwrap() + "{\"data\":";
    fs::write(&file, torn).unwrap();
    let (resumed, trained, before) = sweep(&in_parts, None);
    assert_eq!((trained, before, resumed.complete), (23, 7, true));
    assert_eq!(table_of(&in_parts), table_of(&at_once));
    let json = |folder: &Path| fs::read(folder.join("results.json")).unwrap();
    assert_eq!(json(parts.path()), json(whole.path()));
    assert!(parts.path().join("plot-sepsis.svg").is_file());

    let (_, trained, before) = sweep(&in_parts, None);
    assert_eq!((trained, before), (0, 30));
    let changed = SETTINGS.replace("clip_norm = 1.0", "clip_norm = 0.9");
    let settings = SweepSettings::parse(&changed).unwrap();
    let only = vec![Recipe::DpSgd];
    let (_, trained, before) = sweep(&ReproduceOptions { settings, only, ..in_parts }, None);
    assert_eq!((trained, before), (4, 0));
}

/// One run by hand, with its parameters.
struct Bench {
    prepared: Prepared,
    settings: SweepSettings,
    work: tempfile::TempDir,
    _shared: tempfile::TempDir,
}

impl Bench {
    fn new(edits: &[(&str, &str)]) -> Self {
        let (shared, work) = (shared(), tempfile::tempdir().unwrap());
        let prepared = prepare(shared.path(), DataName::Sepsis, 3, work.path()).unwrap();
        let settings = edits.iter().fold(SETTINGS.to_owned(), |text, (from, to)| {
            assert!(text.contains(from), "{from}");
            text.replace(from, to)
        });
        Self { prepared, settings: SweepSettings::parse(&settings).unwrap(), work, _shared: shared }
    }

    fn document(&self, recipe: Recipe, target: Target) -> StudyDocument {
        let cell = Cell { data: DataName::Sepsis, recipe, imputer: None, target, seed: 1 };
        let pin = match recipe {
            Recipe::FeatureDp => ImputerPin::DeclaredNoise,
            recipe if recipe.reads_imputed_values() => ImputerPin::File,
            _ => ImputerPin::Unused,
        };
        let settings = self.settings.of(DataName::Sepsis).unwrap();
        settings.study(&self.prepared.base, &cell, 3, pin).unwrap()
    }

    fn train(&self, document: &StudyDocument, threads: usize) -> Trained {
        let sites = self.prepared.site_data(document.study(), ImputedFile::Constant).unwrap();
        let meter = Arc::new(EpsilonMeter::default());
        let options =
            RunOptions { sites: &sites, imputers: self.work.path(), seed: 1, threads, meter: &meter };
        train(document, &options, &mut |_| {}).unwrap()
    }

    fn run(&self, recipe: Recipe, target: Target) -> Trained {
        self.train(&self.document(recipe, target), 1)
    }
}

#[test]
fn modes_without_a_private_part_charge_nothing() {
    let bench = Bench::new(&[]);
    for recipe in [Recipe::HybridOnly, Recipe::PublicOnly, Recipe::NonPrivate] {
        let trained = bench.run(recipe, Target::None);
        assert_eq!((trained.charges, trained.spent.replace.get()), (0, 0.0), "{recipe}");
    }
}

#[test]
fn every_private_sum_is_charged_and_epsilon_is_that_of_the_charges() {
    let bench = Bench::new(&[]);
    let trained = bench.run(Recipe::DpSgd, Target::Epsilon(1.0));
    // Three sites of four rounds; each patient is at one site.
    assert_eq!(trained.charges, 12);
    let plan = &trained.plan;
    let events = plan.events_until(4);
    let wanted = epsilon(&events, plan.delta, NeighboringRelation::Replace).unwrap();
    assert_eq!(trained.spent.replace, wanted);
    assert!(trained.spent.replace.get() <= 1.0 && trained.spent.replace.get() > 0.95);
    assert_eq!(trained.spent.zero_out, epsilon(&events, plan.delta, NeighboringRelation::ZeroOut).unwrap());

    let warm = bench.run(Recipe::WarmStart, Target::Epsilon(1.0));
    assert_eq!(warm.charges, 6, "warm-up rounds are free");
    // The same epsilon over fewer rounds takes less noise.
    assert!(warm.plan.noise_multiplier < plan.noise_multiplier);
}

#[test]
fn naive_fusion_without_weight_is_hybrid_only() {
    // Both must draw the same public batches, which follow from the document: compare by what is left of the private part.
    let bench = Bench::new(&[]);
    let naive = bench.document(Recipe::NaiveFusion, Target::Noise(1.0));
    let text = naive.text().replace("\"naive-fusion\"", "\"hybrid-only\"");
    let hybrid = StudyDocument::from_bytes(text.as_bytes()).unwrap();
    assert_ne!(naive.digest(), hybrid.digest());
    let full = "public_batch_size = 80";
    let all = Bench::new(&[(full, "public_batch_size = 100000"), ("dropout = 0.1", "dropout = 0.0")]);
    let naive = all.run(Recipe::NaiveFusion, Target::Noise(1.0));
    let hybrid = all.run(Recipe::HybridOnly, Target::None);
    assert_eq!((naive.charges, hybrid.charges), (12, 0));
    close(&naive.parameters, &hybrid.parameters, 1e-5);
}

#[test]
fn calibrated_is_fusiondp_with_beta_zero() {
    let edits =
        [("public_batch_size = 80", "public_batch_size = 100000"), ("dropout = 0.1", "dropout = 0.0")];
    let bench = Bench::new(&edits);
    // Noise of another document is another draw, so it is made small: what remains are the gradients.
    let quiet = |recipe| {
        let text = bench.document(recipe, Target::Noise(2e-3)).text().to_owned();
        let text = text.replace("expected_batch_size = 40", "expected_batch_size = 360");
        StudyDocument::from_bytes(text.as_bytes()).unwrap()
    };
    let (fusion, calibrated) = (quiet(Recipe::FusionDp), quiet(Recipe::Calibrated));
    assert_eq!(fusion.study().private_objective(), calibrated.study().private_objective());
    let (fusion, calibrated) = (bench.train(&fusion, 1), bench.train(&calibrated, 1));
    close(&fusion.parameters, &calibrated.parameters, 5e-3);
    let hybrid = bench.run(Recipe::HybridOnly, Target::None);
    assert!(distance(&fusion.parameters, &hybrid.parameters) > 0.02, "the private part has an effect");
}

#[test]
fn threads_do_not_change_the_figures() {
    let bench = Bench::new(&[]);
    let document = bench.document(Recipe::FusionDp, Target::Epsilon(1.0));
    let (one, three) = (bench.train(&document, 1), bench.train(&document, 3));
    assert_eq!(one.parameters, three.parameters);
}

#[test]
fn imputers_that_cannot_be_had_are_named() {
    let (shared, out) = (shared(), tempfile::tempdir().unwrap());
    for (imputer, wanted) in [(ImputerName::Boosting, "--boosting"), (ImputerName::File, "train_imputed")] {
        let mut options = options(shared.path(), out.path());
        options.imputers = vec![imputer];
        options.only = vec![Recipe::FusionDp];
        let error = reproduce(&options, &mut |_| ControlFlow::Continue(())).unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
    }
}

fn distance(one: &[f32], other: &[f32]) -> f64 {
    assert_eq!(one.len(), other.len());
    one.iter().zip(other).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>().sqrt()
}

fn close(one: &[f32], other: &[f32], tolerance: f64) {
    let distance = distance(one, other);
    assert!(distance <= tolerance, "distance {distance}");
}
