#![allow(clippy::unwrap_used)]
use super::*;

fn spec() -> PosteriorSpec {
    PosteriorSpec { curvature: 0.1, amplitude: 2.0, length: 3.0, group_correlation: 0.5, memory: 1.0 }
}

/// Six ordered bins and one for missing, of weight 1; three words and one for missing, of weight 0.5.
fn features() -> [HeadFeature; 2] {
    [HeadFeature { ordered: true, ..HeadFeature::new(7) }, HeadFeature { weight: 0.5, ..HeadFeature::new(4) }]
}

const OPTIMUM: [f64; 11] = [1.0, 1.1, 0.8, -0.5, -0.7, -0.6, 0.1, 0.4, -0.4, 0.2, 0.0];

/// The gradient of a quadratic loss with the posterior's own `H` and this optimum.
fn gradient(posterior: &Posterior, params: &[f32]) -> Vec<f64> {
    let at: Array1<f64> = params.iter().map(|&value| f64::from(value)).collect();
    posterior.curvature.dot(&(at - Array1::from(OPTIMUM.to_vec()))).to_vec()
}

#[test]
fn a_gradient_without_noise_shows_what_can_be_seen_of_the_optimum() {
    let mut posterior = Posterior::new(&spec(), &features()).unwrap();
    let mut params = vec![0.0_f32; 11];
    let observed = gradient(&posterior, &params);
    posterior.step(&mut params, &observed, 0.0, 4).unwrap();
    // H has a null space (a constant moved from one feature to the other), so gradients are compared.
    let left = gradient(&posterior, &params);
    assert!(left.iter().all(|value| value.abs() < 1e-6), "{left:?}");
}

#[test]
fn the_mean_is_that_of_the_normal_equations() {
    let mut posterior = Posterior::new(&spec(), &features()).unwrap();
    let (mut params, variance) = (vec![0.25_f32; 11], 3e-4);
    let observed = gradient(&posterior, &params);
    posterior.step(&mut params, &observed, variance, 4).unwrap();
    // (K^-1 + H^2 / v) m = H (H w - g) / v, checked by multiplication.
    let h = &posterior.curvature;
    let mean: Array1<f64> = params.iter().map(|&value| f64::from(value)).collect();
    let precision = Cholesky::new(&covariance(&spec(), &features())).unwrap().inverse() + h.dot(h) / variance;
    let z = h.dot(&Array1::from_elem(11, 0.25)) - Array1::from(observed);
    let difference = precision.dot(&mean) - h.dot(&z) / variance;
    assert!(difference.iter().all(|value| value.abs() < 1e-4), "{difference}");
}

#[test]
fn noise_without_end_leaves_the_prior_mean() {
    let mut posterior = Posterior::new(&spec(), &features()).unwrap();
    let mut params = vec![1.0_f32; 11];
    posterior.step(&mut params, &[5.0; 11], 1e30, 1).unwrap();
    assert!(params.iter().all(|value| value.abs() < 1e-9), "{params:?}");
}

#[test]
fn neighbors_of_an_observed_bin_follow_it_and_strangers_do_not() {
    let mut posterior = Posterior::new(&spec(), &features()[..1]).unwrap();
    let mut params = vec![0.0_f32; 7];
    let mut observed = [0.0; 7];
    observed[2] = -0.02;
    // Noise of the size of the signal: the prior decides how far neighbors follow.
    posterior.step(&mut params, &observed, 4e-4, 1).unwrap();
    assert!(params[2] > params[1] && params[1] > params[0] && params[0] > 0.0, "{params:?}");
    assert!(params[2] > params[3] && params[3] > params[4], "{params:?}");
    assert!(params[6].abs() < 0.02 * params[2], "the bin for missing is nobody's neighbor: {params:?}");
}

#[test]
fn more_rounds_average_the_noise_out() {
    // Errors of a fixed pattern whose sum over four rounds is zero.
    let patterns = [[1.0, -1.0], [-1.0, 1.0], [1.0, 1.0], [-1.0, -1.0]];
    let error = |rounds: usize| {
        let mut posterior = Posterior::new(&spec(), &features()).unwrap();
        let mut params = vec![0.0_f32; 11];
        for pattern in &patterns[..rounds] {
            let mut observed = gradient(&posterior, &params);
            observed.iter_mut().enumerate().for_each(|(index, value)| *value += 0.005 * pattern[index % 2]);
            posterior.step(&mut params, &observed, 2.5e-5, 8).unwrap();
        }
        gradient(&posterior, &params).iter().map(|value| value * value).sum::<f64>()
    };
    assert!(error(4) < 0.1 * error(1), "{} against {}", error(4), error(1));
}

#[test]
fn memory_forgets_in_the_first_half_of_private_rounds_only() {
    let forgetful = PosteriorSpec { memory: 0.0, ..spec() };
    let mut posterior = Posterior::new(&forgetful, &features()).unwrap();
    let once = posterior.curvature.dot(&posterior.curvature) / 1e-4;
    let mut params = vec![0.0_f32; 11];
    for (step, counted) in [1.0, 1.0, 2.0, 3.0].into_iter().enumerate() {
        posterior.step(&mut params, &[0.0; 11], 1e-4, 4 - step as u32).unwrap();
        let difference = (&posterior.precision - &(&once * counted)).mapv(f64::abs).sum();
        assert!(difference < 1e-9, "step {step}: {difference}");
    }
}

#[test]
fn a_restored_posterior_goes_on_with_the_same_bits() {
    let mut posterior = Posterior::new(&spec(), &features()).unwrap();
    let mut params = vec![0.0_f32; 11];
    let first = gradient(&posterior, &params);
    posterior.step(&mut params, &first, 1e-4, 3).unwrap();
    let mut restored = Posterior::new(&spec(), &features()).unwrap();
    restored.restore(&posterior.to_bytes()).unwrap();
    assert_eq!(restored, posterior);
    let mut other = Posterior::new(&spec(), &features()[..1]).unwrap();
    assert!(other.restore(&posterior.to_bytes()).is_err());
    assert!(restored.restore(&posterior.to_bytes()[1..]).is_err());
}

#[test]
fn settings_outside_their_ranges_are_refused_by_name() {
    type Change = fn(&mut PosteriorSpec);
    let cases: [(&str, Change); 7] = [
        ("curvature", |spec| spec.curvature = 0.0),
        ("amplitude", |spec| spec.amplitude = f64::NAN),
        ("length", |spec| spec.length = -1.0),
        ("group_correlation", |spec| spec.group_correlation = 1.0),
        ("group_correlation", |spec| spec.group_correlation = f64::NAN),
        ("memory", |spec| spec.memory = 1.5),
        ("memory", |spec| spec.memory = f64::NAN),
    ];
    for (field, change) in cases {
        let mut spec = spec();
        change(&mut spec);
        let said = spec.validate().unwrap_err().to_string();
        assert!(said.starts_with(field), "{said}");
    }
    assert_eq!(spec().validate(), Ok(()));
    let vast = [HeadFeature::new(1_001)];
    assert!(matches!(Posterior::new(&spec(), &vast), Err(ServerError::Posterior { .. })));
    let endless = PosteriorSpec { length: 1e18, ..spec() };
    assert!(matches!(Posterior::new(&endless, &features()), Err(ServerError::Posterior { .. })));
}

#[test]
fn a_feature_without_a_bin_for_values_is_no_special_case() {
    let moment = second_moment(&[HeadFeature::new(1)]);
    assert_eq!(moment[[0, 0]], 1.0);
    let moment = second_moment(&features());
    let trace: f64 = (0..11).map(|bin| moment[[bin, bin]]).sum();
    assert!((trace - 1.25).abs() < 1e-12, "squares of the weights add up: {trace}");
}

#[test]
fn groups_share_what_they_learn_as_far_as_declared() {
    let features = [HeadFeature { groups: 2, ordered: true, ..HeadFeature::new(7) }];
    let neighbors = |group_correlation| {
        let mut posterior =
            Posterior::new(&PosteriorSpec { group_correlation, ..spec() }, &features).unwrap();
        let (mut params, mut observed) = (vec![0.0_f32; 14], [0.0; 14]);
        observed[2] = -0.02;
        posterior.step(&mut params, &observed, 4e-4, 1).unwrap();
        (params[2], params[9])
    };
    let (own, other) = neighbors(0.0);
    assert!(own > 0.1 && other.abs() < 1e-3 * own, "{own} {other}");
    let (own, other) = neighbors(0.9);
    assert!(other > 0.5 * own && other < own, "{own} {other}");
    let covariance = covariance(&spec(), &features);
    assert_eq!(covariance[[13, 13]], 1.0, "missing has half the amplitude in every group");
    assert_eq!((covariance[[6, 13]], covariance[[6, 12]]), (0.5, 0.0));
    let trace: f64 = second_moment(&features).diag().sum();
    assert!((trace - 1.0).abs() < 1e-12, "{trace}");
}
