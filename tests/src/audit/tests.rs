#![allow(clippy::unwrap_used)]

use std::num::NonZeroU32;

use fusiondp_dp::{ClipNorm, DpEvent, NoiseMultiplier, Protection, Released, SamplingProbability};
use fusiondp_protocol::{Plan, SiteSize, study::StudyDocument};

use super::attack::Canary;

use super::*;
use crate::harness::toml_text::{SAMPLE_STUDY, TomlText};

const SEED: u64 = 7;

fn setting(epsilon: f64) -> Setting {
    let delta = Delta::new(1e-5).unwrap();
    Setting::calibrated(epsilon, NonZeroU32::new(4).unwrap(), delta, 128).unwrap()
}

fn counts(epsilon: f64) -> Setting {
    Setting::counts(epsilon, NonZeroU32::new(4).unwrap(), Delta::new(1e-5).unwrap(), 128).unwrap()
}

fn sums(released: Released, noise: f64, steps: u32) -> Series {
    let event = DpEvent::PoissonSampledGaussian {
        noise_multiplier: NoiseMultiplier::new(noise).unwrap(),
        sampling_probability: SamplingProbability::ONE,
        steps: NonZeroU32::new(steps).unwrap(),
    };
    Series { released, event, clip_norm: ClipNorm::new(0.5).unwrap() }
}

/// Public sums in a study that protects whole records.
fn public_sums() -> Setting {
    let series = vec![sums(Released::PublicSum, 5.0, 6)];
    Setting { series, protects: Protection::WholeRecords, ..setting(1.0) }
}

/// What whole records lose: private sums, public sums and tables, all decided by one bit of a unit.
fn together() -> Setting {
    let mut setting = Setting { protects: Protection::WholeRecords, ..counts(1.0) };
    setting.series.extend([sums(Released::PrivateSum, 6.0, 2), sums(Released::PublicSum, 5.0, 4)]);
    setting
}

/// The Gaussian bound, wrong with probability 1e-4 at most.
fn strict_bound(result: &AuditResult) -> f64 {
    bound::gaussian_epsilon((result.canaries, result.wrong), result.delta.get(), 1e-4)
}

/// With 16,384 canaries at the full distance and claims from 2 on, the binomial distribution gives: above the claim 1e-4, below 0.7
/// of it 6e-4; at claims from 4 on, 1e-11 for the latter.
#[test]
fn every_mechanism_stays_below_its_claim_and_near_it() {
    for setting in [counts(4.0), counts(8.0), public_sums(), together()] {
        let result = audit(&setting, None, SEED).unwrap();
        let (claim, bound) = (result.claim.get(), strict_bound(&result));
        assert!(claim >= 2.0 && !result.refutes() && bound < claim && bound > 0.7 * claim, "{result:?}");
    }
}

/// At claims from 4 on, as here, the strict bound misses each of them with probability 1e-4 at most, by the same arithmetic.
#[test]
fn every_mechanism_has_faults_that_are_noticed() {
    for setting in [counts(4.0), public_sums(), together()] {
        for fault in setting.faults() {
            let result = audit(&setting, Some(fault), SEED).unwrap();
            assert!(strict_bound(&result) > result.claim.get(), "{result:?}");
        }
    }
}

#[test]
fn more_canaries_than_a_table_holds_share_out_over_several() {
    let one =
        Setting { side: 256, ..Setting::counts(4.0, NonZeroU32::MIN, Delta::new(1e-5).unwrap(), 2).unwrap() };
    let result = audit(&one, None, SEED).unwrap();
    assert_eq!(result.canaries, 65_536);
    assert!((0.85 * 4.0..4.0).contains(&strict_bound(&result)), "{result:?}");
}

/// The sample study with noised public gradients and noisy counts.
#[test]
fn what_a_study_plans_is_attacked_kind_by_kind_and_together() {
    let mut text = TomlText::new(SAMPLE_STUDY);
    text.set("model", "dropout", 0.0).unwrap();
    text.remove("training", "public_batch_size").unwrap();
    let records =
        "clip_norm = 0.5\nexpected_batch_size = 1000\ntarget = { epsilon = 4.0, relation = \"replace\" }";
    text.replace_section("privacy.records", records).unwrap();
    let noisy =
        "release = \"noisy\"\nnoise_multiplier = 10.0\nedges = [-4.0, -2.0, 0.0]\nfinal_cohort = \"test\"";
    text.replace_section("evaluation", noisy).unwrap();
    let document = StudyDocument::from_bytes(text.text().as_bytes()).unwrap();
    let size = |name: &str, units| SiteSize { site: name.parse().unwrap(), units, records: units };
    let plan = Plan::derive(&document, &[size("a", 7_000), size("b", 6_000)]).unwrap();
    let settings = Setting::of_plan(&plan, document.study(), 64).unwrap();
    let mechanisms: Vec<Mechanism> = settings.iter().map(Setting::mechanism).collect();
    let expected = [Mechanism::PrivateSum, Mechanism::PublicSum, Mechanism::Counts, Mechanism::Together];
    assert_eq!(mechanisms, expected);
    assert!(settings.iter().all(|setting| setting.protects == Protection::WholeRecords));
    let [private, public, tables] = [0, 1, 2].map(|index| settings[index].series[0].event);
    assert_eq!((private.steps().get(), public.steps().get(), tables.steps().get()), (8, 400, 1));
    assert_eq!(settings[3].series.len(), 3);
    assert!(!settings[2].faults().contains(&Fault::ReusedNoise), "one table shares its noise with none");
    let claims: Vec<f64> = settings.iter().map(|setting| setting.claim(None).unwrap().get()).collect();
    // The plan's own figures: of the private part for sensitive values, of both sums for whole records.
    assert!((claims[0] - plan.epsilon_replace.get()).abs() < 1e-9, "{claims:?}");
    let whole = plan.records.unwrap().epsilon_replace.get();
    assert!(claims[1] < whole && claims[3] > whole, "{claims:?}");
}

#[test]
fn results_are_read_back_from_json() {
    let small = Setting { side: 4, ..counts(1.0) };
    let result = audit(&small, Some(Fault::CountedPerRecord), SEED).unwrap();
    let text = serde_json::to_string(&result).unwrap();
    assert!(
        text.contains(r#""mechanism":"counts""#) && text.contains(r#""fault":"counted-per-record""#),
        "{text}"
    );
    assert_eq!(serde_json::from_str::<AuditResult>(&text).unwrap(), result);
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
    for &fault in Mechanism::PrivateSum.faults() {
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
    let DpEvent::PoissonSampledGaussian { sampling_probability, .. } = &mut sampled.series[0].event else {
        panic!("{sampled:?}")
    };
    *sampling_probability = SamplingProbability::new(0.25).unwrap();
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
