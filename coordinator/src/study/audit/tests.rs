#![allow(clippy::unwrap_used)]
use std::num::NonZeroU32;

use fusiondp_dp::{DpEvent, NeighboringRelation, NoiseMultiplier, SamplingProbability, epsilon};

use super::*;
use crate::study::accounting::merged;

fn event(noise: f64, steps: u32) -> DpEvent {
    DpEvent::PoissonSampledGaussian {
        noise_multiplier: NoiseMultiplier::new(noise).unwrap(),
        sampling_probability: SamplingProbability::new(0.05).unwrap(),
        steps: NonZeroU32::new(steps).unwrap(),
    }
}

fn delta() -> Delta {
    Delta::new(1e-5).unwrap()
}

fn spent(events: &[DpEvent], relation: NeighboringRelation) -> f64 {
    epsilon(events, delta(), relation).unwrap().get()
}

fn claim(factor: f64, complete: bool) -> Claim {
    let events = vec![event(2.0, 1); 5];
    let merged = merged(events.clone());
    Claim {
        site: "a".parse().unwrap(),
        epsilon_replace: spent(&merged, NeighboringRelation::Replace) * factor,
        epsilon_zero_out: spent(&merged, NeighboringRelation::ZeroOut) * factor,
        events,
        unreported: 0,
        complete,
        broken: None,
    }
}

#[test]
fn equal_neighbors_merge_and_others_stay_apart() {
    let events = [event(2.0, 1), event(2.0, 2), event(3.0, 1), event(2.0, 1)];
    assert_eq!(merged(events), [event(2.0, 3), event(3.0, 1), event(2.0, 1)]);
}

#[test]
fn a_true_figure_agrees_to_rounding() {
    assert!(compare(&[claim(1.0, true), claim(1.0 + 5e-7, true), claim(1.0 - 5e-7, false)], delta()).is_ok());
}

#[test]
fn too_low_is_never_accepted_and_too_high_only_with_unseen_charges() {
    for complete in [true, false] {
        let error = compare(&[claim(0.999, complete)], delta()).unwrap_err().to_string();
        assert!(error.contains("site a") && error.contains("replace"), "{error}");
    }
    assert!(compare(&[claim(1.001, true)], delta()).is_err());
    assert!(compare(&[claim(1.001, false)], delta()).is_ok());
    let mut broken = claim(1.0, false);
    broken.epsilon_zero_out = f64::NAN;
    assert!(compare(&[broken], delta()).is_err());
}

#[test]
fn a_chain_that_does_not_verify_is_named() {
    let mut altered = claim(1.0, true);
    altered.broken = Some(fusiondp_dp::LedgerError::Hash { sequence: 3 });
    let error = compare(&[altered], delta()).unwrap_err().to_string();
    assert!(error.contains("site a") && error.contains("entry 3"), "{error}");
}
