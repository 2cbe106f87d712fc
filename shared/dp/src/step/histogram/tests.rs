#![allow(clippy::unwrap_used)]

use std::num::NonZeroU32;

use proptest::prelude::*;

use super::*;
use crate::{
    ledger::{
        ChargeRequest, Ledger, Released,
        tests::{charge as charged, request},
    },
    params::{NoiseMultiplier, SamplingProbability},
    step::PrivateStep,
};

fn of_counts() -> Released {
    Released::Counts { cohort: "test".to_owned() }
}

fn charge_as(released: Released, event: DpEvent, units: u64) -> CommittedCharge {
    let request = ChargeRequest { released, event, units, ..request(1) };
    charged(&mut Ledger::open(Vec::new()).unwrap(), vec![request]).remove(0)
}

fn charge(event: DpEvent, units: u64) -> CommittedCharge {
    charge_as(of_counts(), event, units)
}

fn table(noise: f64, steps: u32) -> DpEvent {
    let noise_multiplier = NoiseMultiplier::new(noise).unwrap();
    DpEvent::GaussianHistogram { noise_multiplier, steps: NonZeroU32::new(steps).unwrap() }
}

fn begin(noise: f64, units: usize, cells: usize, stream: u64) -> HistogramStep {
    let rng = SecureRng::seeded_for_simulation(5, stream);
    HistogramStep::begin(charge(table(noise, 1), units as u64), units, cells, rng).unwrap()
}

proptest! {
    /// The sensitivity that the accountant counts with, whatever the cells are.
    #[test]
    fn one_unit_moves_a_table_by_at_most_one_and_replacing_it_by_sqrt_two(
        first in proptest::collection::vec(0usize..5, 0..40),
        second in proptest::collection::vec(0usize..5, 0..40),
    ) {
        let counts = |cells: &[usize]| {
            let mut step = begin(1.0, 1, 5, 0);
            step.add_unit(cells).unwrap();
            step.counts
        };
        let (first, second) = (counts(&first), counts(&second));
        let unit = i128::from(HistogramStep::UNIT);
        for table in [&first, &second] {
            prop_assert!(table.iter().all(|&count| count >= 0));
            prop_assert!(table.iter().copied().map(i128::from).sum::<i128>() <= unit);
        }
        let distance: i128 = first.iter().zip(&second).map(|(a, b)| i128::from(a - b).pow(2)).sum();
        prop_assert!(distance <= 2 * unit * unit);
    }
}

#[test]
fn a_unit_counts_once_however_many_records_it_has() {
    let mut step = begin(1.0, 3, 4, 0);
    for cells in [&[0][..], &[1; 300], &[2, 3]] {
        step.add_unit(cells).unwrap();
    }
    let rounded: Vec<i64> = step.counts.iter().map(|count| (count + 300) / HistogramStep::UNIT).collect();
    assert_eq!(rounded, [1, 1, 0, 0]);
    assert_eq!(step.counts[2..], [HistogramStep::UNIT / 2; 2]);
}

/// Both moments lie within five standard errors; the seed is fixed.
#[test]
fn every_cell_receives_the_noise_that_is_charged() {
    let (cells, noise) = (20_000, 2.5);
    let mut step = begin(noise, 1, cells, 1);
    step.add_unit(&[0]).unwrap();
    let release = step.release().unwrap();
    let unit = HistogramStep::UNIT as f64;
    let of_noise: Vec<f64> = release.counts()[1..].iter().map(|&count| count as f64 / unit).collect();
    let n = of_noise.len() as f64;
    let mean = of_noise.iter().sum::<f64>() / n;
    let variance = of_noise.iter().map(|value| value * value).sum::<f64>() / n;
    assert!(mean.abs() < 5.0 * noise / n.sqrt(), "{mean}");
    assert!((variance / (noise * noise) - 1.0).abs() < 5.0 * (2.0 / n).sqrt(), "{variance}");
}

#[test]
fn nothing_is_released_that_was_not_charged_as_it_is() {
    let rng = || SecureRng::seeded_for_simulation(5, 2);
    let begun =
        |event, units| HistogramStep::begin(charge(event, 3), units, 4, rng()).map(|_| ()).unwrap_err();
    assert_eq!(begun(table(1.0, 2), 3), StepError::SeveralSteps { steps: 2 });
    assert_eq!(begun(table(1.0, 1), 2), StepError::UnitsDiffer { charged: 3, given: 2 });
    assert!(matches!(begun(table(1e-4, 1), 3), StepError::NoiseMultiplier { .. }));
    let sum = DpEvent::PoissonSampledGaussian {
        noise_multiplier: NoiseMultiplier::new(1.0).unwrap(),
        sampling_probability: SamplingProbability::ONE,
        steps: NonZeroU32::MIN,
    };
    assert_eq!(begun(sum, 3), StepError::OtherEvent { expected: "gaussian_histogram" });
    for released in [Released::PrivateSum, Released::PublicSum] {
        let charge = charge_as(released, table(1.0, 1), 3);
        let error = HistogramStep::begin(charge, 3, 4, rng()).map(|_| ()).unwrap_err();
        assert_eq!(error, StepError::OtherEvent { expected: "counts" });
    }
    let private = PrivateStep::begin(charge(table(1.0, 1), 3), 3, 4, rng()).map(|_| ()).unwrap_err();
    assert_eq!(private, StepError::OtherEvent { expected: "poisson_sampled_gaussian" });
    for cells in [0, MAX_CELLS + 1] {
        let error = HistogramStep::begin(charge(table(1.0, 1), 3), 3, cells, rng()).map(|_| ()).unwrap_err();
        assert_eq!(error, StepError::Cells { cells });
    }
}

#[test]
fn every_unit_is_added_once_and_into_the_table() {
    let mut step = begin(1.0, 2, 4, 3);
    assert_eq!(step.add_unit(&[0, 4]), Err(StepError::Cell));
    assert!(step.counts.iter().all(|&count| count == 0));
    step.add_unit(&[0]).unwrap();
    assert_eq!(format!("{step:?}"), "HistogramStep { cells: 4, sequence: 0, .. }");
    let (mut full, missing) = (begin(1.0, 0, 4, 3), step.release().map(|_| ()).unwrap_err());
    assert_eq!(missing, StepError::MissingContributions);
    assert_eq!(full.add_unit(&[0]), Err(StepError::TooManyContributions));
}
