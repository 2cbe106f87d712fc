//! The second tier: public gradients clipped and noised per unit.

use super::*;
use crate::testing::RECORDS;

/// The public part of one round.
async fn public(session: &Session, number: u32) -> Vec<f32> {
    let output = round(session, &task(session, number)).await;
    assert_eq!(output.public_loss, 0.0, "a loss is computed from whole records");
    split(&output).0
}

fn norm(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|value| value * value).sum::<f64>().sqrt()
}

fn plan_of(session: &Session) -> fusiondp_protocol::plan::RecordsPlan {
    crate::testing::plan(session).records.unwrap()
}

/// Rewrites the cells of every record but the header.
fn rewrite(folder: &Path, change: impl Fn(&mut [&str])) {
    let path = folder.join("train.csv");
    let text = std::fs::read_to_string(&path).unwrap();
    let mut lines = vec![text.lines().next().unwrap().to_owned()];
    for line in text.lines().skip(1) {
        let mut cells: Vec<&str> = line.split(',').collect();
        change(&mut cells);
        lines.push(cells.join(","));
    }
    std::fs::write(&path, lines.join("\n") + "\n").unwrap();
}

/// Edits that leave hardly any noise and clip nothing, with every unit in the sample.
fn loud(edits: &[(&'static str, &'static str)]) -> Vec<(&'static str, &'static str)> {
    let records = "[privacy.records]\nclip_norm = 10.0\nexpected_batch_size = \"all\"\n\
                   target = { noise_multiplier = 0.001 }\n[training]";
    [edits, &[RECORDS[0], RECORDS[2], ("[training]", records)]].concat()
}

#[tokio::test]
async fn without_noise_the_noised_sum_is_the_public_gradient() {
    for (edits, rows) in [(&[][..], 1), (&[], 3), (SPLIT, 1)] {
        let folder = tempfile::tempdir().unwrap();
        let session = session(folder.path(), &loud(edits), rows, false);
        let noised = public(&session, 1).await;
        let params = session.model().initialise(1);
        let mut gradient = vec![0.0; session.model().public_range().len()];
        let (view, labels) = (session.public().unwrap(), session.labels());
        let mut workspace = Workspace::default();
        session.model().public_gradient(&params, view, labels, None, &mut gradient, &mut workspace).unwrap();
        // Noise of deviation 0.01 on the sum over all records: six deviations, and the rounding of factors.
        let tolerance = 6.0 * 0.01 / session.records() as f64 + 1e-3;
        for (found, exact) in noised.iter().zip(&gradient) {
            assert!(f64::from(found - exact).abs() < tolerance, "{found} {exact}");
        }
        assert!(norm(gradient.iter().map(|&value| f64::from(value))) > 10.0 * tolerance);
    }
}

#[tokio::test]
async fn a_whole_unit_moves_the_sum_by_at_most_twice_the_clip_norm() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let first = session(one.path(), RECORDS, 3, false);
    write_records(two.path(), 40, 3, false);
    // Everything of one unit: public columns and labels of all its records.
    rewrite(two.path(), |cells| {
        if cells[0] == "u7" {
            cells.copy_from_slice(&["u7", "10", "green", "0", "1", "yes"]);
        }
    });
    let second = Session::prepare(document(RECORDS), &sources(two.path())).unwrap();
    let expected = plan_of(&first).sampling_probability.get() * first.records() as f64;
    let mut moved = 0.0_f64;
    for number in 1..=8 {
        let sums = [public(&first, number).await, public(&second, number).await];
        let difference = sums[0].iter().zip(&sums[1]).map(|(a, b)| f64::from(a - b) * expected);
        moved = moved.max(norm(difference));
    }
    assert!(moved > 0.1, "the unit is in one of eight samples: {moved}");
    assert!(moved <= 2.0 * 0.25 * 1.001, "{moved}");
}

#[tokio::test]
async fn true_sensitive_values_do_not_show_in_the_public_sum() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let first = session(one.path(), RECORDS, 1, false);
    write_records(two.path(), 40, 1, false);
    rewrite(two.path(), |cells| (cells[3], cells[4]) = ("99", "0"));
    let second = Session::prepare(document(RECORDS), &sources(two.path())).unwrap();
    let task = task(&first, 2);
    let (one, two) = (split(&round(&first, &task).await), split(&round(&second, &task).await));
    assert_eq!(one.0, two.0);
    assert_ne!(one.1, two.1, "the private sum reads them");
}

/// In one network the coordinates of both parts are the same, and with equal views the private part is noise alone.
#[tokio::test]
async fn each_part_has_noise_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let alike =
        [("clip_norm = 0.5", "clip_norm = 0.25"), ("{ noise_multiplier = 1.5 }", "{ noise_multiplier = 2 }")];
    let session = session(folder.path(), &[&alike, RECORDS].concat(), 1, true);
    let expected = plan_of(&session).sampling_probability.get() * session.records() as f64;
    let (deviation, step) = (2.0 * 0.25, 0.25 / 268_435_456.0);
    let (mut squares, mut products) = (Vec::new(), Vec::new());
    for number in 2..=10 {
        let (public, private) = split(&round(&session, &task(&session, number)).await);
        for (public, private) in public.iter().zip(&private) {
            let private = *private as f64 * step / deviation;
            squares.push(private * private);
            products.push(private * f64::from(*public) * expected / deviation);
        }
    }
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let n = squares.len() as f64;
    assert!((mean(&squares) - 1.0).abs() < 5.0 * (2.0 / n).sqrt(), "{}", mean(&squares));
    // Were the noise the same, this would be 1.
    assert!(mean(&products).abs() < 0.5, "{}", mean(&products));
}

#[tokio::test]
async fn a_charge_of_one_part_does_not_pay_for_the_other() {
    let folder = tempfile::tempdir().unwrap();
    let session = session(folder.path(), RECORDS, 1, false);
    let store = Arc::new(Store::in_memory().await.unwrap());
    let mut charges = charges(&session, &task(&session, 2), &store).await;
    let (public, private) = (charges.remove(1), charges.remove(0));
    let mut scratch = private_step::PrivateScratch::new(&session);
    let params = session.model().initialise(1);
    let at = private_step::PrivatePoint { params: &params, directions: &[] };
    let rng = || SecureRng::seeded_for_simulation(1, 2);
    let refused = [
        private_step::private_release(&session, at, public, rng(), &mut scratch).map(|_| ()),
        private_step::record_release(&session, &params, private, rng(), &mut scratch).map(|_| ()),
    ];
    for refused in refused {
        assert!(matches!(refused, Err(TrainError::Incomplete { .. })), "{refused:?}");
    }
}
