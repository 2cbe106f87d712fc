#![allow(clippy::unwrap_used)]
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use fusiondp_dp::{ContributionShape, PrivateStep, SecureRng};
use fusiondp_learn::model::{PairedBatch, PrivateLoss, View, Workspace};
use fusiondp_protocol::chunks::{decode_f32, decode_i64};
use fusiondp_protocol::messages::TrainingTask;

use super::*;
use crate::policy::{Policy, PublicPermit, Purpose};
use crate::random::RandomSource;
use crate::store::Store;
use crate::testing::{DP_SGD, charges, document, limits, sources, task, write_records};

mod records;

const SEED: RandomSource = RandomSource::Simulation { seed: 5 };

/// Clip norm of the study of these tests.
const CLIP_NORM: f64 = 0.5;

/// Edits that make the study one of a split model, whose head alone is private.
const SPLIT: &[(&str, &str)] = &[
    ("kind = \"mlp\"", "kind = \"split\""),
    ("kind = \"precomputed\"", "kind = \"none\""),
    ("warmup_rounds = 1", "private_loss = \"direct\""),
    (
        "transform = { type = \"scale\", center = 50, scale = 25 }",
        "transform = { type = \"bins\", edges = [20, 60] }",
    ),
    ("kind = { type = \"binary\" } }", "kind = { type = \"binary\" }, transform = { type = \"one-hot\" } }"),
    ("[federation]", "private_optimizer = { kind = \"sgd\", learning_rate = 1.0 }\n[federation]"),
];

fn session(folder: &Path, edits: &[(&str, &str)], rows: usize, exact: bool) -> Session {
    write_records(folder, 40, rows, exact);
    Session::prepare(document(edits), &sources(folder)).unwrap()
}

fn permit(session: &Session) -> Option<PublicPermit> {
    let policy = Policy::new(limits(), Purpose::Production);
    let in_the_clear = session.public().filter(|_| !session.study().noises_public_part());
    in_the_clear.map(|_| policy.permit_public(session.study(), 40).unwrap())
}

/// One round on the session's initial parameters.
async fn round(session: &Session, task: &TrainingTask) -> RoundOutput {
    let store = Arc::new(Store::in_memory().await.unwrap());
    let releases = task.plan.releases(task.round);
    let charges = if releases.is_empty() { Vec::new() } else { charges(session, task, &store).await };
    let params = session.model().initialise(1);
    RoundWork { params, public: permit(session), charges, random: SEED, threads: NonZeroUsize::MIN }
        .compute(session, task)
        .unwrap()
}

fn split(output: &RoundOutput) -> (Vec<f32>, Vec<i64>) {
    let (public, private) = output.payload.split_at(output.public_values as usize * 4);
    let sum = decode_i64(private).unwrap();
    assert_eq!(sum.len() as u64, output.private_values);
    (decode_f32(public).unwrap(), sum)
}

#[tokio::test]
async fn with_equal_views_the_release_is_noise_alone() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let equal = session(folders[0].path(), &[], 1, true);
    let consistent = session(
        folders[1].path(),
        &[("warmup_rounds = 1", "warmup_rounds = 1\nconsistency_weight = 0.5")],
        1,
        true,
    );
    let differing = session(folders[2].path(), &[], 1, false);
    let (_, noise) = split(&round(&equal, &task(&equal, 2)).await);
    assert_eq!(noise.len(), equal.model().parameters());
    // Only the study's name and settings differ, so the draws differ too: the same spread, other values.
    let (_, other) = split(&round(&consistent, &task(&consistent, 2)).await);
    let deviation = 1.5 * 268_435_456.0;
    for values in [&noise, &other] {
        let mean_square =
            values.iter().map(|v| (*v as f64 / deviation).powi(2)).sum::<f64>() / values.len() as f64;
        // 49 squares of a standard normal: outside [0.4, 2.0] with probability below 1e-4.
        assert!((0.4..2.0).contains(&mean_square), "{mean_square}");
    }
    let (_, signal) = split(&round(&differing, &task(&differing, 2)).await);
    // The same study, seed and number of units: sample and noise are the same, the contributions are the difference.
    let contributions: f64 =
        signal.iter().zip(&noise).map(|(s, n)| ((s - n) as f64 / 268_435_456.0).powi(2)).sum();
    assert!(contributions > 0.0);
    assert!(contributions.sqrt() <= 40.0, "at most one clip norm per unit");
}

#[tokio::test]
async fn equal_views_hide_labels_and_true_values_from_the_private_sum() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let first = session(one.path(), &[], 1, true);
    write_records(two.path(), 40, 1, true);
    let flipped = std::fs::read_to_string(two.path().join("train.csv")).unwrap().replace(",no\n", ",yes\n");
    std::fs::write(two.path().join("train.csv"), flipped).unwrap();
    let second = Session::prepare(document(&[]), &sources(two.path())).unwrap();
    let (public_one, private_one) = split(&round(&first, &task(&first, 2)).await);
    let (public_two, private_two) = split(&round(&second, &task(&second, 2)).await);
    assert_eq!(private_one, private_two);
    assert_ne!(public_one, public_two);
}

#[tokio::test]
async fn a_warm_up_round_has_a_public_part_alone() {
    let folder = tempfile::tempdir().unwrap();
    let session = session(folder.path(), &[], 1, false);
    let output = round(&session, &task(&session, 1)).await;
    assert_eq!((output.public_values, output.private_values), (session.model().parameters() as u64, 0));
    assert!(output.public_loss > 0.0);
    assert_eq!(output.payload.len(), 4 * session.model().parameters());
}

#[tokio::test]
async fn charges_must_be_those_of_the_task() {
    let folder = tempfile::tempdir().unwrap();
    let session = session(folder.path(), &[], 1, false);
    let task = task(&session, 2);
    let work = RoundWork {
        params: session.model().initialise(1),
        public: permit(&session),
        charges: Vec::new(),
        random: SEED,
        threads: NonZeroUsize::MIN,
    };
    assert!(matches!(work.compute(&session, &task), Err(TrainError::Incomplete { .. })));
}

#[tokio::test]
async fn dp_sgd_reads_no_imputed_value_and_sends_no_public_gradient() {
    let folder = tempfile::tempdir().unwrap();
    write_records(folder.path(), 40, 3, false);
    std::fs::remove_file(folder.path().join("imputed.csv")).unwrap();
    let session = Session::prepare(document(DP_SGD), &sources(folder.path())).unwrap();
    assert!(session.public().is_none());
    assert_eq!(session.objective().loss, PrivateLoss::Direct);
    let output = round(&session, &task(&session, 1)).await;
    assert_eq!((output.public_values, output.private_values), (0, session.model().parameters() as u64));
    assert_eq!(output.public_loss, 0.0);
}

#[tokio::test]
async fn hybrid_only_never_encodes_true_values() {
    let folder = tempfile::tempdir().unwrap();
    let edits = [("mode = \"fusiondp\"\nwarmup_rounds = 1", "mode = \"hybrid-only\"")];
    let session = session(folder.path(), &edits, 1, false);
    assert!(session.real().is_none());
    let task = task(&session, 3);
    assert!(!task.private_part && task.plan.epsilon_replace.get() == 0.0);
    assert_eq!(round(&session, &task).await.private_values, 0);
}

#[tokio::test]
async fn the_split_models_public_part_reads_public_columns_alone() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let first = session(one.path(), SPLIT, 1, false);
    write_records(two.path(), 40, 1, false);
    let text = std::fs::read_to_string(two.path().join("train.csv")).unwrap();
    let shuffled: String = text
        .lines()
        .enumerate()
        .map(|(line, row)| {
            let mut cells: Vec<&str> = row.split(',').collect();
            if line > 0 {
                (cells[3], cells[4]) = ("", "");
            }
            cells.join(",") + "\n"
        })
        .collect();
    std::fs::write(two.path().join("train.csv"), shuffled).unwrap();
    let second = Session::prepare(document(SPLIT), &sources(two.path())).unwrap();
    let (public_one, private_one) = split(&round(&first, &task(&first, 1)).await);
    let (public_two, private_two) = split(&round(&second, &task(&second, 1)).await);
    assert_eq!(public_one, public_two);
    assert_ne!(private_one, private_two);
    assert_eq!(private_one.len(), 4 + 3);
}

#[tokio::test]
async fn a_unit_of_many_records_counts_once() {
    let folder = tempfile::tempdir().unwrap();
    let session =
        session(folder.path(), &[("expected_batch_size = 12", "expected_batch_size = 40")], 60, false);
    assert_eq!((session.units().count(), session.records()), (40, 2_400));
    let output = round(&session, &task(&session, 2)).await;
    let (_, sum) = split(&output);
    let norm = sum.iter().map(|v| (*v as f64 / 268_435_456.0).powi(2)).sum::<f64>().sqrt();
    // 40 units of norm at most 1 and noise of norm about 1.5 sqrt(49) = 10.5; 2,400 records would allow far more.
    assert!(norm < 60.0, "{norm}");
}

/// The sum before noise against the engine's gradients written out in double precision: each unit's rounding is at most
/// a thousandth of the clip norm, see ADR 9.
#[tokio::test]
async fn the_private_sum_is_that_of_the_written_out_gradients_up_to_rounding() {
    let edits = [("warmup_rounds = 1", "warmup_rounds = 1\nconsistency_weight = 0.5")];
    // One record per unit, a few, and more than inner products are taken of.
    for (rows, edits) in [(1, &edits[..]), (3, &edits), (20, &edits), (3, DP_SGD)] {
        let folder = tempfile::tempdir().unwrap();
        let session = session(folder.path(), edits, rows, false);
        let (model, task) = (session.model(), task(&session, 2));
        let params: Vec<f32> = model.initialise(1);
        let begin = |charge, shape| {
            PrivateStep::begin(charge, 40, shape, SecureRng::seeded_for_simulation(3, 0)).unwrap()
        };
        let mut charged = Vec::new();
        for _ in 0..2 {
            let store = Arc::new(Store::in_memory().await.unwrap());
            charged.extend(charges(&session, &task, &store).await);
        }
        let mut silent = begin(charged.remove(0), ContributionShape::from(model.private_range().len()));
        let mut step = begin(charged.remove(0), private_step::contribution_shape(model));
        let sampled = step.sampled_units().to_vec();
        assert!(sampled.len() > 4);
        let indices: Vec<usize> = sampled.iter().flat_map(|&unit| session.units().rows(unit)).collect();
        let mut batch = PairedBatch::<f32>::empty(model.input_shape());
        batch.unit_offsets = (0..=sampled.len()).map(|unit| unit * rows).collect();
        session.real().unwrap().select(&indices, &mut batch.real);
        session.public().inspect(|public| public.select(&indices, &mut batch.hybrid));
        batch.labels = indices.iter().map(|&row| session.labels()[row]).collect();
        let clip_norm = step.engine_clip_norm();
        let mut workspace = Workspace::default();
        private_step::add_groups(model, &params, &batch, session.objective(), &mut step, &mut workspace)
            .unwrap();
        for _ in &sampled {
            silent.add_unit(&vec![0.0; model.private_range().len()]).unwrap();
        }

        let mut expected = vec![0.0_f64; model.private_range().len()];
        let wide = |view: &View<f32>| View { dense: view.dense.mapv(f64::from), bins: view.bins.clone() };
        let batch = PairedBatch {
            real: wide(&batch.real),
            hybrid: wide(&batch.hybrid),
            labels: batch.labels.iter().map(|&label| f64::from(label)).collect(),
            unit_offsets: batch.unit_offsets,
        };
        let params: Vec<f64> = params.into_iter().map(f64::from).collect();
        let add = |_: usize, unit: &[f64]| expected.iter_mut().zip(unit).for_each(|(sum, g)| *sum += g);
        let objective = session.objective();
        model
            .private_gradients(&params, &batch, objective, clip_norm, &mut Workspace::default(), add)
            .unwrap();
        let (found, noise) = (step.release().unwrap(), silent.release().unwrap());
        let sums = found.values().iter().zip(noise.values()).map(|(a, b)| (a - b) as f64 * found.grid_step());
        let off = sums.zip(&expected).map(|(sum, e)| (sum - e).powi(2)).sum::<f64>().sqrt();
        assert!(off <= sampled.len() as f64 * 1e-3 * CLIP_NORM, "{rows} records per unit: off by {off}");
        assert!(expected.iter().map(|e| e * e).sum::<f64>().sqrt() > 0.5 * CLIP_NORM);
    }
}

/// Gradients and local steps on one to four threads, with several stripes and several units' worth of private rows.
#[tokio::test]
async fn the_number_of_threads_does_not_show_in_the_result() {
    let local = [("rounds = 10", "rounds = 10\nlocal_steps = 3\nlocal_learning_rate = 0.5")];
    for edits in [&[][..], &local[..], DP_SGD] {
        let folder = tempfile::tempdir().unwrap();
        let session = session(folder.path(), edits, 60, false);
        let task = task(&session, 2);
        let mut payloads = Vec::new();
        for threads in 1..=4 {
            let store = Arc::new(Store::in_memory().await.unwrap());
            let work = RoundWork {
                params: session.model().initialise(1),
                public: permit(&session),
                charges: charges(&session, &task, &store).await,
                random: SEED,
                threads: NonZeroUsize::new(threads).unwrap(),
            };
            payloads.push(work.compute(&session, &task).unwrap().payload);
        }
        assert!(payloads.iter().all(|payload| *payload == payloads[0]), "{edits:?}");
    }
}

#[tokio::test]
async fn local_steps_descend_the_public_loss_and_charge_each() {
    let local = [
        ("rounds = 10", "rounds = 10\nlocal_steps = 3\nlocal_learning_rate = 0.5"),
        ("learning_rate = 0.1 }", "learning_rate = 1.0 }"),
    ];
    let folder = tempfile::tempdir().unwrap();
    let session = session(folder.path(), &local, 1, false);
    let warm = round(&session, &task(&session, 1)).await;
    assert_eq!((warm.public_values, warm.private_values), (session.model().parameters() as u64, 0));
    let (difference, _) = split(&warm);
    let params: Vec<f32> = session.model().initialise(1);
    let moved: Vec<f32> = params.iter().zip(&difference).map(|(p, d)| p + d).collect();
    let view = session.public().unwrap();
    assert!(loss(&session, &moved, view) < loss(&session, &params, view));

    let store = Arc::new(Store::in_memory().await.unwrap());
    let charged = charges(&session, &task(&session, 2), &store).await;
    assert_eq!(charged.iter().map(|c| c.entry().charge().local_step).collect::<Vec<_>>(), [1, 2, 3]);
    let work = RoundWork {
        params,
        public: permit(&session),
        charges: charged,
        random: SEED,
        threads: NonZeroUsize::MIN,
    };
    let private = work.compute(&session, &task(&session, 2)).unwrap();
    assert_eq!((private.public_values, private.private_values), (session.model().parameters() as u64, 0));
    assert_ne!(split(&private).0, difference);
}

fn loss(session: &Session, params: &[f32], view: &View<f32>) -> f64 {
    let mut gradient = vec![0.0; session.model().public_range().len()];
    let mut workspace = Workspace::default();
    session
        .model()
        .public_gradient(params, view, session.labels(), None, &mut gradient, &mut workspace)
        .unwrap()
}

#[test]
fn a_diverged_model_is_refused_before_anything_leaves() {
    let folder = tempfile::tempdir().unwrap();
    let session = session(folder.path(), &[], 1, false);
    let params = vec![f32::MAX; session.model().parameters()];
    let work = RoundWork {
        params,
        public: permit(&session),
        charges: Vec::new(),
        random: SEED,
        threads: NonZeroUsize::MIN,
    };
    assert!(work.compute(&session, &task(&session, 1)).is_err());
}

#[test]
fn imputed_values_are_cached_per_state_folder() {
    let folder = tempfile::tempdir().unwrap();
    write_records(folder.path(), 10, 1, false);
    let mut with_cache = sources(folder.path());
    with_cache.cache = Some(crate::imputer::cache::ImputationCache::new(folder.path().join("cache")));
    Session::prepare(document(&[]), &with_cache).unwrap();
    // Values from a file are as cheap to read again, and are not cached.
    assert!(!folder.path().join("cache").exists());
}

/// Forty units of one record, the first of which has `rows` instead; `shift` moves its sensitive values.
fn long_unit(folder: &Path, rows: usize, shift: usize) -> Session {
    let mut text = "id,a,c,s,t,y\n".to_owned();
    for row in 0..rows {
        let (s, y) = ((row * 13 + shift) % 101, if row % 5 == 0 { "yes" } else { "no" });
        text += &format!("long,{},red,{s},{},{y}\n", row % 10, (row + shift) % 2);
    }
    for unit in 1..40 {
        text += &format!("u{unit},{},green,{},1,no\n", unit % 10, 2 * unit);
    }
    std::fs::write(folder.join("train.csv"), text).unwrap();
    Session::prepare(document(SPLIT), &sources(folder)).unwrap()
}

async fn charge_of(session: &Session) -> fusiondp_dp::CommittedCharge {
    let store = Arc::new(Store::in_memory().await.unwrap());
    charges(session, &task(session, 1), &store).await.remove(0)
}

fn begun(session: &Session, charge: fusiondp_dp::CommittedCharge, seed: u64) -> PrivateStep {
    let shape = private_step::contribution_shape(session.model());
    PrivateStep::begin(charge, 40, shape, SecureRng::seeded_for_simulation(seed, 0)).unwrap()
}

/// The private sum of the real step, noise included, in units of the gradient.
async fn released(session: &Session, seed: u64) -> Vec<f64> {
    let params = session.model().initialise(1);
    let at = private_step::PrivatePoint { params: &params, directions: &[] };
    let (charge, rng) = (charge_of(session).await, SecureRng::seeded_for_simulation(seed, 0));
    let mut scratch = private_step::PrivateScratch::new(session);
    let release = private_step::private_release(session, at, charge, rng, &mut scratch).unwrap();
    release.values().iter().map(|&value| value as f64 * release.grid_step()).collect()
}

fn distance(one: &[f64], other: &[f64]) -> f64 {
    one.iter().zip(other).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt()
}

/// A stay of 300 hours among stays of one: drawn as a whole, and one clipped gradient.
#[tokio::test]
async fn three_hundred_records_of_a_unit_are_one_contribution() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let long = long_unit(folders[0].path(), 300, 0);
    let replaced = [long_unit(folders[1].path(), 300, 37), long_unit(folders[2].path(), 1, 5)];
    assert_eq!((long.units().count(), long.records(), long.units().rows(0)), (40, 339, 0..300));
    let (mut drawn, mut largest) = (0, 0.0_f64);
    for seed in 0..16 {
        let sample = begun(&long, charge_of(&long).await, seed).sampled_units().to_vec();
        let sum = released(&long, seed).await;
        for other in &replaced {
            let moved = distance(&sum, &released(other, seed).await);
            if sample.contains(&0) {
                drawn += 1;
                largest = largest.max(moved);
                assert!(moved > 0.0 && moved <= 2.0 * CLIP_NORM, "seed {seed}: moved by {moved}");
            } else {
                assert_eq!(moved, 0.0, "seed {seed}: who is not drawn has no influence");
            }
        }
    }
    // Of 16 samples at rate 0.3 none or all hold the unit with probability below 0.4 %; the seeds are fixed.
    assert!((2..32).contains(&drawn) && largest > 0.0, "{drawn} of 32 drawn, moved by {largest}");
}

/// What that unit adds by itself has the clip norm, however many records ask for more.
#[tokio::test]
async fn the_contribution_of_three_hundred_records_has_at_most_the_clip_norm() {
    let folder = tempfile::tempdir().unwrap();
    let session = long_unit(folder.path(), 300, 0);
    let rows: Vec<usize> = session.units().rows(0).collect();
    let mut batch = PairedBatch::<f32>::empty(session.model().input_shape());
    batch.unit_offsets = vec![0, rows.len()];
    session.real().unwrap().select(&rows, &mut batch.real);
    session.public().inspect(|public| public.select(&rows, &mut batch.hybrid));
    batch.labels = rows.iter().map(|&row| session.labels()[row]).collect();
    let params: Vec<f32> = session.model().initialise(1);
    let (mut step, mut silent) =
        (begun(&session, charge_of(&session).await, 3), begun(&session, charge_of(&session).await, 3));
    let sampled = step.sampled_units().len();
    // The other units of the sample hold no record, so they add zero.
    batch.unit_offsets.resize(sampled + 1, rows.len());
    let (model, objective) = (session.model(), session.objective());
    let mut workspace = Workspace::default();
    private_step::add_groups(model, &params, &batch, objective, &mut step, &mut workspace).unwrap();
    batch = PairedBatch::empty(model.input_shape());
    batch.unit_offsets = vec![0; sampled + 1];
    private_step::add_groups(model, &params, &batch, objective, &mut silent, &mut workspace).unwrap();
    let wide = |release: fusiondp_dp::PrivateRelease| -> Vec<f64> {
        release.values().iter().map(|&value| value as f64 * release.grid_step()).collect()
    };
    let norm = distance(&wide(step.release().unwrap()), &wide(silent.release().unwrap()));
    assert!(norm <= CLIP_NORM && norm > 0.99 * CLIP_NORM, "{norm}");
}
