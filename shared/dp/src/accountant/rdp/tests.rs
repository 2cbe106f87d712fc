#![allow(clippy::unwrap_used)]

use std::num::NonZeroU32;

use super::*;
use crate::{
    accountant::composition::Part,
    event::DpEvent,
    params::{NoiseMultiplier, SamplingProbability},
};

fn event(noise: f64, q: f64, steps: u32) -> DpEvent {
    DpEvent::PoissonSampledGaussian {
        noise_multiplier: NoiseMultiplier::new(noise).unwrap(),
        sampling_probability: SamplingProbability::new(q).unwrap(),
        steps: NonZeroU32::new(steps).unwrap(),
    }
}

fn rdp(events: &[DpEvent], delta: f64, relation: NeighboringRelation) -> f64 {
    RdpAccountant.epsilon(events, Delta::new(delta).unwrap(), relation).unwrap().get()
}

#[test]
fn nothing_costs_nothing() {
    assert_eq!(rdp(&[], 1e-5, NeighboringRelation::Replace), 0.0);
}

/// The check figure of the specification, and a replacement costs more than a removal.
#[test]
fn check_figure() {
    let events = [event(1.04736, 128.0 / 14293.0, 1451)];
    let zero_out = rdp(&events, 1e-5, NeighboringRelation::ZeroOut);
    assert!((zero_out / 1.9945 - 1.0).abs() < 0.005, "{zero_out}");
    assert!(rdp(&events, 1e-5, NeighboringRelation::Replace) > zero_out);
}

#[test]
fn extreme_parameters_give_a_bound_or_infinity() {
    for relation in NeighboringRelation::ALL {
        let bound = |noise, q, steps| rdp(&[event(noise, q, steps)], 1e-6, relation);
        assert!(bound(1e-3, 0.5, 10) > 1e5, "{relation}");
        assert!(bound(1e-200, 0.5, 1) > 1e5, "{relation}");
        assert_eq!(bound(1e200, 1.0, u32::MAX), 0.0, "{relation}");
        // A release that nobody is ever in; the bound is loose, as orders are limited.
        assert!(bound(1.0, 1e-300, 5) < 1.0, "{relation}");
    }
}

#[test]
fn what_is_not_a_number_is_no_bound() {
    let part = Part { shift: f64::NAN, probability: 0.5, steps: 1 };
    let composition = Composition { parts: vec![part], steps: 1 };
    assert!(epsilon_at(&composition, 1.0, 1e-5, NeighboringRelation::Replace).is_nan());
}

#[test]
fn the_conversion_is_the_maximum_of_its_kernel() {
    for tilt in [0.1_f64, 1.0, 37.0, 1e6] {
        let at_maximum = (1.0 / tilt).ln_1p();
        let value = -(-at_maximum).exp_m1() * (-tilt * at_maximum).exp();
        assert!((conversion(tilt) - value.ln()).abs() < 1e-8 * (1.0 + value.ln().abs()), "{tilt}");
    }
}
