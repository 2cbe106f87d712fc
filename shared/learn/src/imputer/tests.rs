#![allow(clippy::unwrap_used)]

use chacha20::ChaCha8Rng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::{
    schema::{Column, Schema, Transform},
    table::{PublicFeatures, SensitiveFeatures},
};

const SCHEMA: &str = r#"
columns = [
    { name = "x", role = "public", kind = { type = "continuous", range = [-3, 3] }, missing_indicator = true },
    { name = "w", role = "public", kind = { type = "categorical", vocabulary = ["a", "b", "c"] } },
    { name = "age", role = "sensitive", kind = { type = "continuous", range = [0, 110] }, transform = { type = "bins", edges = [30, 50, 70] } },
    { name = "sex", role = "sensitive", kind = { type = "binary" }, transform = { type = "one-hot" } },
    { name = "job", role = "sensitive", kind = { type = "categorical", vocabulary = ["u", "v", "t"] } },
    { name = "y", role = "label", kind = { type = "binary" } },
]
"#;

fn schema() -> Schema {
    toml::from_str(SCHEMA).unwrap()
}

fn column(name: &str) -> Column {
    schema().column(name).unwrap().clone()
}

/// Sensitive features follow from public ones up to noise; one cell in ten is missing on either side.
fn cohort(records: usize) -> (PublicFeatures, SensitiveFeatures) {
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let mut uniform = move || (rng.next_u64() >> 40) as f32 / (1u64 << 24) as f32;
    let mut columns = [const { Vec::new() }; 5];
    for _ in 0..records {
        let (x, w) = (6.0 * uniform() - 3.0, (3.0 * uniform()).floor());
        let age = (55.0 + 12.0 * x + 4.0 * (uniform() - 0.5)).clamp(0.0, 110.0);
        let sex = f32::from(u8::from(x * x > 2.0 + 0.2 * uniform()));
        let job = (w + 1.0) % 3.0;
        for (cells, cell) in columns.iter_mut().zip([x, w, age, sex, job]) {
            cells.push(if uniform() < 0.1 { f32::NAN } else { cell });
        }
    }
    let [x, w, age, sex, job] = columns;
    let public = PublicFeatures::new(&schema(), vec![x, w]).unwrap();
    (public, SensitiveFeatures::new(&schema(), vec![age, sex, job]).unwrap())
}

fn quick() -> ImputerFit {
    ImputerFit { widths: vec![32], epochs: 60, batch: 64, dropout: 0.0, ..ImputerFit::default() }
}

#[test]
fn a_fit_finds_what_public_features_tell() {
    let (public, sensitive) = cohort(1500);
    let mut epochs = Vec::new();
    let imputer =
        fit(&schema(), &public, &sensitive, &quick(), &mut |progress| epochs.push(progress)).unwrap();
    assert!(epochs.last().unwrap().best_loss < epochs[0].held_out_loss / 2.0);
    // One public cell in ten is missing, so about one record in ten can only be guessed.
    let [age, sex, job] = imputer.quality() else { panic!("three features") };
    assert!(matches!(age.quality, Quality::Regression { r2: Some(r2), .. } if r2 > 0.75), "{age:?}");
    assert!(matches!(sex.quality, Quality::Binary { auroc: Some(auroc), .. } if auroc > 0.9), "{sex:?}");
    assert!(
        matches!(job.quality, Quality::Categorical { accuracy: Some(accuracy) } if accuracy > 0.85),
        "{job:?}"
    );
    assert!((100..150).contains(&age.cells), "missing held-out cells count: {}", age.cells);
    let imputed = imputer.impute(&public).unwrap();
    assert_eq!((imputed.rows(), imputed.columns()), (1500, 3));
}

#[test]
fn the_same_seed_gives_the_same_network_and_another_seed_another() {
    let (public, sensitive) = cohort(200);
    let run = |seed| {
        let options = ImputerFit { seed, epochs: 2, dropout: 0.3, ..quick() };
        fit(&schema(), &public, &sensitive, &options, &mut |_| ()).unwrap().params
    };
    assert_eq!(run(5), run(5));
    assert_ne!(run(5), run(6));
}

#[test]
fn missing_sensitive_cells_take_no_part_in_the_fit() {
    let (public, sensitive) = cohort(100);
    let columns: Vec<Vec<f32>> = (0..3).map(|i| sensitive.column(i).to_vec()).collect();
    let seen = fit(&schema(), &public, &sensitive, &quick(), &mut |_| ()).unwrap().params;
    assert!(seen.iter().all(|parameter| parameter.is_finite()));
    let mut hidden = columns;
    hidden[0].fill(f32::NAN);
    let hidden = SensitiveFeatures::new(&schema(), hidden).unwrap();
    let error = fit(&schema(), &public, &hidden, &quick(), &mut |_| ()).err().unwrap();
    assert_eq!(error, ImputerError::NeverObserved { column: "age".into() });
}

#[test]
fn early_stopping_obeys_patience() {
    let (public, sensitive) = cohort(60);
    let options = ImputerFit { epochs: 400, patience: 3, learning_rate: 0.02, ..quick() };
    let mut epochs = Vec::new();
    fit(&schema(), &public, &sensitive, &options, &mut |progress| epochs.push(progress)).unwrap();
    assert!(epochs.len() < 400);
    let best = epochs
        .iter()
        .position(|p| p.held_out_loss == p.best_loss && p.best_loss == epochs.last().unwrap().best_loss);
    assert_eq!(best.unwrap() + 1 + 3, epochs.len());
}

#[test]
fn what_cannot_be_fitted_is_refused() {
    let (public, sensitive) = cohort(30);
    let run = |public: &PublicFeatures, sensitive: &SensitiveFeatures, options: &ImputerFit| {
        fit(&schema(), public, sensitive, options, &mut |_| ()).err().unwrap()
    };
    let few: Vec<usize> = (0..10).collect();
    let error = run(&public.select(&few), &sensitive.select(&few), &quick());
    assert_eq!(error, ImputerError::TooFewRecords { found: 10, wanted: 20 });
    assert!(matches!(run(&public, &sensitive.select(&few), &quick()), ImputerError::RowCount { .. }));
    for options in [
        ImputerFit { epochs: 0, ..quick() },
        ImputerFit { widths: vec![8, 0], ..quick() },
        ImputerFit { learning_rate: f64::NAN, ..quick() },
        ImputerFit { weight_decay: -1.0, ..quick() },
        ImputerFit { dropout: 1.0, ..quick() },
    ] {
        assert!(matches!(run(&public, &sensitive, &options), ImputerError::Option { .. }), "{options:?}");
    }
}

#[test]
fn options_have_defaults_and_refuse_unknown_fields() {
    let options: ImputerFit = toml::from_str("epochs = 9").unwrap();
    assert_eq!(options, ImputerFit { epochs: 9, ..ImputerFit::default() });
    assert!(toml::from_str::<ImputerFit>("epoch = 9").is_err());
    ImputerFit::default().validate().unwrap();
}

/// Central differences of each head's loss, f32: a step of 1e-2 and a tolerance of 1e-3.
#[test]
fn slopes_agree_with_finite_differences() {
    let schema = schema();
    let heads = Head::all(schema.sensitive());
    assert_eq!(heads.iter().map(|head| head.range.clone()).collect::<Vec<_>>(), [0..1, 1..2, 2..5]);
    let cases: [(usize, &[f32], f32); 5] = [
        (0, &[0.3], 80.0),
        (0, &[-4.0], 80.0),
        (1, &[0.7], 1.0),
        (1, &[-2.0], 0.0),
        (2, &[0.1, -0.4, 0.9], 1.0),
    ];
    for (index, output, cell) in cases {
        let head = &heads[index];
        let mut slope = vec![0.0; output.len()];
        head.loss(output, cell, &mut slope);
        for i in 0..output.len() {
            let moved = |by: f32| {
                let mut output = output.to_vec();
                output[i] += by;
                head.loss(&output, cell, &mut vec![0.0; output.len()])
            };
            let difference = (moved(1e-2) - moved(-1e-2)) / 2e-2;
            assert!((difference - slope[i]).abs() < 1e-3, "head {index}: {difference} is not {}", slope[i]);
        }
    }
}

#[test]
fn targets_invert_over_the_whole_range() {
    let range = [-6000.0, 24.0];
    let edges = vec![-168.0, -24.0, 0.0];
    let transforms = [
        Transform::Identity {},
        Transform::Scale { center: -50.0, scale: 100.0, limit: Some(3.0) },
        Transform::SignedLog { center: -2.0, scale: 1.5, limit: None },
        Transform::Bins { edges: edges.clone() },
        Transform::Bins { edges: vec![-6000.0, 24.0] },
    ];
    for transform in transforms {
        let target = Target::new(range, &transform);
        let mut last = f32::NEG_INFINITY;
        for value in [-6000.0_f32, -2500.5, -168.0, -100.0, -24.0, -1.0, 0.0, 0.25, 24.0] {
            let coded = target.of(value);
            assert!(coded > last, "{transform:?} is not increasing at {value}");
            last = coded;
            let back = target.value(coded);
            assert!(
                (back - value).abs() <= 2e-5 * (1.0 + value.abs()),
                "{transform:?}: {value} becomes {back}"
            );
        }
    }
    let knots = Target::new(range, &Transform::Bins { edges });
    assert_eq!((knots.of(-6000.0), knots.of(24.0), knots.of(-24.0)), (-2.0, 2.0, 0.0));
}

#[test]
fn scores_become_cells_by_kind() {
    assert_eq!(imputed_value(&column("age"), &[55.5]), Ok(55.5));
    assert_eq!(imputed_value(&column("age"), &[-3.0]), Ok(0.0));
    assert_eq!(imputed_value(&column("age"), &[1e9]), Ok(110.0));
    assert_eq!(imputed_value(&column("sex"), &[0.5]), Ok(1.0));
    assert_eq!(imputed_value(&column("sex"), &[0.9, 0.1]), Ok(0.0));
    assert_eq!(imputed_value(&column("job"), &[0.2, 0.4, 0.4]), Ok(1.0));
    let numeric = Column { transform: None, ..column("sex") };
    assert_eq!(imputed_value(&numeric, &[0.7, 0.3]), Ok(0.3));
    assert_eq!(imputed_value(&numeric, &[1.0000001]), Ok(1.0));
}

#[test]
fn scores_of_a_wrong_shape_or_value_are_refused() {
    assert!(matches!(imputed_value(&column("age"), &[1.0, 2.0]), Err(OutputProblem::Width { found: 2, .. })));
    assert!(matches!(imputed_value(&column("sex"), &[]), Err(OutputProblem::Width { found: 0, .. })));
    assert!(matches!(imputed_value(&column("job"), &[1.0]), Err(OutputProblem::Width { found: 1, .. })));
    assert_eq!(imputed_column(&column("age"), &[1.0, f32::NAN], 1), Err(OutputProblem::NotFinite { row: 1 }));
    assert_eq!(imputed_column(&column("job"), &[0.1, 0.8, 0.1, 0.9, 0.0, 0.1], 3), Ok(vec![1.0, 0.0]));
}
