#![allow(clippy::unwrap_used)]
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng};

use super::*;

/// 1,000 units in 12 intervals; 150 of them positive, and higher.
const NEGATIVES: [f64; 12] = [5.0, 25.0, 70.0, 130.0, 170.0, 165.0, 125.0, 85.0, 45.0, 20.0, 8.0, 2.0];
const POSITIVES: [f64; 12] = [0.0, 0.0, 1.0, 4.0, 9.0, 16.0, 25.0, 32.0, 28.0, 20.0, 11.0, 4.0];
const NOISE: f64 = 5.0;

fn table(negatives: &[f64], positives: &[f64], deviation: f64) -> NoisyTable {
    NoisyTable::from_cells(&[negatives, positives].concat(), deviation).unwrap()
}

fn normal(rng: &mut StdRng) -> f64 {
    let (u, v): (f64, f64) = (rng.random::<f64>().max(f64::MIN_POSITIVE), rng.random());
    (-2.0 * u.ln()).sqrt() * (2.0 * std::f64::consts::PI * v).cos()
}

fn noisy(rng: &mut StdRng, deviation: f64) -> NoisyTable {
    let cells: Vec<f64> =
        NEGATIVES.iter().chain(&POSITIVES).map(|count| count + deviation * normal(rng)).collect();
    NoisyTable::from_cells(&cells, deviation).unwrap()
}

#[test]
fn without_noise_the_figures_are_those_of_the_ranking() {
    let exact = table(&[3.0, 1.0, 0.0], &[0.0, 1.0, 1.0], 0.0);
    // Of 2 * 4 pairs: the high one wins 4, the one in the middle 3 and half a tie.
    assert_eq!(exact.auroc(), Some(Estimate { value: 7.5 / 8.0, error: 0.0 }));
    assert_eq!((exact.positives().value, exact.negatives().value), (2.0, 4.0));
}

#[test]
fn the_area_agrees_with_the_exact_histogram() {
    let groups = (0..12).rev().map(|bin| super::super::Group {
        positives: POSITIVES[bin] as u64,
        negatives: NEGATIVES[bin] as u64,
    });
    let exact = super::super::ranking::auroc(groups.collect()).unwrap();
    let found = table(&NEGATIVES, &POSITIVES, 0.0).auroc().unwrap().value;
    assert!((exact - found).abs() < 1e-12, "{exact} {found}");
}

/// Fixed seed. Four standard errors are exceeded once in 16,000 draws of a normal variable.
#[test]
fn the_estimate_is_near_and_its_standard_error_is_right() {
    const DRAWS: usize = 4_000;
    let exact = table(&NEGATIVES, &POSITIVES, 0.0).auroc().unwrap().value;
    let mut rng = StdRng::seed_from_u64(17);
    let draws: Vec<Estimate> = (0..DRAWS).map(|_| noisy(&mut rng, NOISE).auroc().unwrap()).collect();
    let far = draws.iter().filter(|draw| (draw.value - exact).abs() > 4.0 * draw.error).count();
    assert!(far <= 3, "{far} of {DRAWS} beyond four standard errors");
    let mean = draws.iter().map(|draw| draw.value).sum::<f64>() / DRAWS as f64;
    let square = |of: &dyn Fn(&Estimate) -> f64| (draws.iter().map(of).sum::<f64>() / DRAWS as f64).sqrt();
    let spread = square(&|draw| (draw.value - mean).powi(2));
    let stated = square(&|draw| draw.error.powi(2));
    println!("AUROC {exact:.4}: mean {mean:.4}, spread {spread:.4}, stated {stated:.4}");
    assert!((stated / spread - 1.0).abs() < 0.1, "spread {spread}, stated {stated}");
    assert!((mean - exact).abs() < 0.25 * spread, "mean {mean}, exact {exact}");
}

#[test]
fn the_class_totals_and_their_errors_are_right() {
    const DRAWS: usize = 2_000;
    let mut rng = StdRng::seed_from_u64(18);
    let draws: Vec<Estimate> = (0..DRAWS).map(|_| noisy(&mut rng, NOISE).positives()).collect();
    let spread = (draws.iter().map(|draw| (draw.value - 150.0).powi(2)).sum::<f64>() / DRAWS as f64).sqrt();
    assert!((draws[0].error / spread - 1.0).abs() < 0.1, "spread {spread}, stated {}", draws[0].error);
}

#[test]
fn sites_add_up_with_their_noise() {
    let mut sum = table(&[1.0, -2.0], &[3.0, 4.0], 3.0);
    assert!(sum.add(&table(&[10.0, 20.0], &[30.0, 40.0], 4.0)));
    assert_eq!(sum, table(&[11.0, 18.0], &[33.0, 44.0], 5.0));
    assert!(!sum.add(&table(&[1.0], &[1.0], 1.0)), "another number of intervals");
    assert_eq!(sum, table(&[11.0, 18.0], &[33.0, 44.0], 5.0));
}

#[test]
fn totals_within_their_noise_give_no_area() {
    // Two cells of deviation 5: three deviations of the total are 21.2.
    assert!(table(&[40.0, 40.0], &[10.0, 12.0], 5.0).auroc().is_some());
    assert_eq!(table(&[40.0, 40.0], &[10.0, 11.0], 5.0).auroc(), None);
    assert_eq!(table(&[10.0, 11.0], &[40.0, 40.0], 5.0).auroc(), None);
    assert_eq!(table(&[0.0, 0.0], &[0.0, 0.0], 0.0).auroc(), None);
}

#[test]
fn an_area_beyond_its_range_is_clamped() {
    let beyond = table(&[110.0, -10.0], &[-10.0, 110.0], 1.0).auroc().unwrap();
    assert_eq!(beyond.value, 1.0);
}

#[test]
fn cells_that_are_no_table_are_refused() {
    for cells in [&[][..], &[1.0], &[1.0, 2.0, 3.0], &[1.0, f64::NAN]] {
        assert_eq!(NoisyTable::from_cells(cells, 1.0), None);
    }
    assert_eq!(NoisyTable::from_cells(&[1.0, 2.0], f64::INFINITY), None);
}
