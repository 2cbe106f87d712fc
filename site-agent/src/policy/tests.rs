#![allow(clippy::unwrap_used)]
use std::num::NonZeroU32;
use std::sync::Arc;

use fusiondp_dp::{Delta, DpEvent, NeighboringRelation, NoiseMultiplier, SamplingProbability};
use fusiondp_protocol::plan::{Plan, SiteSize};
use fusiondp_protocol::problem::{Problem, ProblemType};

use super::budget::Planned;
use super::meter::StepCounts;
use super::*;
use crate::data::identity::DataIdentity;
use crate::testing::{DP_SGD, NOW_MS, document, limits};

mod budget;
mod counts;
mod records;
mod told;

const DATA: DataIdentity = DataIdentity { digest: fusiondp_dp::Digest::from_bytes([3; 32]), declared: false };

fn event(noise: f64, steps: u32) -> DpEvent {
    DpEvent::PoissonSampledGaussian {
        noise_multiplier: NoiseMultiplier::new(noise).unwrap(),
        sampling_probability: SamplingProbability::new(0.1).unwrap(),
        steps: NonZeroU32::new(steps).unwrap(),
    }
}

fn policy(change: impl FnOnce(&mut PolicyLimits)) -> Policy {
    let mut limits = limits();
    change(&mut limits);
    Policy::new(limits, Purpose::Production)
}

fn task(document: &StudyDocument) -> TrainingTask {
    let size = SiteSize { site: "here".parse().unwrap(), units: 40, records: 40 };
    let plan = Plan::derive(document, &[size]).unwrap();
    TrainingTask {
        plan,
        round: 2,
        model_version: 1,
        model_digest: fusiondp_dp::Digest::of(b"model"),
        attempt: 1,
        private_part: true,
        deadline_ms: NOW_MS,
    }
}

/// What a site changes in its limits.
type Change = fn(&mut PolicyLimits);

/// Asks for the private part of a round of a study that charged nothing yet.
fn ask(policy: &Policy, document: &StudyDocument, charged: &[DpEvent]) -> Result<ReleasePermit, Refusal> {
    let request = ReleaseRequest { document, task: &task(document), data: DATA, units: 40 };
    policy.permit_release(&request, &[], &on_data_set(charged), &mut Budget::new(Arc::default()))
}

/// Charges of long ago, by other studies.
fn on_data_set(charged: &[DpEvent]) -> Past {
    Past { data_set: StepCounts::of(charged), ..Past::default() }
}

#[test]
fn each_limit_refuses_by_name() {
    let study = document(&[]);
    assert!(ask(&policy(|_| {}), &study, &[]).is_ok());
    let cases: [(&str, Change, ProblemType); 15] = [
        (
            "min_noise_multiplier",
            |l| l.min_noise_multiplier = Some(NoiseMultiplier::new(1.6).unwrap()),
            ProblemType::PolicyRefusal,
        ),
        (
            "max_clip_norm",
            |l| l.max_clip_norm = Some(fusiondp_dp::ClipNorm::new(0.4).unwrap()),
            ProblemType::PolicyRefusal,
        ),
        (
            "max_sampling_probability",
            |l| l.max_sampling_probability = Some(SamplingProbability::new(0.2).unwrap()),
            ProblemType::PolicyRefusal,
        ),
        ("min_units", |l| l.min_units = 41, ProblemType::PolicyRefusal),
        ("policy.delta", |l| l.delta = Delta::new(1e-6).unwrap(), ProblemType::PolicyRefusal),
        ("allow_public_gradient", |l| l.allow_public_gradient = false, ProblemType::PolicyRefusal),
        ("public_columns", |l| l.public_columns = vec!["a".to_owned()], ProblemType::PolicyRefusal),
        ("public_columns", |l| l.public_columns.clear(), ProblemType::PolicyRefusal),
        ("allowed_imputers", |l| l.allowed_imputers = Some(Vec::new()), ProblemType::PolicyRefusal),
        (
            "max_epsilon_replace",
            |l| l.max_epsilon_replace = 0.1.try_into().unwrap(),
            ProblemType::BudgetExceeded,
        ),
        (
            "max_epsilon_zero_out",
            |l| l.max_epsilon_zero_out = 0.1.try_into().unwrap(),
            ProblemType::BudgetExceeded,
        ),
        (
            "policy.per_study.max_epsilon_replace",
            |l| l.per_study.max_epsilon_replace = Some(0.1.try_into().unwrap()),
            ProblemType::BudgetExceeded,
        ),
        (
            "policy.per_study.max_epsilon_zero_out",
            |l| l.per_study.max_epsilon_zero_out = Some(0.1.try_into().unwrap()),
            ProblemType::BudgetExceeded,
        ),
        (
            "policy.per_year.max_epsilon_replace",
            |l| l.per_year.max_epsilon_replace = Some(0.1.try_into().unwrap()),
            ProblemType::BudgetExceeded,
        ),
        (
            "policy.per_year.max_epsilon_zero_out",
            |l| l.per_year.max_epsilon_zero_out = Some(0.1.try_into().unwrap()),
            ProblemType::BudgetExceeded,
        ),
    ];
    for (field, change, kind) in cases {
        let refusal = ask(&policy(change), &study, &[]).err().unwrap();
        let problem = Problem::from(&refusal);
        assert!(problem.detail.contains(field), "{field}: {}", problem.detail);
        assert_eq!(problem.kind, kind, "{field}");
    }
}

#[test]
fn limits_that_are_met_exactly_permit() {
    let study = document(&[]);
    let policy = policy(|limits| {
        limits.min_noise_multiplier = Some(NoiseMultiplier::new(1.5).unwrap());
        limits.max_clip_norm = Some(fusiondp_dp::ClipNorm::new(0.5).unwrap());
        limits.max_sampling_probability = Some(SamplingProbability::new(0.3).unwrap());
        limits.min_units = 40;
        limits.public_columns = vec!["c".to_owned(), "a".to_owned(), "y".to_owned()];
        limits.delta = study.study().privacy.delta;
        limits.unit_column = UnitColumn::Named("id".to_owned());
    });
    assert!(ask(&policy, &study, &[]).is_ok());
}

#[test]
fn dp_sgd_needs_no_public_gradient_and_other_modes_do() {
    let policy = policy(|limits| limits.allow_public_gradient = false);
    assert!(ask(&policy, &document(DP_SGD), &[]).is_ok());
    assert_eq!(policy.permit_public(document(&[]).study(), 40).err(), Some(Refusal::PublicGradient));
}

#[test]
fn non_private_runs_in_simulations_only() {
    let study = document(&[
        ("mode = \"fusiondp\"\nwarmup_rounds = 1", "mode = \"non-private\""),
        ("kind = \"precomputed\"", "kind = \"none\""),
    ]);
    let production = Policy::new(limits(), Purpose::Production);
    assert_eq!(production.check_study(study.study(), 40), Err(Refusal::NonPrivate));
    assert_eq!(Policy::new(limits(), Purpose::Simulation).check_study(study.study(), 40), Ok(()));
}

#[test]
fn metrics_need_both_consents() {
    let silent = document(&[("release = \"summary\"\nfinal_cohort = \"test\"", "release = \"none\"")]);
    let (open, closed) = (policy(|_| {}), policy(|limits| limits.allow_metrics = false));
    let test: CohortName = "test".parse().unwrap();
    assert!(open.permit_metrics(document(&[]).study(), &test, 1).is_ok());
    assert_eq!(closed.permit_metrics(document(&[]).study(), &test, 1).err(), Some(Refusal::Metrics));
    assert_eq!(open.permit_metrics(silent.study(), &test, 1).err(), Some(Refusal::MetricsNotInStudy));
}

#[test]
fn metrics_are_of_the_studys_cohorts_and_of_enough_patients() {
    let study = document(&[]);
    let policy = policy(|limits| limits.min_units = 30);
    let (test, other): (CohortName, CohortName) = ("test".parse().unwrap(), "train-again".parse().unwrap());
    assert!(policy.permit_metrics(study.study(), &test, 30).is_ok());
    let small = policy.permit_metrics(study.study(), &test, 29).err();
    assert_eq!(small, Some(Refusal::CohortTooSmall { cohort: test, limit: 30 }));
    let stranger = policy.permit_metrics(study.study(), &other, 30).err();
    assert_eq!(stranger, Some(Refusal::CohortNotInStudy { cohort: other }));
}

#[test]
fn a_site_too_small_sends_no_public_gradient_either() {
    let policy = policy(|limits| limits.min_units = 41);
    let refusal = policy.permit_public(document(&[]).study(), 40).err();
    assert_eq!(refusal, Some(Refusal::TooFewUnits { units: 40, limit: 41 }));
}

#[test]
fn the_label_leaves_without_noise_too() {
    let listed = |columns: &[&str]| {
        let columns = columns.iter().map(|&column| column.to_owned()).collect();
        policy(|limits| limits.public_columns = columns).check_study(document(&[]).study(), 40)
    };
    assert_eq!(listed(&["a", "c", "y"]), Ok(()));
    let refusal = listed(&["a", "c"]).unwrap_err();
    assert!(refusal.to_string().contains("\"y\"") && refusal.to_string().contains("label"), "{refusal}");
}

#[test]
fn a_site_demands_its_unit() {
    let demanded = |column: &str| policy(|limits| limits.unit_column = UnitColumn::Named(column.to_owned()));
    assert_eq!(demanded("id").check_study(document(&[]).study(), 40), Ok(()));
    let per_record =
        document(&[("unit_column = \"id\"\n", ""), ("  { name = \"id\", role = \"unit-id\" },\n", "")]);
    let refusal = demanded("id").check_study(per_record.study(), 40).unwrap_err();
    assert_eq!(refusal, Refusal::Unit { asked: "record".to_owned(), required: "id".to_owned() });
    assert!(demanded("ward").check_study(document(&[]).study(), 40).is_err());
    // Where every record is a patient of its own, whoever protects more is welcome.
    for study in [&per_record, &document(&[])] {
        assert_eq!(policy(|_| {}).check_study(study.study(), 40), Ok(()));
    }
}

#[test]
fn a_target_above_the_limit_is_refused_before_there_is_a_plan() {
    let study = document(&[("{ noise_multiplier = 1.5 }", "{ epsilon = 4.0, relation = \"replace\" }")]);
    let policy = policy(|limits| limits.max_epsilon_replace = 3.0.try_into().unwrap());
    let refusal = policy.check_study(study.study(), 40).unwrap_err();
    assert!(matches!(refusal, Refusal::BudgetExceeded { relation: NeighboringRelation::Replace, .. }));
    assert!(refusal.to_string().contains('4') && refusal.to_string().contains('3'), "{refusal}");
    for limits in [
        |l: &mut PolicyLimits| l.per_study.max_epsilon_replace = Some(3.0.try_into().unwrap()),
        |l: &mut PolicyLimits| l.per_year.max_epsilon_replace = Some(3.0.try_into().unwrap()),
    ] {
        assert!(super::tests::policy(limits).check_document(study.study()).is_err());
    }
}

#[test]
fn what_other_studies_spent_counts() {
    let study = document(&[]);
    let meter = EpsilonMeter::default();
    let delta = Delta::new(1e-5).unwrap();
    let alone = task(&study).plan.epsilon_replace;
    let past = event(1.0, 60);
    let spent = meter.epsilon(&StepCounts::of(&[past]), delta, NeighboringRelation::Replace).unwrap();
    let limit = spent.max(alone).get() + 0.05;
    let policy = policy(|limits| limits.max_epsilon_replace = limit.try_into().unwrap());
    assert!(ask(&policy, &study, &[]).is_ok());
    // One round of this study on top of the past fits, or not; the whole study certainly does not.
    let mut counts = StepCounts::of(&[past]);
    counts.add(&task(&study).plan.step_event().unwrap(), 1);
    let needed = meter.epsilon(&counts, delta, NeighboringRelation::Replace).unwrap();
    let refusal = ask(&policy, &study, &[past]);
    assert!(needed.get() > limit, "the test's figures must exceed the limit");
    assert!(matches!(refusal, Err(Refusal::BudgetExceeded { needed: found, .. }) if found == needed));
}

#[test]
fn a_budget_is_used_to_its_last_whole_round() {
    let meter = Arc::new(EpsilonMeter::default());
    let delta = Delta::new(1e-5).unwrap();
    let mut limits = limits();
    let five = meter.epsilon(&StepCounts::of(&[event(1.5, 5)]), delta, NeighboringRelation::Replace).unwrap();
    limits.max_epsilon_replace = five.get().try_into().unwrap();
    let mut budget = Budget::new(Arc::clone(&meter));
    for charged in 0..8_u32 {
        let past: Vec<DpEvent> = (0..charged).map(|_| event(1.5, 1)).collect();
        let planned = Planned {
            released: Released::PrivateSum,
            event: event(1.5, 1),
            steps_now: 1,
            steps_to_the_end: u64::from(8 - charged),
        };
        assert_eq!(
            budget.admit(&limits, &on_data_set(&past), std::slice::from_ref(&planned)).is_ok(),
            charged < 5,
            "{charged}"
        );
    }
}

#[test]
fn a_proof_does_not_outlive_its_limits_its_delta_or_its_steps() {
    let (one, past) = (event(1.5, 1), []);
    let delta = Delta::new(1e-5).unwrap();
    let planned = Planned { released: Released::PrivateSum, event: one, steps_now: 1, steps_to_the_end: 5 };
    let mut budget = Budget::new(Arc::default());
    budget.admit(&limits(), &on_data_set(&past), std::slice::from_ref(&planned)).unwrap();
    let mut tight = limits();
    tight.max_epsilon_zero_out = 0.01.try_into().unwrap();
    assert!(budget.admit(&tight, &on_data_set(&past), std::slice::from_ref(&planned)).is_err());
    budget.admit(&limits(), &on_data_set(&past), std::slice::from_ref(&planned)).unwrap();
    let mut between = limits();
    let figure = |delta| {
        EpsilonMeter::default()
            .epsilon(&StepCounts::of(&[event(1.5, 5)]), delta, NeighboringRelation::Replace)
            .unwrap()
    };
    between.max_epsilon_replace = figure(delta).get().try_into().unwrap();
    budget.admit(&between, &on_data_set(&past), std::slice::from_ref(&planned)).unwrap();
    let stricter = PolicyLimits { delta: Delta::new(1e-300).unwrap(), ..between.clone() };
    assert!(budget.admit(&stricter, &on_data_set(&past), std::slice::from_ref(&planned)).is_err());
    // A repeated attempt beyond the proven five steps is evaluated and refused.
    assert!(budget.admit(&between, &on_data_set(&[event(1.5, 5)]), std::slice::from_ref(&planned)).is_err());
}

#[test]
fn studies_with_unlike_deltas_share_one_limit() {
    // At its own delta the second study would find room that the first has used up at the site's.
    let meter = EpsilonMeter::default();
    let at = |delta: f64, steps| {
        let (counts, delta) = (StepCounts::of(&[event(1.5, steps)]), Delta::new(delta).unwrap());
        meter.epsilon(&counts, delta, NeighboringRelation::Replace).unwrap().get()
    };
    let mut limits = limits();
    limits.max_epsilon_replace = at(1e-5, 10).try_into().unwrap();
    assert!(at(1e-3, 11) < at(1e-5, 10), "the test's figures must leave room at the larger delta");
    let planned =
        Planned { released: Released::PrivateSum, event: event(1.5, 1), steps_now: 1, steps_to_the_end: 1 };
    let mut budget = Budget::new(Arc::default());
    assert!(budget.admit(&limits, &on_data_set(&[event(1.5, 9)]), std::slice::from_ref(&planned)).is_ok());
    assert!(budget.admit(&limits, &on_data_set(&[event(1.5, 10)]), std::slice::from_ref(&planned)).is_err());
    let loose = document(&[("delta = 1e-5", "delta = 1e-3")]);
    let refusal = Policy::new(limits, Purpose::Production).check_study(loose.study(), 40).unwrap_err();
    assert!(matches!(refusal, Refusal::Delta { .. }), "{refusal}");
}
