#![allow(clippy::unwrap_used)]

use super::*;

const RELATION: NeighboringRelation = NeighboringRelation::Replace;

fn goal(target: f64, delta: f64) -> (Epsilon, Delta) {
    (Epsilon::new(target).unwrap(), Delta::new(delta).unwrap())
}

fn rate(q: f64) -> SamplingProbability {
    SamplingProbability::new(q).unwrap()
}

fn calibrate(target: f64, delta: f64, q: f64, steps: u32) -> Result<NoiseMultiplier, AccountantError> {
    let (target, delta) = goal(target, delta);
    calibrate_noise(target, delta, RELATION, rate(q), NonZeroU32::new(steps).unwrap())
}

fn spent(noise: f64, delta: f64, q: f64, steps: u32) -> f64 {
    let event = DpEvent::PoissonSampledGaussian {
        noise_multiplier: NoiseMultiplier::new(noise).unwrap(),
        sampling_probability: SamplingProbability::new(q).unwrap(),
        steps: NonZeroU32::new(steps).unwrap(),
    };
    crate::epsilon(&[event], Delta::new(delta).unwrap(), RELATION).unwrap().get()
}

#[test]
fn the_target_is_met_and_less_noise_would_not_do() {
    for (target, delta, q, steps) in
        [(1.0, 1e-5, 0.07, 400), (0.01, 1e-8, 0.001, 10), (30.0, 1e-6, 1.0, 100), (3.0, 1e-5, 0.5, 1)]
    {
        let noise = calibrate(target, delta, q, steps).unwrap().get();
        assert!(spent(noise, delta, q, steps) <= target);
        // More than one tolerance, as the bound itself moves by about 0.01 % with its interval.
        assert!(spent(noise * (1.0 - 5e-4), delta, q, steps) > target, "{target} {noise}");
    }
}

/// Trials until the bracket is narrow.
fn trials<P>(mut bracket: Bracket<P>, mut trial: impl FnMut(f64) -> Trial<P>) -> u32 {
    let mut count = 0;
    while bracket.width() > TOLERANCE && count < 100 {
        bracket.narrow(trial(bracket.next_guess()));
        count += 1;
    }
    count
}

/// With a large delta the target's end of the bracket has epsilon zero, so no line leads through it.
#[test]
fn few_trials_suffice_also_where_epsilon_falls_to_zero_at_once() {
    for (target, delta, q, steps) in
        [(0.01, 0.2, 0.5, 1), (0.01, 0.1, 1.0, 1), (1.0, 1e-5, 0.07, 400), (30.0, 1e-6, 1.0, 100)]
    {
        let event = |log: f64| {
            let noise_multiplier = NoiseMultiplier::new(log.exp()).unwrap();
            let steps = NonZeroU32::new(steps).unwrap();
            let sampling_probability = rate(q);
            Ok(((), DpEvent::PoissonSampledGaussian { noise_multiplier, sampling_probability, steps }))
        };
        let (target_epsilon, delta) = goal(target, delta);
        let mut calibration =
            Calibration::new((target_epsilon, delta, RELATION), LOG_MULTIPLIERS, event).unwrap();
        let Start::Between(bracket) = calibration.start().unwrap() else { panic!("no bracket") };
        let count = trials(bracket, |at| calibration.trial(at).unwrap());
        assert!(count <= 20, "{target} {delta} {q} {steps}: {count} trials");
    }
}

/// Whatever the curve looks like: here a cliff, seen as steep from above, flat from below, or both.
#[test]
fn every_third_trial_at_least_halves_the_bracket() {
    for (above, below) in [(1e-3, -1e3), (1e3, -1e-3), (1.0, -1.0), (f64::INFINITY, -1.0)] {
        for cliff in [0.01, 0.3, 0.68] {
            let trial = |at: f64| Trial { at, parameter: (), excess: if at < cliff { above } else { below } };
            let bracket = Bracket::new(trial(0.0), trial(std::f64::consts::LN_2));
            let count = trials(bracket, trial);
            assert!(count <= 3 * 13, "{above} {below} {cliff}: {count} trials");
        }
    }
}

#[test]
fn what_cannot_be_calibrated_is_an_error() {
    assert_eq!(calibrate(f64::INFINITY, 1e-5, 0.1, 1), Err(AccountantError::UnboundedTarget));
    let unreachable = calibrate(1e-7, 1e-12, 1.0, u32::MAX);
    assert!(matches!(unreachable, Err(AccountantError::UnreachableTarget { .. })), "{unreachable:?}");
}

#[test]
fn a_loose_target_takes_the_least_noise_that_a_step_accepts() {
    assert_eq!(calibrate(1.0, 0.5, 1e-6, 1).unwrap().get(), 1.0 / 1024.0);
}

#[test]
fn the_largest_rate_meets_the_target_and_a_larger_one_does_not() {
    for (target, delta, noise, steps) in [(1.0, 1e-5, 1.5, 400), (0.2, 1e-7, 5.0, 30), (8.0, 1e-6, 0.8, 100)]
    {
        let (epsilon, bound) = goal(target, delta);
        let (multiplier, count) = (NoiseMultiplier::new(noise).unwrap(), NonZeroU32::new(steps).unwrap());
        let q = calibrate_rate(epsilon, bound, RELATION, multiplier, count).unwrap().get();
        assert!(spent(noise, delta, q, steps) <= target);
        assert!(spent(noise, delta, (q * (1.0 + 1e-3)).min(1.0), steps) > target, "{target} {q}");
    }
    let (epsilon, bound) = goal(50.0, 1e-5);
    let (multiplier, count) = (NoiseMultiplier::new(10.0).unwrap(), NonZeroU32::MIN);
    assert_eq!(calibrate_rate(epsilon, bound, RELATION, multiplier, count).unwrap().get(), 1.0);
}

#[test]
fn one_step_more_than_the_most_is_too_many() {
    for (target, delta, noise, q) in [(1.0, 1e-5, 1.5, 0.01), (0.5, 1e-7, 8.0, 0.2), (3.0, 1e-6, 20.0, 1.0)] {
        let (epsilon, bound) = goal(target, delta);
        let multiplier = NoiseMultiplier::new(noise).unwrap();
        let steps = calibrate_steps(epsilon, bound, RELATION, multiplier, rate(q)).unwrap().get();
        assert!(spent(noise, delta, q, steps) <= target, "{target} {steps}");
        assert!(spent(noise, delta, q, steps + 1) > target, "{target} {steps}");
    }
    let (epsilon, bound) = goal(0.01, 1e-5);
    let refused = calibrate_steps(epsilon, bound, RELATION, NoiseMultiplier::new(1.0).unwrap(), rate(1.0));
    assert_eq!(refused, Err(AccountantError::UnreachableBySteps { target: 0.01 }));
}

#[test]
fn noise_beside_other_releases_leaves_them_room() {
    let (target, delta) = goal(1.0, 1e-5);
    let others = DpEvent::PoissonSampledGaussian {
        noise_multiplier: NoiseMultiplier::new(8.0).unwrap(),
        sampling_probability: rate(1.0),
        steps: NonZeroU32::MIN,
    };
    let (others, steps) = (StepCounts::of(&[others]), NonZeroU32::new(100).unwrap());
    let alone = calibrate_noise(target, delta, RELATION, rate(0.05), steps).unwrap();
    let beside = calibrate_noise_beside(&others, target, delta, RELATION, rate(0.05), steps).unwrap();
    assert!(beside > alone, "{beside:?} {alone:?}");
    let spent = |noise: NoiseMultiplier| {
        let event = DpEvent::PoissonSampledGaussian {
            noise_multiplier: noise,
            sampling_probability: rate(0.05),
            steps,
        };
        let mut all = StepCounts::of(&[event]);
        all.extend(&others);
        crate::epsilon_of_steps(&all, delta, RELATION).unwrap()
    };
    assert!(spent(beside) <= target);
    assert!(spent(NoiseMultiplier::new(beside.get() * (1.0 - 5e-4)).unwrap()) > target);
    let none = StepCounts::default();
    assert_eq!(calibrate_noise_beside(&none, target, delta, RELATION, rate(0.05), steps).unwrap(), alone);
    // The others alone cost more than this.
    let (tight, delta) = goal(0.1, 1e-5);
    let error = calibrate_noise_beside(&others, tight, delta, RELATION, rate(0.05), steps).unwrap_err();
    assert!(matches!(error, AccountantError::UnreachableTarget { .. }), "{error}");
}
