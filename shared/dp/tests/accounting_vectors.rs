//! Epsilon against independent figures.
//!
//! `vectors/accounting.json` was computed with dp_accounting 0.6.0: its privacy loss distribution accountant with a
//! pessimistic grid of interval 1e-4, and its Rényi accountant. The file says so in its own `source` field.

#![allow(clippy::unwrap_used)]

use std::num::NonZeroU32;

use fusiondp_dp::{
    AccountantError, Delta, DpEvent, NeighboringRelation, NoiseMultiplier, PldAccountant, PrivacyAccountant,
    RdpAccountant, SamplingProbability, StepCounts, epsilon,
};
use serde::Deserialize;

#[derive(Deserialize)]
struct Vectors {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    parts: Vec<CasePart>,
    delta: Delta,
    eps_pld_zero_out: f64,
    eps_pld_replace: f64,
    eps_rdp_zero_out: f64,
}

#[derive(Deserialize)]
struct CasePart {
    noise_multiplier: NoiseMultiplier,
    sampling_rate: SamplingProbability,
    steps: NonZeroU32,
}

impl Case {
    fn events(&self) -> Vec<DpEvent> {
        self.parts
            .iter()
            .map(|part| DpEvent::PoissonSampledGaussian {
                noise_multiplier: part.noise_multiplier,
                sampling_probability: part.sampling_rate,
                steps: part.steps,
            })
            .collect()
    }

    fn reference(&self, relation: NeighboringRelation) -> f64 {
        match relation {
            NeighboringRelation::Replace => self.eps_pld_replace,
            NeighboringRelation::ZeroOut => self.eps_pld_zero_out,
        }
    }

    fn label(&self, relation: NeighboringRelation) -> String {
        format!("{relation} {:?} delta {}", self.events(), self.delta)
    }

    fn pld(&self, accountant: PldAccountant, relation: NeighboringRelation) -> Result<f64, AccountantError> {
        accountant.epsilon(&self.events(), self.delta, relation).map(|epsilon| epsilon.get())
    }
}

fn cases() -> Vec<Case> {
    let vectors: Vectors = serde_json::from_str(include_str!("vectors/accounting.json")).unwrap();
    assert_eq!(vectors.cases.len(), 36);
    vectors.cases
}

fn each_case(mut check: impl FnMut(&Case, NeighboringRelation)) {
    for case in cases() {
        for relation in NeighboringRelation::ALL {
            check(&case, relation);
        }
    }
}

/// On the reference's own grid the two implementations agree, above and below.
#[test]
fn on_the_grid_of_the_reference_both_accountants_agree() {
    let accountant = PldAccountant::with_interval(1e-4).unwrap();
    each_case(|case, relation| {
        let (found, reference) = (case.pld(accountant, relation).unwrap(), case.reference(relation));
        let error = found / reference - 1.0;
        assert!(error.abs() < 0.005, "{}: {found} against {reference}", case.label(relation));
    });
}

/// The adaptive grid never loses against the reference's fixed one.
#[test]
fn the_adaptive_bound_is_at_most_the_reference() {
    each_case(|case, relation| {
        let (found, reference) =
            (case.pld(PldAccountant::default(), relation).unwrap(), case.reference(relation));
        assert!(found < reference * 1.005, "{}: {found} against {reference}", case.label(relation));
    });
}

/// What is reported is enclosed from both sides, and so is what the reference reports from above.
#[test]
fn certified_lower_bounds_are_within_half_a_percent() {
    each_case(|case, relation| {
        let steps = StepCounts::of(&case.events());
        let bounds = PldAccountant::default().bounds(&steps, case.delta, relation).unwrap();
        let label = format!("{}: {bounds:?}", case.label(relation));
        assert!(bounds.lower <= bounds.upper && bounds.lower.get() <= case.reference(relation), "{label}");
        assert!(bounds.gap() < 0.005, "{label}, gap {}", bounds.gap());
    });
}

#[test]
fn rdp_is_at_most_half_a_percent_above_the_reference() {
    for case in cases() {
        let relation = NeighboringRelation::ZeroOut;
        let found = RdpAccountant.epsilon(&case.events(), case.delta, relation).unwrap().get();
        let reference = case.eps_rdp_zero_out;
        assert!(found < reference * 1.005, "{}: {found} against {reference}", case.label(relation));
    }
}

#[test]
fn a_grid_four_times_finer_is_never_above() {
    let (coarse, fine) =
        (PldAccountant::with_interval(4e-4).unwrap(), PldAccountant::with_interval(1e-4).unwrap());
    each_case(|case, relation| {
        let (above, below) = (case.pld(coarse, relation).unwrap(), case.pld(fine, relation).unwrap());
        assert!(above >= below - 1e-9, "{}: {above} below {below}", case.label(relation));
    });
}

#[test]
fn the_tight_bound_is_reported_and_moments_are_not_below_it() {
    each_case(|case, relation| {
        let pld = case.pld(PldAccountant::default(), relation).unwrap();
        let rdp = RdpAccountant.epsilon(&case.events(), case.delta, relation).unwrap().get();
        let reported = epsilon(&case.events(), case.delta, relation).unwrap().get();
        // A bound by moments cannot be below one that is tight by more than the latter's error.
        assert!(rdp >= pld * (1.0 - 2e-4), "{}: {rdp} below {pld}", case.label(relation));
        assert_eq!(reported, pld, "{}", case.label(relation));
    });
}

/// The figures that the specification of the guarantee names, to the places it gives.
#[test]
fn check_figures_of_the_specification() {
    let events = [DpEvent::PoissonSampledGaussian {
        noise_multiplier: NoiseMultiplier::new(1.04736).unwrap(),
        sampling_probability: SamplingProbability::new(128.0 / 14293.0).unwrap(),
        steps: NonZeroU32::new(1451).unwrap(),
    }];
    let delta = Delta::new(1e-5).unwrap();
    let pld = |relation| PldAccountant::default().epsilon(&events, delta, relation).unwrap().get();
    assert!((pld(NeighboringRelation::ZeroOut) / 1.7759 - 1.0).abs() < 2e-4);
    assert!((pld(NeighboringRelation::Replace) / 2.8864 - 1.0).abs() < 2e-4);
    let rdp = RdpAccountant.epsilon(&events, delta, NeighboringRelation::ZeroOut).unwrap().get();
    assert!((rdp / 1.9945 - 1.0).abs() < 2e-4);
}
