//! The second budget: whole records.

use fusiondp_dp::{ChargeRequest, Protection, Released};

use super::*;
use crate::testing::RECORDS;

fn limited(replace: f64, zero_out: f64) -> Policy {
    policy(|limits| {
        limits.records = Some(limits::RecordLimits {
            max_epsilon_replace: replace.try_into().unwrap(),
            max_epsilon_zero_out: zero_out.try_into().unwrap(),
        });
    })
}

fn charges(
    policy: &Policy,
    document: &StudyDocument,
    round: u32,
    past: &Past,
) -> Result<Vec<ChargeRequest>, Refusal> {
    let task = TrainingTask { round, private_part: round > 1, ..task(document) };
    let request = ReleaseRequest { document, task: &task, data: DATA, units: 40 };
    let permit = policy.permit_release(&request, &[], past, &mut Budget::new(Arc::default()))?;
    Ok(permit.into_charges(NOW_MS, fusiondp_dp::UpdateId::from_bytes([1; 16])))
}

#[test]
fn both_parts_are_charged_and_warm_up_rounds_too() {
    let study = document(RECORDS);
    let of = |round| {
        let charges = charges(&policy(|_| {}), &study, round, &Past::default()).unwrap();
        assert!(charges.iter().all(|charge| charge.protects == Protection::WholeRecords));
        charges.into_iter().map(|charge| (charge.released, charge.clip_norm.get())).collect::<Vec<_>>()
    };
    assert_eq!(of(1), [(Released::PublicSum, 0.25)]);
    assert_eq!(of(2), [(Released::PrivateSum, 0.5), (Released::PublicSum, 0.25)]);
}

#[test]
fn public_sums_need_a_budget_where_gradients_may_not_leave_in_the_clear() {
    let (clear, noised) = (document(&[]), document(RECORDS));
    let closed = policy(|limits| limits.allow_public_gradient = false);
    // Or a study with next to no noise would open what the site has closed.
    let quiet = [RECORDS, &[("{ noise_multiplier = 2.0 }", "{ noise_multiplier = 0.001 }")]].concat();
    for study in [&noised, &document(&quiet)] {
        assert_eq!(closed.check_study(study.study(), 40), Err(Refusal::NoisedPublicGradient));
        assert_eq!(closed.check_public(study.study(), 40), Err(Refusal::NoisedPublicGradient));
        assert!(matches!(charges(&closed, study, 2, &Past::default()), Err(Refusal::NoisedPublicGradient)));
    }
    let strict = policy(|limits| {
        limits.allow_public_gradient = false;
        limits.records = limited(100.0, 100.0).limits().records;
    });
    let refused = charges(&strict, &document(&quiet), 2, &Past::default());
    assert!(matches!(refused, Err(Refusal::BudgetExceeded { scope: Scope::Records, .. })));
    assert!(charges(&strict, &noised, 2, &Past::default()).is_ok());
    assert_eq!(strict.check_public(noised.study(), 40), Ok(()));
    assert_eq!(strict.check_study(clear.study(), 40), Err(Refusal::PublicGradient));
    // Whatever the site permits otherwise.
    assert_eq!(policy(|_| {}).permit_public(noised.study(), 40).err(), Some(Refusal::PublicGradient));
}

#[test]
fn a_budget_for_whole_records_refuses_studies_that_do_not_protect_them() {
    let policy = limited(100.0, 100.0);
    let refusal = policy.check_study(document(&[]).study(), 40).unwrap_err();
    assert_eq!(refusal, Refusal::RecordsUnprotected);
    assert!(refusal.told().contains("[privacy.records]"), "{refusal}");
    assert_eq!(policy.permit_public(document(&[]).study(), 40).err(), Some(Refusal::RecordsUnprotected));
    assert_eq!(policy.check_study(document(RECORDS).study(), 40), Ok(()));
    // A study without a public part protects them as it is, unless metrics leave in the clear.
    assert_eq!(policy.check_study(document(DP_SGD).study(), 40), Err(Refusal::RecordsUnprotected));
    let silent =
        [DP_SGD, &[("release = \"summary\"\nfinal_cohort = \"test\"", "release = \"none\"")]].concat();
    assert_eq!(policy.check_study(document(&silent).study(), 40), Ok(()));
}

#[test]
fn either_budget_ends_the_study() {
    let study = document(RECORDS);
    let refused = |policy: &Policy| match charges(policy, &study, 2, &Past::default()) {
        Err(Refusal::BudgetExceeded { scope, .. }) => scope,
        other => panic!("{:?}", other.map(|charges| charges.len())),
    };
    assert_eq!(refused(&limited(0.1, 100.0)), Scope::Records);
    assert_eq!(refused(&limited(100.0, 0.1)), Scope::Records);
    // Whole records lose by both parts: what one of them costs does not suffice for both.
    let plan = task(&study).plan;
    let meter = EpsilonMeter::default();
    let alone = |index: usize| {
        let steps = StepCounts::of(&[plan.releases(2)[index].event]);
        meter.epsilon(&steps, plan.delta, NeighboringRelation::Replace).unwrap().get()
    };
    assert_eq!(refused(&limited(alone(0).max(alone(1)), 100.0)), Scope::Records);
    assert!(charges(&limited(100.0, 100.0), &study, 2, &Past::default()).is_ok());
    // Public sums cost sensitive values nothing.
    let sensitive = policy(|limits| limits.max_epsilon_replace = (alone(0) * 1.000_001).try_into().unwrap());
    assert!(charges(&sensitive, &study, 2, &Past::default()).is_ok());
    assert!(charges(&sensitive, &study, 1, &Past::default()).is_ok());
}

#[test]
fn data_that_a_study_without_the_second_tier_has_seen_has_no_budget_left() {
    let (study, policy) = (document(RECORDS), limited(100.0, 100.0));
    let request = |protects| ChargeRequest {
        protects,
        study: "earlier".to_owned(),
        unit: "id".to_owned(),
        ..charges(&super::policy(|_| {}), &study, 2, &Past::default()).unwrap().remove(0)
    };
    let declared = DataIdentity { declared: true, ..DATA };
    let check = |protects| {
        let ledger = super::budget::ledger(vec![request(protects)]);
        policy.check_data(&ledger, declared, study.study())
    };
    assert_eq!(check(Protection::WholeRecords), Ok(()));
    let refusal = check(Protection::SensitiveValues).unwrap_err();
    assert_eq!(refusal, Refusal::RecordsLost { study: "earlier".to_owned() });
    assert!(!refusal.told().contains("earlier"), "{}", refusal.told());
}

#[test]
fn a_loss_without_a_bound_is_shown_as_none() {
    let ledger = |protects| {
        let study = document(RECORDS);
        let mut charges = charges(&policy(|_| {}), &study, 2, &Past::default()).unwrap();
        charges.iter_mut().for_each(|charge| charge.protects = protects);
        super::budget::ledger(charges)
    };
    let lines = |protects, limits: &PolicyLimits| {
        let past = Past::of(&ledger(protects), DATA.digest, "one", NOW_MS);
        let lines = forecast::lines(&past, &[], limits, &EpsilonMeter::default()).unwrap();
        let of_records = lines.into_iter().filter(|line| line.scope == Scope::Records);
        of_records.map(|line| line.spent.get()).collect::<Vec<_>>()
    };
    let open = limits();
    assert!(lines(Protection::WholeRecords, &open).iter().all(|spent| spent.is_finite() && *spent > 0.0));
    assert_eq!(lines(Protection::WholeRecords, &open).len(), 2);
    // Nobody asked, and there is nothing to say; but a site with a limit is told.
    assert!(lines(Protection::SensitiveValues, &open).is_empty());
    let limited = limited(5.0, 5.0).limits().clone();
    assert_eq!(lines(Protection::SensitiveValues, &limited), [f64::INFINITY; 2]);
}
