#![allow(clippy::unwrap_used)]
use std::num::NonZeroU32;

use fusiondp_dp::{
    ChargeRequest, ClipNorm, Digest, DpEvent, Ledger, NeighboringRelation, NoiseMultiplier, Protection,
    Released, SamplingProbability, UpdateId, epsilon,
};

use super::*;
use crate::study::testing::charge;

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

/// A chain of `charges` charges of the study.
fn entries(charges: u64) -> Vec<LedgerEntry> {
    let request = |round| ChargeRequest {
        time_ms: 1,
        data_set: Digest::of(b"data"),
        study: "s".into(),
        study_digest: Digest::of(b"s"),
        round,
        local_step: 1,
        event: event(2.0, 1),
        clip_norm: ClipNorm::new(1.0).unwrap(),
        unit: "id".into(),
        units: 10,
        model_digest: Digest::of(b"m"),
        update_id: UpdateId::from_bytes([1; 16]),
        released: Released::PrivateSum,
        protects: Protection::SensitiveValues,
    };
    let mut ledger = Ledger::open(Vec::new()).unwrap();
    let requests = (1..=u32::try_from(charges).unwrap()).map(request).collect();
    charge(&mut ledger, requests);
    ledger.entries().to_vec()
}

/// What a site claims after five charges.
fn claim(factor: f64, complete: bool) -> NewCharges {
    let events = [event(2.0, 5)];
    NewCharges {
        site: "a".parse().unwrap(),
        epsilon_replace: spent(&events, NeighboringRelation::Replace) * factor,
        epsilon_zero_out: spent(&events, NeighboringRelation::ZeroOut) * factor,
        records_replace: 0.0,
        records_zero_out: 0.0,
        complete,
        entries: entries(5),
    }
}

fn compare(claims: Vec<NewCharges>) -> Result<(), StudyFailure> {
    Auditor::new(delta(), Protection::SensitiveValues).compare(claims)
}

#[test]
fn equal_events_are_counted_together_and_others_stay_apart() {
    let events = [event(2.0, 1), event(2.0, 2), event(3.0, 1), event(2.0, 1)];
    assert_eq!(StepCounts::of(&events), StepCounts::of(&[event(2.0, 4), event(3.0, 1)]));
    assert_ne!(StepCounts::of(&events), StepCounts::of(&[event(2.0, 3), event(3.0, 2)]));
}

#[test]
fn a_true_figure_agrees_to_the_last_digit() {
    for (factor, complete) in [(1.0, true), (1.0 + 5e-10, true), (1.0 - 5e-10, false)] {
        assert!(compare(vec![claim(factor, complete)]).is_ok(), "{factor}");
    }
    for factor in [1.0 + 1e-8, 1.0 - 1e-8] {
        assert!(compare(vec![claim(factor, true)]).is_err(), "{factor}");
    }
}

#[test]
fn too_low_is_never_accepted_and_too_high_only_with_unseen_charges() {
    for complete in [true, false] {
        let error = compare(vec![claim(0.999, complete)]).unwrap_err().to_string();
        for part in ["epsilon-disagreement", "site a", "replace", "5 charges"] {
            assert!(error.contains(part), "{part}: {error}");
        }
    }
    assert!(compare(vec![claim(1.001, true)]).is_err());
    assert!(compare(vec![claim(1.001, false)]).is_ok());
    let broken = NewCharges { epsilon_zero_out: f64::NAN, ..claim(1.0, false) };
    assert!(compare(vec![broken]).is_err());
}

/// Charges come in pieces, and what was read before counts.
#[test]
fn an_auditor_goes_on_from_where_it_was() {
    let mut auditor = Auditor::new(delta(), Protection::SensitiveValues);
    let whole = claim(1.0, true);
    let figures = |steps| {
        let events = [event(2.0, steps)];
        [NeighboringRelation::Replace, NeighboringRelation::ZeroOut].map(|relation| spent(&events, relation))
    };
    let [epsilon_replace, epsilon_zero_out] = figures(2);
    let first = NewCharges {
        epsilon_replace,
        epsilon_zero_out,
        entries: whole.entries[..2].to_vec(),
        ..whole.clone()
    };
    auditor.compare(vec![first]).unwrap();
    let rest = NewCharges { entries: whole.entries[2..].to_vec(), ..whole };
    auditor.compare(vec![rest.clone()]).unwrap();
    // The same charges once more are other charges than the site claims.
    assert!(auditor.compare(vec![rest]).is_err());
}

#[test]
fn a_chain_that_does_not_verify_is_named() {
    let mut altered = claim(1.0, true);
    let other = entries(7);
    let text = other[3].canonical_json().replace("\"round\":4", "\"round\":9");
    altered.entries[3] = serde_json::from_str(&text).unwrap();
    let error = compare(vec![altered]).unwrap_err().to_string();
    assert!(
        error.contains("ledger-error") && error.contains("site a") && error.contains("entry 3"),
        "{error}"
    );
}

/// Private and public sums in turn; what each tier loses by them.
#[test]
fn whole_records_lose_by_every_charge_and_sensitive_values_by_private_sums() {
    let request = |round| ChargeRequest {
        released: if round % 2 == 0 { Released::PublicSum } else { Released::PrivateSum },
        event: event(if round % 2 == 0 { 3.0 } else { 2.0 }, 1),
        protects: Protection::WholeRecords,
        ..entries(1)[0].charge().clone()
    };
    let mut ledger = Ledger::open(Vec::new()).unwrap();
    charge(&mut ledger, (1..=6).map(request).collect());
    let both = [event(2.0, 3), event(3.0, 3)];
    let of = |events: &[DpEvent]| {
        [NeighboringRelation::Replace, NeighboringRelation::ZeroOut].map(|r| spent(events, r))
    };
    let ([replace, zero_out], [records_replace, records_zero_out]) = (of(&both[..1]), of(&both));
    let honest = NewCharges {
        site: "a".parse().unwrap(),
        epsilon_replace: replace,
        epsilon_zero_out: zero_out,
        records_replace,
        records_zero_out,
        complete: true,
        entries: ledger.entries().to_vec(),
    };
    let compare = |claim: NewCharges| Auditor::new(delta(), Protection::WholeRecords).compare(vec![claim]);
    assert!(compare(honest.clone()).is_ok());
    // A site that forgets the public sums, or the second tier altogether.
    for records_replace in [replace, 0.0] {
        let error = compare(NewCharges { records_replace, ..honest.clone() }).unwrap_err().to_string();
        assert!(error.contains("whole records"), "{error}");
    }
    assert!(compare(NewCharges { epsilon_replace: records_replace, ..honest }).is_err());
}
