//! The second tier of a plan.

use fusiondp_dp::{StepCounts, epsilon_of_steps};

use super::*;
use crate::testing::RECORDS;

type Lie = fn(&mut RecordsPlan);

fn records_plan() -> Plan {
    Plan::derive(&document(RECORDS), &sizes(&[1000, 600])).unwrap()
}

/// What whole records lose by all charges of a site, counted round by round.
fn counted(plan: &Plan, relation: NeighboringRelation) -> f64 {
    let releases = (1..=plan.rounds).flat_map(|round| plan.releases(round));
    let events: Vec<DpEvent> = releases.map(|release| release.event).collect();
    epsilon_of_steps(&StepCounts::of(&events), plan.delta, relation).unwrap().get()
}

#[test]
fn the_target_is_that_of_both_parts_together() {
    let plan = records_plan();
    let records = plan.records.as_ref().unwrap();
    assert_eq!(records.sampling_probability.get(), 24.0 / 1600.0);
    assert_eq!((records.clip_norm.get(), records.public_rounds), (0.5, 10));
    let spent = records.epsilon_replace.get();
    assert!(spent <= 4.0 && spent > 3.95, "{spent}");
    assert_eq!(counted(&plan, NeighboringRelation::Replace), spent);
    assert_eq!(counted(&plan, NeighboringRelation::ZeroOut), records.epsilon_zero_out.get());
    // What sensitive values lose does not depend on the second tier.
    assert_eq!(plan.epsilon_replace, super::plan().epsilon_replace);
    plan.verify(&document(RECORDS), &own()).unwrap();
    assert_ne!(plan.digest(), Plan { records: None, ..plan.clone() }.digest());
}

#[test]
fn every_round_releases_what_the_study_says() {
    let plan = records_plan();
    let of = |round| plan.releases(round).into_iter().map(|one| one.released).collect::<Vec<_>>();
    assert_eq!(of(1), [Released::PublicSum]);
    assert_eq!(of(3), [Released::PrivateSum, Released::PublicSum]);
    assert!(of(11).is_empty());
    assert_eq!(plan.kinds().len(), 2);
    let phases =
        [RECORDS, &[("consistency_weight = 0.5", "private_loss = \"direct\"\npublic_rounds = \"warmup\"")]];
    let document = document(&phases.concat());
    let plan = Plan::derive(&document, &sizes(&[1000, 600])).unwrap();
    let of = |round| plan.releases(round).into_iter().map(|one| one.released).collect::<Vec<_>>();
    assert_eq!((of(2), of(3)), (vec![Released::PublicSum], vec![Released::PrivateSum]));
    assert_eq!(plan.kinds().len(), 2);
    assert_eq!((document.study().noised_sums(2), document.study().noised_sums(3)), (1, 1));
    plan.verify(&document, &own()).unwrap();
}

#[test]
fn every_changed_figure_of_the_second_tier_is_noticed() {
    let lies: [(&str, Lie); 5] = [
        ("records.clip_norm", |records| records.clip_norm = ClipNorm::new(0.4).unwrap()),
        ("records.public_rounds", |records| records.public_rounds = 9),
        ("records.sampling_probability", |records| {
            records.sampling_probability = SamplingProbability::new(0.01).unwrap();
        }),
        ("records.epsilon_replace", |records| records.noise_multiplier = noise(0.5)),
        ("records.epsilon_zero_out", |records| records.epsilon_zero_out = Epsilon::new(0.1).unwrap()),
    ];
    for (field, lie) in lies {
        let mut plan = records_plan();
        lie(plan.records.as_mut().unwrap());
        assert_field(plan.verify(&document(RECORDS), &own()), field);
    }
    let without = Plan { records: None, ..records_plan() };
    assert_field(without.verify(&document(RECORDS), &own()), "records");
    let unasked = Plan { records: records_plan().records, ..super::plan() };
    assert_field(unasked.verify(&document(&[]), &own()), "records");
    // Honest figures of too little noise are above the target.
    let mut loud = records_plan();
    loud.records.as_mut().unwrap().noise_multiplier = noise(0.3);
    let figure = |relation| Epsilon::new(counted(&loud, relation)).unwrap();
    let (replace, zero_out) = (figure(NeighboringRelation::Replace), figure(NeighboringRelation::ZeroOut));
    let records = loud.records.as_mut().unwrap();
    (records.epsilon_replace, records.epsilon_zero_out) = (replace, zero_out);
    assert!(replace.get() > 4.0, "{replace}");
    let refused = loud.verify(&document(RECORDS), &own()).unwrap_err();
    assert!(matches!(refused, PlanMismatch::AboveTarget { .. }), "{refused}");
}

#[test]
fn an_epsilon_that_the_private_part_alone_exceeds_cannot_be_met() {
    let low = [RECORDS, &[("epsilon = 4.0", "epsilon = 0.9")]].concat();
    let error = Plan::derive(&document(&low), &sizes(&[1000, 600])).unwrap_err();
    assert!(matches!(error, PlanError::Accountant(AccountantError::UnreachableTarget { .. })), "{error}");
}
