#![allow(clippy::unwrap_used)]

use std::num::NonZeroU32;

use fusiondp_dp::SamplingProbability;

use super::attack::Canary;

use super::*;

const SEED: u64 = 7;

fn setting(epsilon: f64) -> Setting {
    let delta = Delta::new(1e-5).unwrap();
    Setting::calibrated(epsilon, NonZeroU32::new(4).unwrap(), delta, 128).unwrap()
}

/// A valid bound exceeds the truth in one audit of a hundred at most; seeds are fixed, so these do not change.
#[test]
fn honest_code_stays_below_its_claim_and_near_it() {
    for claim in [1.0, 4.0] {
        let result = audit(&setting(claim), None, SEED).unwrap();
        assert!(!result.alarms(), "{result:?}");
        // One run of 16,384 canaries proves a part of the claim for any mechanism, most of it for a Gaussian one.
        assert!(result.lower_bound > 0.3 * claim && result.gaussian_bound > 0.5 * claim, "{result:?}");
    }
}

#[test]
fn every_planted_fault_exceeds_its_claim() {
    for fault in Fault::ALL {
        let result = audit(&setting(4.0), Some(fault), SEED).unwrap();
        assert!(result.alarms(), "{result:?}");
    }
    // What is far off is refuted without any assumption.
    for (fault, claim) in [(Fault::NoClipping, 1.0), (Fault::ReusedNoise, 1.0), (Fault::HalfSensitivity, 4.0)]
    {
        let result = audit(&setting(claim), Some(fault), SEED).unwrap();
        assert!(result.refutes(), "{result:?}");
    }
}

#[test]
fn a_secret_sample_is_attacked_through_its_likelihood() {
    let mut sampled = setting(4.0);
    sampled.sampling_probability = SamplingProbability::new(0.25).unwrap();
    let result = audit(&sampled, None, SEED).unwrap();
    assert!(!result.refutes() && result.lower_bound > 0.0, "{result:?}");
}

#[test]
fn the_surest_guesses_count_and_a_bit_without_evidence_is_guessed_clear() {
    let canary = |bit, score| Canary { bit, score };
    let canaries = [canary(true, 3.0), canary(false, 2.0), canary(false, -1.0), canary(true, 0.0)];
    let right: Vec<usize> = (0..=4).map(|guesses| attack::right_guesses(&canaries, guesses)).collect();
    assert_eq!(right, [0, 1, 1, 2, 2]);
}

#[test]
fn the_drawing_has_the_claim_and_every_fault() {
    let results = [
        audit(&Setting { side: 4, ..setting(1.0) }, None, SEED).unwrap(),
        audit(&Setting { side: 4, ..setting(1.0) }, Some(Fault::HalfNoise), SEED).unwrap(),
    ];
    let svg = svg(&results).unwrap();
    for part in [">claim<", ">bound, any mechanism<", ">half-noise, Gaussian<"] {
        assert!(svg.contains(part), "{part} in {svg}");
    }
    assert_eq!(super::svg(&[]), None);
    let refused = audit(&Setting { side: 1, ..setting(1.0) }, None, SEED).unwrap_err();
    assert!(refused.to_string().contains("1 rows of canaries are outside 2 to 512"), "{refused}");
}
