//! Whether metrics may leave with noise.

use fusiondp_dp::Digest;

use super::super::counts::{CountsRequest, counts_event};
use super::super::forecast::{counts_of, lines};
use super::*;
use crate::testing::NOISY;

fn noise(value: f64) -> Option<NoiseMultiplier> {
    Some(NoiseMultiplier::new(value).unwrap())
}

/// A site that lets nothing leave in the clear.
fn closed(change: impl FnOnce(&mut PolicyLimits)) -> Policy {
    policy(|limits| {
        limits.allow_metrics = false;
        limits.min_metrics_noise = noise(5.0);
        change(limits);
    })
}

/// What a test changes in a request.
#[derive(Clone)]
struct Asked {
    cohort: &'static str,
    units: u64,
    shared_units: usize,
}

const ASKED: Asked = Asked { cohort: "test", units: 40, shared_units: 0 };

fn ask(
    policy: &Policy,
    document: &StudyDocument,
    asked: &Asked,
    past: &Past,
) -> Result<ReleasePermit, Refusal> {
    let cohort = asked.cohort.parse().unwrap();
    let request = CountsRequest {
        document,
        cohort: &cohort,
        model_digest: Digest::of(b"model"),
        data: DATA,
        units: asked.units,
        shared_units: asked.shared_units,
    };
    policy.permit_counts(&request, &[], past, &mut Budget::new(Arc::default()))
}

fn refused(policy: &Policy, document: &StudyDocument, asked: &Asked) -> Refusal {
    ask(policy, document, asked, &Past::default()).err().unwrap()
}

#[test]
fn counts_need_the_sites_consent_to_their_noise() {
    let study = document(&[NOISY]);
    let may = |policy: Policy| ask(&policy, &study, &ASKED, &Past::default()).map(drop);
    assert_eq!(may(closed(|_| {})), Ok(()));
    assert_eq!(may(closed(|limits| limits.min_metrics_noise = None)), Err(Refusal::NoisyMetrics));
    let (value, limit) = (noise(5.0).unwrap(), noise(5.1).unwrap());
    let more = may(closed(|limits| limits.min_metrics_noise = Some(limit)));
    assert_eq!(more, Err(Refusal::MetricsNoise { value, limit }));
    // What may leave in the clear may leave with any noise.
    for min_metrics_noise in [None, Some(limit)] {
        let open = policy(|limits| limits.min_metrics_noise = min_metrics_noise);
        assert_eq!(may(open), Ok(()));
    }
}

#[test]
fn consent_to_noise_is_none_to_metrics_in_the_clear() {
    let (exact, noisy) = (document(&[]), document(&[NOISY]));
    let test = "test".parse().unwrap();
    assert_eq!(closed(|_| {}).permit_metrics(exact.study(), &test, 40).err(), Some(Refusal::Metrics));
    // Nor does a study that asks for noise get exact ones, whatever the site permits.
    for policy in [closed(|_| {}), policy(|_| {})] {
        let refusal = policy.permit_metrics(noisy.study(), &test, 40).err();
        assert_eq!(refusal, Some(Refusal::MetricsNotInStudy));
    }
    assert_eq!(refused(&policy(|_| {}), &exact, &ASKED), Refusal::MetricsNotInStudy);
}

#[test]
fn counts_are_of_the_studys_cohorts_of_enough_patients_in_its_unit() {
    let study = document(&[NOISY]);
    let other = Asked { cohort: "train-again", ..ASKED };
    assert!(matches!(refused(&closed(|_| {}), &study, &other), Refusal::CohortNotInStudy { .. }));
    let small = closed(|limits| limits.min_units = 41);
    assert!(matches!(refused(&small, &study, &ASKED), Refusal::CohortTooSmall { limit: 41, .. }));
    let per_ward = closed(|limits| limits.unit_column = UnitColumn::Named("ward".to_owned()));
    assert!(matches!(refused(&per_ward, &study, &ASKED), Refusal::Unit { .. }));
}

#[test]
fn a_cohort_that_shares_patients_is_no_other_data() {
    let shared = Asked { shared_units: 7_531, ..ASKED };
    let refusal = refused(&closed(|_| {}), &document(&[NOISY]), &shared);
    assert!(refusal.to_string().contains("7531") && refusal.to_string().contains("data.cohort_identity"));
    let problem = Problem::from(&refusal);
    assert_eq!(problem.kind, ProblemType::PolicyRefusal);
    assert!(problem.detail.contains("test") && !problem.detail.contains("7531"), "{problem}");
}

#[test]
fn counts_fit_into_every_budget_together_with_what_was_charged() {
    let study = document(&[NOISY]);
    let table = counts_event(study.study()).unwrap();
    let (meter, delta) = (EpsilonMeter::default(), Delta::new(1e-5).unwrap());
    let of = |steps| {
        let counts = StepCounts::of(&[event(1.5, 5), table.with_steps(NonZeroU32::new(steps).unwrap())]);
        meter.epsilon(&counts, delta, NeighboringRelation::Replace).unwrap()
    };
    let limit = of(2).get().try_into().unwrap();
    let budgets: [(Scope, Change2); 3] = [
        (Scope::DataSet, |limits, limit| limits.max_epsilon_replace = limit),
        (Scope::Study, |limits, limit| limits.per_study.max_epsilon_replace = Some(limit)),
        (Scope::Year, |limits, limit| limits.per_year.max_epsilon_replace = Some(limit)),
    ];
    for (scope, change) in budgets {
        let policy = closed(|limits| change(limits, limit));
        let past = |steps| {
            let spent = StepCounts::of(&[event(1.5, 5), table.with_steps(NonZeroU32::new(steps).unwrap())]);
            let mut past = Past::default();
            match scope {
                Scope::DataSet => past.data_set = spent,
                Scope::Study => past.study = spent,
                Scope::Year => past.year = spent,
                Scope::Records => past.records = spent,
            }
            past
        };
        assert!(ask(&policy, &study, &ASKED, &past(1)).is_ok(), "{scope}");
        let refusal = ask(&policy, &study, &ASKED, &past(2)).err().unwrap();
        assert!(
            matches!(&refusal, Refusal::BudgetExceeded { scope: found, needed, .. } if *found == scope && *needed == of(3)),
            "{refusal}"
        );
    }
}

/// What a site changes in its limits, given one.
type Change2 = fn(&mut PolicyLimits, super::super::limits::EpsilonLimit);

#[test]
fn training_on_the_same_data_counts_the_tables_too() {
    let study = document(&[NOISY]);
    let table = counts_event(study.study()).unwrap();
    let meter = EpsilonMeter::default();
    let both = StepCounts::of(&[table, super::task(&study).plan.step_event().unwrap()]);
    let delta = Delta::new(1e-5).unwrap();
    let needed = meter.epsilon(&both, delta, NeighboringRelation::Replace).unwrap();
    let policy = policy(|limits| limits.max_epsilon_replace = (needed.get() * 0.999).try_into().unwrap());
    let task = |charged: &[DpEvent]| super::ask(&policy, &study, charged).map(drop);
    assert!(task(&[]).is_ok());
    assert!(matches!(task(&[table]), Err(Refusal::BudgetExceeded { .. })));
}

#[test]
fn the_forecast_counts_the_tables_of_the_whole_study() {
    let study = document(&[
        NOISY,
        ("final_cohort = \"test\"", "final_cohort = \"test\"\nduring = \"val\"\nevery_rounds = 3"),
    ]);
    let all = counts_of(study.study(), |_| false).unwrap();
    assert_eq!((all.steps().get(), all.noise_multiplier().get()), (5, 5.0));
    let own = counts_of(study.study(), |cohort| cohort.as_str() == "test").unwrap();
    assert_eq!(own.steps().get(), 4);
    assert_eq!(counts_of(study.study(), |_| true), None);
    assert_eq!(counts_of(document(&[]).study(), |_| false), None);
    let meter = EpsilonMeter::default();
    let lines = lines(
        &Past::default(),
        &[event(1.5, 9), all].map(|event| (Released::PrivateSum, event)),
        &limits(),
        &meter,
    )
    .unwrap();
    let both = StepCounts::of(&[event(1.5, 9), all]);
    let delta = Delta::new(1e-5).unwrap();
    assert_eq!(lines[0].then, meter.epsilon(&both, delta, NeighboringRelation::Replace).unwrap());
}
