#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

#[test]
fn each_parameter_refuses_what_lies_outside_its_range() {
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, -0.0, 0.0] {
        assert!(Delta::new(bad).is_err(), "delta {bad}");
        assert!(NoiseMultiplier::new(bad).is_err(), "noise_multiplier {bad}");
        assert!(ClipNorm::new(bad).is_err(), "clip_norm {bad}");
        assert!(SamplingProbability::new(bad).is_err(), "sampling_probability {bad}");
    }
    assert!(Delta::new(1.0).is_err());
    assert!(SamplingProbability::new(1.0 + f64::EPSILON).is_err());
    assert!(SamplingProbability::new(1.0).is_ok());
    assert!(Epsilon::new(f64::NAN).is_err());
    assert!(Epsilon::new(-1e-300).is_err());
    assert!(Epsilon::new(f64::INFINITY).is_ok());
}

#[test]
fn an_error_names_parameter_value_and_range() {
    let text = SamplingProbability::new(1.5).unwrap_err().to_string();
    assert!(text.contains("sampling_probability is 1.5"), "{text}");
    assert!(text.contains("(0, 1]"), "{text}");
}

#[test]
fn deserialization_applies_the_same_check() {
    assert!(serde_json::from_str::<Delta>("1.0").is_err());
    assert!(serde_json::from_str::<NoiseMultiplier>("-2").is_err());
    assert_eq!(serde_json::from_str::<ClipNorm>("0.7").unwrap().get(), 0.7);
    assert!(serde_json::from_str::<Epsilon>("-1").is_err());
    assert!(serde_json::from_str::<Epsilon>("\"inf\"").is_err());
}

#[test]
fn infinite_epsilon_survives_json() {
    let text = serde_json::to_string(&Epsilon::INFINITE).unwrap();
    assert_eq!(text, "\"infinity\"");
    assert_eq!(serde_json::from_str::<Epsilon>(&text).unwrap(), Epsilon::INFINITE);
    assert_eq!(Epsilon::INFINITE.to_string(), "infinity");
}

#[test]
fn relations_have_their_wire_names() {
    assert_eq!(serde_json::to_string(&NeighboringRelation::Replace).unwrap(), "\"replace\"");
    assert_eq!(serde_json::to_string(&NeighboringRelation::ZeroOut).unwrap(), "\"zero_out\"");
    assert!(serde_json::from_str::<NeighboringRelation>("\"remove\"").is_err());
}

#[test]
fn digest_is_sha256_in_hex() {
    let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    assert_eq!(Digest::of(b"").to_string(), empty);
    assert_eq!(empty.parse::<Digest>().unwrap(), Digest::of(b""));
    assert_eq!(serde_json::to_string(&Digest::of(b"")).unwrap(), format!("\"{empty}\""));
    assert!(empty[1..].parse::<Digest>().is_err());
    assert!(format!("x{}", &empty[1..]).parse::<Digest>().is_err());
}

#[test]
fn reports_round_up() {
    assert_eq!(Epsilon::new(1.7758).unwrap().rounded_up(2), 1.78);
    assert_eq!(Epsilon::new(1.78).unwrap().rounded_up(2), 1.78);
    assert_eq!(Epsilon::new(1e-9).unwrap().rounded_up(3), 0.001);
    assert_eq!(Epsilon::ZERO.rounded_up(3), 0.0);
    assert_eq!(Epsilon::INFINITE.rounded_up(3), f64::INFINITY);
    assert_eq!(Epsilon::new(0.1).unwrap().rounded_up(u32::MAX), 0.1);
}

#[test]
fn coarsening_keeps_what_is_short_and_infinite() {
    for value in [0.0, 1.0, 0.1_f32.into(), f64::INFINITY] {
        assert_eq!(Epsilon::new(value).unwrap().coarsened().get(), value);
    }
}

proptest! {
    #[test]
    fn coarsening_goes_up_a_little(value in 0.0..1e6_f64) {
        let coarse = Epsilon::new(value).unwrap().coarsened().get();
        prop_assert!(coarse >= value && coarse <= value * (1.0 + 1.2e-7));
    }

    #[test]
    fn rounding_never_goes_down_nor_far(value in 0.0..1e6_f64, decimals in 0_u32..9) {
        let rounded = Epsilon::new(value).unwrap().rounded_up(decimals);
        prop_assert!(rounded >= value);
        prop_assert!(rounded - value <= 1.000_001 * 10_f64.powi(-(decimals as i32)) + value * 1e-15);
    }

    #[test]
    fn epsilon_round_trips_bit_for_bit(value in 0.0..f64::MAX) {
        let epsilon = Epsilon::new(value).unwrap();
        let text = serde_json::to_string(&epsilon).unwrap();
        prop_assert_eq!(serde_json::from_str::<Epsilon>(&text).unwrap(), epsilon);
    }
}
