#![allow(clippy::unwrap_used)]

use super::*;
use std::collections::BTreeMap;

use crate::model::{HeadFeature, HeadGradient, InputShape, ModelSpec};
use crate::optimiser::{Averaging, OptimizerSpec, Schedule};

const SCALE: PrivateScale = PrivateScale { grid_step: 0.25, sampling_probability: 0.5, noise_deviation: 1.0 };

fn linear() -> Model {
    Model::new(&ModelSpec::Linear {}, InputShape { dense: 2, bins: Vec::new() }).unwrap()
}

fn split(head_gradient: HeadGradient) -> Model {
    let spec = ModelSpec::Split {
        widths: vec![],
        layer_norm: false,
        dropout: 0.0,
        members: 1,
        head_gradient,
        head: BTreeMap::new(),
    };
    Model::new(&spec, InputShape { dense: 1, bins: vec![HeadFeature::new(2)] }).unwrap()
}

fn settings() -> ServerSettings {
    ServerSettings {
        optimizer: OptimizerSpec::Sgd { learning_rate: 1.0, weight_decay: 0.0 },
        private_optimizer: None,
        posterior: None,
        schedule: Schedule::Constant,
        averaging: Averaging::None {},
        private_directions: None,
        calibration_weight: 2.0,
        max_weight_norm: None,
        rounds: 3,
    }
}

fn site(units: u64, records: u64, public: &[f32], private: Option<&[i64]>) -> SiteContribution {
    SiteContribution {
        units,
        records,
        public_gradient: public.to_vec(),
        private_sum: private.map(<[i64]>::to_vec),
    }
}

#[test]
fn a_step_is_the_weighted_public_mean_plus_the_calibrated_private_mean() {
    let mut state = ServerState::new(&linear(), settings(), vec![0.0; 3]).unwrap();
    let contributions = [
        site(10, 1, &[1.0, 0.0, 0.0], Some(&[4, 0, -8])),
        site(30, 3, &[0.0, 2.0, 0.0], Some(&[-2, 0, -32])),
    ];
    state.apply_gradients(1, &contributions, &SCALE).unwrap();
    // Public: (1/4, 6/4, 0). Private: (2, 0, -40) * 0.25 / (0.5 * 40), times alpha = 2.
    let expected = [0.25 + 0.05, 1.5, -1.0].map(|g: f32| -g);
    for (p, e) in state.parameters().iter().zip(expected) {
        assert!((p - e).abs() < 1e-6, "{p} against {e}");
    }
    assert_eq!(state.rounds_applied(), 1);
}

#[test]
fn the_order_of_contributions_does_not_show_in_the_bits() {
    // Values that cancel: a floating-point sum in the order of arrival would depend on that order.
    let values = [1e25_f32, 1.0, -1e25, 3.0, 7e24, -7e24];
    let mut contributions: Vec<SiteContribution> = (0_i64..)
        .zip(values)
        .map(|(k, x)| site(7, 5, &[x, -x * 0.3, 0.1 + x], Some(&[k * 991, i64::MAX / 2, -3])))
        .collect();
    let run = |contributions: &[SiteContribution]| {
        let mut state = ServerState::new(&linear(), settings(), vec![0.1, 0.2, 0.3]).unwrap();
        state.apply_gradients(1, contributions, &SCALE).unwrap();
        state
    };
    let expected = run(&contributions);
    for _ in 0..6 {
        contributions.rotate_left(1);
        assert_eq!(run(&contributions), expected);
        contributions.swap(1, 4);
        assert_eq!(run(&contributions), expected);
    }
}

#[test]
fn a_private_head_has_its_own_optimizer_and_rests_in_warm_up() {
    let mut settings = settings();
    settings.private_optimizer =
        Some(OptimizerSpec::Momentum { learning_rate: 0.5, momentum: 0.9, weight_decay: 0.0 });
    let mut state = ServerState::new(&split(HeadGradient::PrivateOnly), settings, vec![0.0; 4]).unwrap();
    state.apply_gradients(1, &[site(1, 1, &[1.0, 1.0], None)], &SCALE).unwrap();
    assert_eq!(state.parameters(), [-1.0, -1.0, 0.0, 0.0]);
    state.apply_gradients(2, &[site(1, 1, &[0.0, 0.0], Some(&[2, 0]))], &SCALE).unwrap();
    assert_eq!(state.parameters(), [-1.0, -1.0, -1.0, 0.0]);
}

#[test]
fn a_head_that_takes_both_gradients_is_stepped_once() {
    let model = split(HeadGradient::HybridAndPrivate);
    let mut state = ServerState::new(&model, settings(), vec![0.0; 4]).unwrap();
    let contribution = site(1, 1, &[0.0, 0.0, 1.0, 0.0], Some(&[1, 0]));
    state.apply_gradients(1, &[contribution], &SCALE).unwrap();
    assert_eq!(state.parameters(), [0.0, 0.0, -2.0, 0.0]);
}

#[test]
fn a_head_that_takes_both_gradients_has_its_own_rate_in_warm_up_too() {
    let model = split(HeadGradient::HybridAndPrivate);
    let mut settings = settings();
    settings.private_optimizer = Some(OptimizerSpec::Sgd { learning_rate: 0.25, weight_decay: 0.0 });
    let mut state = ServerState::new(&model, settings, vec![0.0; 4]).unwrap();
    state.apply_gradients(1, &[site(1, 1, &[1.0, 0.0, 1.0, 0.0], None)], &SCALE).unwrap();
    assert_eq!(state.parameters(), [-1.0, 0.0, -0.25, 0.0]);
}

#[test]
fn rounds_apply_once_and_in_turn() {
    let mut state = ServerState::new(&linear(), settings(), vec![0.0; 3]).unwrap();
    let contribution = [site(1, 1, &[0.0; 3], None)];
    let error = state.apply_gradients(2, &contribution, &SCALE).unwrap_err();
    assert_eq!(error, ServerError::Round { round: 2, expected: 1 });
    for round in 1..=3 {
        state.apply_gradients(round, &contribution, &SCALE).unwrap();
        assert!(state.apply_gradients(round, &contribution, &SCALE).is_err());
    }
    let error = state.apply_gradients(4, &contribution, &SCALE).unwrap_err();
    assert_eq!(error, ServerError::Finished { rounds: 3 });
}

#[test]
fn refused_contributions_leave_the_state_as_it_was() {
    let mut state = ServerState::new(&linear(), settings(), vec![0.0; 3]).unwrap();
    let before = state.clone();
    let bad: [&[SiteContribution]; 6] = [
        &[],
        &[site(0, 0, &[0.0; 3], None)],
        &[site(1, 1, &[0.0; 2], None)],
        &[site(1, 1, &[f32::NAN, 0.0, 0.0], None)],
        &[site(1, 1, &[0.0; 3], Some(&[1, 2]))],
        &[site(1, 1, &[0.0; 3], Some(&[1, 2, 3])), site(1, 1, &[0.0; 3], None)],
    ];
    for contributions in bad {
        assert!(state.apply_gradients(1, contributions, &SCALE).is_err());
        assert_eq!(state, before);
    }
    let huge = site(1, 1, &[f32::MAX; 3], Some(&[i64::MAX; 3]));
    let scale = PrivateScale { grid_step: 1e300, sampling_probability: 0.5, noise_deviation: 1.0 };
    assert!(matches!(state.apply_gradients(1, &[huge], &scale), Err(ServerError::NotFinite { .. })));
    let scale = PrivateScale { grid_step: 1.0, sampling_probability: 0.0, noise_deviation: 1.0 };
    let contribution = site(1, 1, &[0.0; 3], Some(&[0; 3]));
    assert!(state.apply_gradients(1, &[contribution], &scale).is_err());
    assert_eq!(state, before);
}

#[test]
fn differences_are_averaged_by_units() {
    let mut state = ServerState::new(&linear(), settings(), vec![1.0; 3]).unwrap();
    let difference = |units, d: f32| SiteDifference { units, difference: vec![d; 3] };
    state.apply_differences(1, &[difference(1, 4.0), difference(3, -2.0)]).unwrap();
    assert_eq!(state.parameters(), [0.5; 3]);
    assert!(state.apply_differences(2, &[difference(0, 1.0)]).is_err());
}

#[test]
fn parameters_stay_in_the_ball_and_the_final_model_is_the_average() {
    let mut settings = settings();
    settings.max_weight_norm = Some(2.0);
    settings.averaging = Averaging::Tail { from: 0.0 };
    let mut state = ServerState::new(&linear(), settings, vec![0.0; 3]).unwrap();
    state.apply_gradients(1, &[site(1, 1, &[-1.0, 0.0, 0.0], None)], &SCALE).unwrap();
    state.apply_gradients(2, &[site(1, 1, &[-5.0, 0.0, 0.0], None)], &SCALE).unwrap();
    assert_eq!(state.parameters(), [2.0, 0.0, 0.0]);
    assert_eq!(state.final_parameters(), [1.5, 0.0, 0.0]);
}

#[test]
fn a_restored_state_continues_with_the_same_bits() {
    let model = split(HeadGradient::PrivateOnly);
    let mut settings = settings();
    settings.optimizer = OptimizerSpec::Adam {
        learning_rate: 0.01,
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
        weight_decay: 0.01,
    };
    settings.averaging = Averaging::Ema { decay: 0.9 };
    let mut state = ServerState::new(&model, settings.clone(), vec![0.3, -0.1, 0.0, 0.2]).unwrap();
    state.apply_gradients(1, &[site(4, 4, &[0.3, 0.1], Some(&[3, -9]))], &SCALE).unwrap();
    let bytes = state.to_bytes();
    let mut restored = ServerState::from_bytes(&model, settings.clone(), &bytes).unwrap();
    assert_eq!(restored, state);
    for state in [&mut state, &mut restored] {
        state.apply_gradients(2, &[site(4, 4, &[-0.2, 0.7], Some(&[1, 5]))], &SCALE).unwrap();
    }
    assert_eq!(restored, state);

    for end in 0..bytes.len() {
        assert!(ServerState::from_bytes(&model, settings.clone(), &bytes[..end]).is_err(), "{end} bytes");
    }
    let other = Model::new(&ModelSpec::Linear {}, InputShape { dense: 3, bins: Vec::new() }).unwrap();
    assert!(ServerState::from_bytes(&other, settings, &bytes).is_err());
}

#[test]
fn settings_that_do_not_fit_are_refused_with_a_remedy() {
    let refused = |change: &dyn Fn(&mut ServerSettings)| {
        let mut settings = settings();
        change(&mut settings);
        settings.validate(&linear()).unwrap_err().to_string()
    };
    assert!(refused(&|s| s.calibration_weight = f64::NAN).contains("calibration_weight is NaN"));
    assert!(refused(&|s| s.max_weight_norm = Some(0.0)).contains("max_weight_norm is 0"));
    assert!(refused(&|s| s.rounds = 0).contains("rounds is 0"));
    assert!(refused(&|s| s.private_optimizer = Some(s.optimizer.clone())).contains("remove it"));
}

#[test]
fn coefficients_move_the_model_along_recent_public_gradients_alone() {
    let settings = ServerSettings { private_directions: Some(2), calibration_weight: 1.0, ..settings() };
    let mut state = ServerState::new(&linear(), settings.clone(), vec![0.0; 3]).unwrap();
    assert_eq!(state.directions(), [0.0; 6]);
    state.apply_gradients(1, &[site(4, 1, &[0.0, 3.0, 0.0], None)], &SCALE).unwrap();
    state.apply_gradients(2, &[site(4, 1, &[0.0, 1.0, 2.0], None)], &SCALE).unwrap();
    let (basis, half) = (state.directions(), 0.2_f32.sqrt());
    for (found, expected) in basis.iter().zip([0.0, half, 2.0 * half, 0.0, 2.0 * half, -half]) {
        assert!((found - expected).abs() < 1e-6, "{basis:?}");
    }
    // A restart before the round hands out the same directions and applies the same step.
    let mut resumed = ServerState::from_bytes(&linear(), settings, &state.to_bytes()).unwrap();
    assert_eq!(resumed.directions(), basis);
    let before = state.parameters().to_vec();
    let round = [site(4, 1, &[0.0; 3], Some(&[8, 16]))];
    state.apply_gradients(3, &round, &SCALE).unwrap();
    resumed.apply_gradients(3, &round, &SCALE).unwrap();
    assert_eq!(resumed, state);
    // Coefficients (1, 2); the round had no public part and leaves no direction.
    for i in 0..3 {
        let expected = before[i] - basis[i] - 2.0 * basis[3 + i];
        assert!((state.parameters()[i] - expected).abs() < 1e-6);
    }
    assert_eq!(state.directions(), basis);
}

#[test]
fn a_projected_round_has_as_many_values_as_directions() {
    let of = |private_directions| ServerSettings { private_directions, ..settings() };
    let mut state = ServerState::new(&linear(), of(Some(2)), vec![0.0; 3]).unwrap();
    let whole = [site(4, 1, &[1.0; 3], Some(&[1, 2, 3]))];
    assert!(matches!(state.apply_gradients(1, &whole, &SCALE), Err(ServerError::Length { .. })));
    for wrong in [0, 4] {
        let error = ServerState::new(&linear(), of(Some(wrong)), vec![0.0; 3]).unwrap_err();
        assert!(error.to_string().contains("private_directions"), "{error}");
    }
    let head = split(HeadGradient::HybridAndPrivate);
    let error = ServerState::new(&head, of(Some(1)), vec![0.0; head.parameters()]).unwrap_err();
    assert_eq!(error, ServerError::DirectionsModel);
}
