#![allow(clippy::unwrap_used)]

use super::*;

const ADAM: OptimizerSpec =
    OptimizerSpec::Adam { learning_rate: 0.1, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.01 };
const MOMENTUM: OptimizerSpec =
    OptimizerSpec::Momentum { learning_rate: 0.1, momentum: 0.9, weight_decay: 0.0 };
const SGD: OptimizerSpec = OptimizerSpec::Sgd { learning_rate: 0.1, weight_decay: 0.5 };

fn near(found: f32, expected: f64) {
    assert!((f64::from(found) - expected).abs() < 1e-6, "{found} against {expected}");
}

#[test]
fn sgd_shrinks_and_steps() {
    let mut params = [1.0];
    Optimizer::new(&SGD, 1).unwrap().step(&mut params, &[2.0], 0.5).unwrap();
    near(params[0], 1.0 - 0.05 * 0.5 - 0.05 * 2.0);
}

#[test]
fn momentum_accumulates_velocity() {
    let mut optimizer = Optimizer::new(&MOMENTUM, 1).unwrap();
    let mut params = [0.0];
    optimizer.step(&mut params, &[1.0], 1.0).unwrap();
    optimizer.step(&mut params, &[1.0], 1.0).unwrap();
    near(params[0], -(0.1 + 0.19));
}

#[test]
fn adam_follows_its_algorithm_by_hand() {
    let mut optimizer = Optimizer::new(&ADAM, 1).unwrap();
    let mut params = [0.5];
    let (mut p, mut m, mut v) = (0.5_f64, 0.0_f64, 0.0_f64);
    for (t, g) in [0.3_f64, -0.2, 1.5, 0.0].into_iter().enumerate() {
        optimizer.step(&mut params, &[g as f32], 1.0).unwrap();
        let t = t as i32 + 1;
        p *= 1.0 - 0.1 * 0.01;
        m = 0.9 * m + 0.1 * g;
        v = 0.999 * v + 0.001 * g * g;
        p -= 0.1 * (m / (1.0 - 0.9_f64.powi(t))) / ((v / (1.0 - 0.999_f64.powi(t))).sqrt() + 1e-8);
        near(params[0], p);
    }
}

#[test]
fn a_restored_optimizer_continues_with_the_same_bits() {
    for spec in [SGD, MOMENTUM, ADAM] {
        let mut optimizer = Optimizer::new(&spec, 3).unwrap();
        let mut params = [0.1, -0.2, 0.3];
        optimizer.step(&mut params, &[0.5, 0.1, -0.7], 1.0).unwrap();
        let mut restored = Optimizer::from_bytes(&spec, &optimizer.to_bytes()).unwrap();
        assert_eq!(restored, optimizer);
        let mut again = params;
        optimizer.step(&mut params, &[0.2, 0.3, 0.4], 0.9).unwrap();
        restored.step(&mut again, &[0.2, 0.3, 0.4], 0.9).unwrap();
        assert_eq!(params, again);
    }
}

#[test]
fn damaged_or_foreign_states_are_errors() {
    let bytes = Optimizer::new(&ADAM, 3).unwrap().to_bytes();
    assert!(Optimizer::from_bytes(&MOMENTUM, &bytes).is_err());
    for end in 0..bytes.len() {
        assert!(Optimizer::from_bytes(&ADAM, &bytes[..end]).is_err(), "{end} bytes");
    }
    let longer = [&bytes[..], &[0]].concat();
    let error = Optimizer::from_bytes(&ADAM, &longer).unwrap_err();
    assert_eq!(error, OptimizerError::State(CodecError::Trailing { extra: 1 }));
    let mut huge = bytes.clone();
    huge[28..36].fill(0xff);
    assert!(Optimizer::from_bytes(&ADAM, &huge).is_err());
}

#[test]
fn a_refused_step_changes_nothing() {
    let mut optimizer = Optimizer::new(&ADAM, 2).unwrap();
    let before = optimizer.clone();
    let mut params = [1.0, 2.0];
    assert!(optimizer.step(&mut params, &[1.0], 1.0).is_err());
    assert_eq!(params, [1.0, 2.0]);
    assert_eq!(optimizer, before);
}

#[test]
fn settings_have_defaults_and_ranges() {
    let spec: OptimizerSpec = toml::from_str("kind = \"adam\"\nlearning_rate = 0.003").unwrap();
    let OptimizerSpec::Adam { beta1, beta2, epsilon, weight_decay, .. } = spec else { panic!("{spec:?}") };
    assert_eq!((beta1, beta2, epsilon, weight_decay), (0.9, 0.999, 1e-8, 0.0));
    assert!(toml::from_str::<OptimizerSpec>("kind = \"sgd\"\nlearning_rate = 1.0\nmomentum = 0.9").is_err());
    for text in ["learning_rate = 0.0", "learning_rate = nan", "learning_rate = 1.0\nmomentum = 1.0"] {
        let spec: OptimizerSpec = toml::from_str(&format!("kind = \"momentum\"\n{text}")).unwrap();
        assert!(spec.validate().is_err(), "{text}");
    }
    let error = OptimizerSpec::Sgd { learning_rate: 1.0, weight_decay: -0.5 }.validate().unwrap_err();
    assert_eq!(error.to_string(), "weight_decay is -0.5: it must be finite and at least 0");
}

#[test]
fn schedules_start_at_one_and_fall() {
    for schedule in [Schedule::Linear, Schedule::Cosine] {
        assert_eq!(schedule.factor(1, 100), 1.0);
        assert!(schedule.factor(100, 100) > 0.0);
        assert!(schedule.factor(101, 100).abs() < 1e-15);
        assert!((schedule.factor(51, 100) - 0.5).abs() < 1e-12);
        assert!((1..100).all(|r| schedule.factor(r, 100) > schedule.factor(r + 1, 100)));
    }
    assert_eq!(Schedule::Constant.factor(7, 9), 1.0);
}

#[test]
fn averages_are_what_they_say() {
    let run = |averaging| {
        let mut averager = Averager::new(averaging, 1).unwrap();
        for round in 1..=4 {
            averager.add(&[round as f32], round, 4).unwrap();
        }
        averager.average()
    };
    assert_eq!(run(Averaging::None {}), None);
    assert_eq!(run(Averaging::Tail { from: 0.5 }), Some(vec![3.5]));
    assert_eq!(run(Averaging::Tail { from: 0.0 }), Some(vec![2.5]));
    let ema = (0.125 * 1.0 + 0.25 * 2.0 + 0.5 * 3.0 + 4.0) / 1.875;
    near(run(Averaging::Ema { decay: 0.5 }).unwrap()[0], ema);
    assert!(Averager::new(Averaging::Ema { decay: 1.0 }, 1).is_err());
}

#[test]
fn a_restored_averager_is_equal() {
    let averaging = Averaging::Ema { decay: 0.9 };
    let mut averager = Averager::new(averaging, 2).unwrap();
    averager.add(&[0.1, 0.7], 1, 5).unwrap();
    assert_eq!(Averager::from_bytes(averaging, 2, &averager.to_bytes()).unwrap(), averager);
    assert!(Averager::from_bytes(averaging, 3, &averager.to_bytes()).is_err());
    assert!(Averager::from_bytes(Averaging::None {}, 2, &averager.to_bytes()).is_err());
}
