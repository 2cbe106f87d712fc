//! Limits per study and per year, and the budget's shortcut beside direct evaluation.

use fusiondp_dp::{ChargeRequest, Digest, Ledger, LedgerEntry, LedgerStore, Protection, Released, UpdateId};
use proptest::prelude::*;

use super::super::budget::YEAR_MS;
use super::super::limits::EpsilonLimit;
use super::*;

struct Accepting;

impl LedgerStore for Accepting {
    type Error = std::convert::Infallible;

    async fn append(&mut self, _: &[LedgerEntry]) -> Result<(), Self::Error> {
        Ok(())
    }
}

/// A ledger with one step per (time, study).
fn entries(charges: &[(u64, &str)]) -> Vec<LedgerEntry> {
    let charge = |&(time_ms, study): &(u64, &str)| ChargeRequest {
        time_ms,
        data_set: DATA.digest,
        study: study.to_owned(),
        study_digest: Digest::of(study.as_bytes()),
        round: 1,
        local_step: 1,
        event: event(1.5, 1),
        clip_norm: fusiondp_dp::ClipNorm::new(0.5).unwrap(),
        unit: "id".to_owned(),
        units: 40,
        model_digest: Digest::of(b"model"),
        update_id: UpdateId::from_bytes([7; 16]),
        released: Released::PrivateSum,
        protects: Protection::SensitiveValues,
    };
    ledger(charges.iter().map(charge).collect())
}

/// A ledger of these charges.
pub(super) fn ledger(charges: Vec<ChargeRequest>) -> Vec<LedgerEntry> {
    let mut ledger = Ledger::open(Vec::new()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(ledger.charge(charges, &mut Accepting)).unwrap();
    ledger.entries().to_vec()
}

fn steps(count: u64) -> StepCounts {
    let mut counts = StepCounts::default();
    if count > 0 {
        counts.add(&event(1.5, 1), count);
    }
    counts
}

fn epsilon(meter: &EpsilonMeter, counts: &StepCounts, relation: NeighboringRelation) -> f64 {
    meter.epsilon(counts, limits().delta, relation).unwrap().get()
}

#[test]
fn entries_count_for_their_study_their_data_and_their_year() {
    let ledger = entries(&[(0, "one"), (1, "one"), (5, "other"), (YEAR_MS + 9, "one")]);
    let past = |now_ms| Past::of(&ledger, DATA.digest, "one", now_ms);
    assert_eq!((past(9).data_set, past(9).study), (steps(4), steps(3)));
    // An entry of the future counts, so a clock that was set back buys nothing.
    assert_eq!(past(9).year, steps(4));
    // 365 days to the millisecond are a year still.
    assert_eq!([past(YEAR_MS).year, past(YEAR_MS + 1).year, past(YEAR_MS + 2).year], [4, 3, 2].map(steps));
    assert_eq!(past(YEAR_MS + 6).year, steps(1));
    assert_eq!(Past::of(&ledger, Digest::of(b"other data"), "one", 9), Past::default());
}

#[test]
fn a_years_window_has_no_new_year_at_which_twice_as_much_fits() {
    let meter = Arc::new(EpsilonMeter::default());
    let mut limits = limits();
    let two = epsilon(&meter, &steps(2), NeighboringRelation::Replace);
    limits.per_year.max_epsilon_replace = Some(two.try_into().unwrap());
    let mut budget = Budget::new(Arc::clone(&meter));
    let planned =
        Planned { released: Released::PrivateSum, event: event(1.5, 1), steps_now: 1, steps_to_the_end: 2 };
    let ledger = entries(&[(100, "one"), (200, "one")]);
    let mut at = |now_ms, ledger: &[LedgerEntry]| {
        budget.admit(&limits, &Past::of(ledger, DATA.digest, "one", now_ms), std::slice::from_ref(&planned))
    };
    assert!(at(150, &ledger[..1]).is_ok());
    let refusal = at(YEAR_MS + 100, &ledger).unwrap_err();
    assert!(matches!(refusal, Refusal::BudgetExceeded { scope: Scope::Year, .. }), "{refusal}");
    assert!(at(YEAR_MS + 101, &ledger).is_ok());
}

#[test]
fn what_another_study_charges_meanwhile_ends_a_proof() {
    let meter = Arc::new(EpsilonMeter::default());
    let mut limits = limits();
    let three = epsilon(&meter, &steps(3), NeighboringRelation::ZeroOut);
    limits.per_year.max_epsilon_zero_out = Some(three.try_into().unwrap());
    limits.per_study.max_epsilon_zero_out = Some(three.try_into().unwrap());
    let mut budget = Budget::new(Arc::clone(&meter));
    let planned = |left| Planned {
        released: Released::PrivateSum,
        event: event(1.5, 1),
        steps_now: 1,
        steps_to_the_end: left,
    };
    // The whole study is proven to fit.
    budget.admit(&limits, &Past::default(), &[planned(3)]).unwrap();
    let ledger = entries(&[(10, "one"), (11, "other"), (12, "other")]);
    let past = Past::of(&ledger, DATA.digest, "one", 20);
    let refusal = budget.admit(&limits, &past, &[planned(2)]).unwrap_err();
    assert!(matches!(refusal, Refusal::BudgetExceeded { scope: Scope::Year, .. }), "{refusal}");
    // Without the year's limit the study has its own room.
    limits.per_year = Default::default();
    budget.admit(&limits, &past, &[planned(2)]).unwrap();
}

#[test]
fn one_studys_limit_does_not_count_what_others_spent() {
    let meter = Arc::new(EpsilonMeter::default());
    let mut limits = limits();
    let two = epsilon(&meter, &steps(2), NeighboringRelation::Replace);
    limits.per_study.max_epsilon_replace = Some(two.try_into().unwrap());
    let mut budget = Budget::new(meter);
    let planned =
        Planned { released: Released::PrivateSum, event: event(1.5, 1), steps_now: 1, steps_to_the_end: 1 };
    let ledger = entries(&[(1, "one"), (2, "one"), (3, "other")]);
    let mut of = |study| {
        budget.admit(&limits, &Past::of(&ledger, DATA.digest, study, 9), std::slice::from_ref(&planned))
    };
    assert!(of("other").is_ok());
    assert!(matches!(of("one"), Err(Refusal::BudgetExceeded { scope: Scope::Study, .. })));
}

#[test]
fn a_forecast_is_no_lower_than_the_plan_of_more_sites() {
    use super::super::forecast::Forecast;
    let meter = EpsilonMeter::default();
    for (target, relation) in [(1.0, "replace"), (0.5, "zero_out")] {
        let edit = format!("{{ epsilon = {target:?}, relation = \"{relation}\" }}");
        let study = document(&[("{ noise_multiplier = 1.5 }", &edit)]);
        let forecast =
            Forecast::of(study.study(), 40, (&Past::default(), None), &limits(), &meter).unwrap().unwrap();
        for sites in [1, 2, 3, 5, 8] {
            let size =
                |site: usize| SiteSize { site: format!("s{site}").parse().unwrap(), units: 40, records: 40 };
            let plan = Plan::derive(&study, &(0..sites).map(size).collect::<Vec<_>>()).unwrap();
            // The calibration is to a relative 1e-4.
            for (shown, planned) in [
                (forecast.study.replace, plan.epsilon_replace),
                (forecast.study.zero_out, plan.epsilon_zero_out),
            ] {
                assert!(shown.get() >= planned.get() * 0.999, "{relation}, {sites} sites: {shown} {planned}");
            }
        }
    }
    assert!(
        Forecast::of(
            document(&[("mode = \"fusiondp\"\nwarmup_rounds = 1", "mode = \"hybrid-only\""),]).study(),
            40,
            (&Past::default(), None),
            &limits(),
            &meter
        )
        .unwrap()
        .is_none()
    );
}

/// One thing that happens to a site.
#[derive(Debug, Clone)]
struct Happening {
    /// Study that asks, of three.
    study: usize,
    /// Noise of its steps, of two.
    noise: usize,
    /// Steps that the task charges.
    now: u64,
    /// Steps to the end, with these.
    whole: u64,
    /// Days that pass before.
    days: u64,
    /// Which limits are in force, of two.
    limits: usize,
}

fn happening() -> impl Strategy<Value = Happening> {
    (0..3_usize, 0..2_usize, 1..4_u64, 0..12_u64, 0..160_u64, 0..8_usize).prop_map(
        |(study, noise, now, more, days, limits)| Happening {
            study,
            noise,
            now,
            whole: now + more,
            days,
            limits: usize::from(limits == 0),
        },
    )
}

/// Limits that some steps of these kinds fit into and many do not.
fn tight(meter: &EpsilonMeter, data: u64, study: u64, year: u64) -> PolicyLimits {
    let limit = |count, relation| Some(epsilon(meter, &steps(count), relation).try_into().unwrap());
    let both = |count| super::super::limits::EpsilonLimits {
        max_epsilon_replace: limit(count, NeighboringRelation::Replace),
        max_epsilon_zero_out: limit(count, NeighboringRelation::ZeroOut),
    };
    PolicyLimits {
        max_epsilon_replace: limit(data, NeighboringRelation::Replace).unwrap(),
        per_study: both(study),
        per_year: both(year),
        ..limits()
    }
}

/// Evaluates every scope from nothing.
fn directly(meter: &EpsilonMeter, limits: &PolicyLimits, past: &Past, planned: &Planned) -> bool {
    Scope::ALL.into_iter().all(|scope| {
        NeighboringRelation::ALL.into_iter().all(|relation| {
            let mut counts = past.in_scope(scope).clone();
            counts.add(&planned.event, planned.steps_now);
            let needed = meter.epsilon(&counts, limits.delta, relation).unwrap();
            limits.max_epsilon(scope, relation).is_none_or(|limit| needed <= limit)
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Over random studies, days and changes of the limits, the shortcut says what an evaluation from nothing says.
    #[test]
    fn the_shortcut_says_what_a_direct_evaluation_says(
        happenings in proptest::collection::vec(happening(), 1..40),
        (data, study, year) in (10..40_u64, 4..12_u64, 6..20_u64),
    ) {
        let meter = Arc::new(EpsilonMeter::default());
        let limits = [tight(&meter, data, study, year), tight(&meter, data / 2, study / 2, year / 2)];
        let mut budget = Budget::new(Arc::clone(&meter));
        // (time, study, event, steps) of what was admitted.
        let mut charged: Vec<(u64, usize, DpEvent, u64)> = Vec::new();
        let mut now_ms = NOW_MS;
        for one in happenings {
            now_ms += one.days * 24 * 3600 * 1000;
            let mut past = Past::default();
            for (time_ms, study, event, steps) in &charged {
                past.data_set.add(event, *steps);
                if *study == one.study {
                    past.study.add(event, *steps);
                }
                if now_ms - time_ms <= YEAR_MS {
                    past.year.add(event, *steps);
                }
            }
            let event = event([1.5, 2.5][one.noise], 1);
            let planned = Planned { released: Released::PrivateSum, event, steps_now: one.now, steps_to_the_end: one.whole };
            let limits = &limits[one.limits];
            let admitted = budget.admit(limits, &past, std::slice::from_ref(&planned)).is_ok();
            prop_assert_eq!(admitted, directly(&meter, limits, &past, &planned));
            if admitted {
                charged.push((now_ms, one.study, event, one.now));
            }
        }
    }
}

/// A budget without an end is no budget.
#[test]
fn a_limit_is_a_finite_number_from_zero_on() {
    for value in [f64::INFINITY, f64::NAN, -1.0] {
        let refused = EpsilonLimit::try_from(value).unwrap_err();
        assert!(refused.contains("a finite number >= 0"), "{value}: {refused}");
    }
    assert_eq!(EpsilonLimit::try_from(0.5).unwrap().get().get(), 0.5);
}
