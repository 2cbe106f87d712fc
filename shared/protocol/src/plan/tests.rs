#![allow(clippy::unwrap_used)]
use proptest::prelude::*;

use super::*;
use crate::problem::{Problem, ProblemType};
use crate::testing::{document, plan, sizes};

mod records;

fn noise(value: f64) -> NoiseMultiplier {
    NoiseMultiplier::new(value).unwrap()
}

fn own() -> SiteSize {
    sizes(&[1000, 600]).remove(0)
}

#[test]
fn a_plan_follows_from_document_and_sizes() {
    let plan = plan();
    assert_eq!((plan.total_units, plan.total_records), (1600, 3200));
    assert_eq!(plan.sampling_probability.get(), 16.0 / 1600.0);
    assert_eq!((plan.rounds, plan.warmup_rounds, plan.private_rounds()), (10, 2, 8));
    assert!(plan.epsilon_replace.get() <= 1.0 && plan.epsilon_replace.get() > 0.99, "{plan:?}");
    assert!(plan.epsilon_zero_out < plan.epsilon_replace);
    plan.verify(&document(&[]), &own()).unwrap();
}

#[test]
fn a_zero_out_target_is_met_under_zero_out() {
    let document = document(&[("relation = \"replace\"", "relation = \"zero_out\"")]);
    let plan = Plan::derive(&document, &sizes(&[1000, 600])).unwrap();
    assert!(plan.epsilon_zero_out.get() <= 1.0 && plan.epsilon_zero_out.get() > 0.99, "{plan:?}");
    assert!(plan.epsilon_replace.get() > 1.0);
    plan.verify(&document, &own()).unwrap();
}

#[test]
fn a_given_noise_is_kept_and_accounted() {
    let target = ("{ epsilon = 1.0, relation = \"replace\" }", "{ noise_multiplier = 1.25 }");
    let document = document(&[target]);
    let mut plan = Plan::derive(&document, &sizes(&[1000, 600])).unwrap();
    assert_eq!(plan.noise_multiplier, Some(noise(1.25)));
    plan.verify(&document, &own()).unwrap();
    plan.noise_multiplier = Some(noise(1.26));
    assert_field(plan.verify(&document, &own()), "noise_multiplier");
}

#[test]
fn overlapping_sites_are_calibrated_for_together() {
    let overlapping = document(&[("min_sites = 2", "min_sites = 2\nmax_overlap = 3")]);
    let plan = Plan::derive(&overlapping, &sizes(&[1000, 600])).unwrap();
    let together = plan.epsilon(3, NeighboringRelation::Replace).unwrap();
    assert!(together.get() <= 1.0 && together.get() > 0.99, "{together}");
    assert!(plan.epsilon_replace < together);
    assert!(plan.noise_multiplier > crate::testing::plan().noise_multiplier);
    plan.verify(&overlapping, &own()).unwrap();
}

#[test]
fn a_study_without_a_private_part_costs_nothing() {
    let document = document(&[("\"fusiondp\"", "\"hybrid-only\"")]);
    let mut plan = Plan::derive(&document, &sizes(&[1000, 600])).unwrap();
    assert_eq!((plan.noise_multiplier, plan.private_rounds()), (None, 0));
    assert_eq!((plan.epsilon_replace, plan.epsilon_zero_out), (Epsilon::ZERO, Epsilon::ZERO));
    assert!(plan.step_event().is_none() && plan.events_until(10).is_empty());
    plan.verify(&document, &own()).unwrap();
    plan.noise_multiplier = Some(noise(1.0));
    assert_field(plan.verify(&document, &own()), "noise_multiplier");
}

#[test]
fn events_begin_after_warm_up_and_end_with_the_study() {
    let plan = plan();
    let steps = |round| plan.events_until(round).iter().map(|event| event.steps().get()).sum::<u32>();
    assert_eq!([0, 1, 2, 3, 4, 10, 11, u32::MAX].map(steps), [0, 0, 0, 1, 2, 8, 8, 8]);
    let private = |round| plan.is_private_round(round);
    assert_eq!([0, 1, 2, 3, 10, 11].map(private), [false, false, false, true, true, false]);
    assert_eq!(plan.step_event().unwrap().steps().get(), 1);
}

#[test]
fn local_steps_are_events_of_their_own() {
    let steps =
        ("expected_batch_size = 16", "expected_batch_size = 16\nlocal_steps = 4\nlocal_learning_rate = 0.1");
    let document = document(&[steps]);
    let plan = Plan::derive(&document, &sizes(&[1000, 600])).unwrap();
    assert_eq!(plan.events_until(5)[0].steps().get(), 12);
    plan.verify(&document, &own()).unwrap();
}

#[test]
fn public_batches_are_shares_by_records() {
    let (document, plan) = (document(&[]), plan());
    let training = &document.study().training;
    // 32 records over 3,200, rounded up.
    assert_eq!([2000, 1200, 1, 0].map(|records| plan.public_batch_of(training, records)), [20, 12, 1, 0]);
    let all = Training { public_batch_size: 1 << 20, ..training.clone() };
    assert_eq!(plan.public_batch_of(&all, 2000), 2000);
    let none = Training { public_batch_size: 0, ..training.clone() };
    assert_eq!(plan.public_batch_of(&none, 2000), 0);
}

#[test]
fn sizes_that_do_not_stand_are_refused() {
    let document = document(&[]);
    let derive = |sizes: &[SiteSize]| Plan::derive(&document, sizes);
    assert!(matches!(derive(&sizes(&[1600])), Err(PlanError::TooFewSites { enrolled: 1, needed: 2 })));
    assert!(matches!(derive(&sizes(&[1600, 0])), Err(PlanError::SiteSize { .. })));
    let mut wrong = sizes(&[1000, 600]);
    wrong[1].records = 599;
    assert!(matches!(derive(&wrong), Err(PlanError::SiteSize { .. })));
    wrong[1] = wrong[0].clone();
    assert!(matches!(derive(&wrong), Err(PlanError::DuplicateSite { .. })));
    assert!(matches!(derive(&sizes(&[u64::MAX / 2, 1])), Err(PlanError::SiteSize { .. })));
}

#[test]
fn a_batch_above_all_units_is_refused() {
    let error = Plan::derive(&document(&[]), &sizes(&[8, 7])).unwrap_err();
    assert!(matches!(error, PlanError::BatchAboveUnits { expected: 16, total_units: 15 }), "{error:?}");
    assert_eq!(Problem::from(error).kind, ProblemType::StudyInvalid);
    let everyone = Plan::derive(&document(&[]), &sizes(&[8, 8])).unwrap();
    assert_eq!(everyone.sampling_probability.get(), 1.0);
}

#[test]
fn delta_above_one_over_n_is_refused() {
    let document = document(&[("delta = 1e-5", "delta = 1e-3")]);
    let error = Plan::derive(&document, &sizes(&[600, 401])).unwrap_err();
    assert!(matches!(error, PlanError::DeltaAboveUnits { total_units: 1001, .. }), "{error:?}");
    Plan::derive(&document, &sizes(&[600, 400])).unwrap();
}

fn assert_field(result: Result<(), PlanMismatch>, expected: &str) {
    let error = result.unwrap_err();
    let found = match &error {
        PlanMismatch::Figure { field, .. } | PlanMismatch::OwnSize { field, .. } => *field,
        _ => "",
    };
    assert_eq!(found, expected, "{error}");
    assert_eq!(Problem::from(error).kind, ProblemType::PlanMismatch);
}

type Tamper = fn(&mut Plan);

#[test]
fn every_changed_figure_is_noticed() {
    let tampered: [(&str, Tamper); 14] = [
        ("study_id", |plan| plan.study_id = StudyId::new("other").unwrap()),
        ("study_digest", |plan| plan.study_digest = Digest::of(b"other")),
        ("sampling_probability", |plan| {
            plan.sampling_probability = SamplingProbability::new(0.0099).unwrap()
        }),
        ("noise_multiplier", |plan| plan.noise_multiplier = None),
        ("clip_norm", |plan| plan.clip_norm = ClipNorm::new(2.0).unwrap()),
        ("rounds", |plan| plan.rounds = 11),
        ("warmup_rounds", |plan| plan.warmup_rounds = 3),
        ("local_steps", |plan| plan.local_steps = 2),
        ("sampling_probability", |plan| plan.total_units = 1601),
        ("total_units", |plan| plan.total_units = 999),
        ("total_records", |plan| plan.total_records = 1599),
        ("delta", |plan| plan.delta = Delta::new(1e-6).unwrap()),
        ("epsilon_replace", |plan| plan.epsilon_replace = Epsilon::new(0.5).unwrap()),
        ("epsilon_zero_out", |plan| plan.epsilon_zero_out = Epsilon::ZERO),
    ];
    let (document, honest) = (document(&[]), plan());
    for (field, tamper) in tampered {
        let mut plan = honest.clone();
        tamper(&mut plan);
        assert_ne!(plan.digest(), honest.digest(), "{field}");
        assert_field(plan.verify(&document, &own()), field);
    }
}

#[test]
fn less_noise_than_the_target_needs_is_noticed() {
    let (document, mut plan) = (document(&[]), plan());
    let less = noise(plan.noise_multiplier.unwrap().get() * 0.99);
    plan.noise_multiplier = Some(less);
    assert_field(plan.verify(&document, &own()), "epsilon_replace");
    // A coordinator that also admits to the larger epsilon is caught by the target.
    plan.epsilon_replace = plan.epsilon(1, NeighboringRelation::Replace).unwrap();
    plan.epsilon_zero_out = plan.epsilon(1, NeighboringRelation::ZeroOut).unwrap();
    let error = plan.verify(&document, &own()).unwrap_err();
    assert!(matches!(error, PlanMismatch::AboveTarget { .. }), "{error}");
}

#[test]
fn more_noise_than_needed_is_accepted() {
    let (document, mut plan) = (document(&[]), plan());
    plan.noise_multiplier = Some(noise(plan.noise_multiplier.unwrap().get() * 1.5));
    plan.epsilon_replace = plan.epsilon(1, NeighboringRelation::Replace).unwrap();
    plan.epsilon_zero_out = plan.epsilon(1, NeighboringRelation::ZeroOut).unwrap();
    plan.verify(&document, &own()).unwrap();
}

#[test]
fn totals_with_too_large_a_delta_or_batch_are_refused_by_the_site_too() {
    let (document, mut plan) = (document(&[("delta = 1e-5", "delta = 6e-4")]), plan());
    plan.study_id = document.id().clone();
    plan.study_digest = document.digest();
    plan.delta = document.study().privacy.delta;
    plan.total_units = 2000;
    let error = plan.verify(&document, &own()).unwrap_err();
    assert!(matches!(error, PlanMismatch::Totals(PlanError::DeltaAboveUnits { .. })), "{error}");
    plan.total_units = 15;
    let tiny = sizes(&[10]).remove(0);
    let error = plan.verify(&document, &tiny).unwrap_err();
    assert!(matches!(error, PlanMismatch::Totals(PlanError::BatchAboveUnits { .. })), "{error}");
}

#[test]
fn the_sepsis_sample_makes_a_plan() {
    let text = include_str!("../../../../deploy/samples/sepsis-study.toml");
    let document = StudyDocument::from_bytes(text.as_bytes()).unwrap();
    let sizes = sizes(&[7299, 6994]);
    let plan = Plan::derive(&document, &sizes).unwrap();
    let epsilon = plan.epsilon_replace.get();
    assert!(epsilon <= 1.0 && epsilon > 0.998, "{epsilon}");
    assert!(plan.epsilon_zero_out.get() < epsilon);
    plan.verify(&document, &sizes[1]).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn every_site_accepts_the_plan_that_was_derived(units in proptest::collection::vec(50u64..5000, 2..6)) {
        let (document, sizes) = (document(&[]), sizes(&units));
        let plan = Plan::derive(&document, &sizes).unwrap();
        for size in &sizes {
            plan.verify(&document, size).unwrap();
        }
        let shares: usize =
            sizes.iter().map(|size| plan.public_batch_of(&document.study().training, size.records)).sum();
        prop_assert!(shares >= 32 && shares <= 32 + sizes.len());
    }
}
