#![allow(clippy::unwrap_used)]

use std::convert::Infallible;

use proptest::prelude::*;
use rand::TryRng;

use super::*;

/// Gives the stated words and fails the test when more are wanted.
struct Script<'a>(&'a [u64]);

impl TryRng for Script<'_> {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        panic!("whole words only")
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let (&first, rest) = self.0.split_first().expect("the decision must not need this word");
        self.0 = rest;
        Ok(first)
    }

    fn try_fill_bytes(&mut self, _: &mut [u8]) -> Result<(), Infallible> {
        panic!("whole words only")
    }
}

/// `exp(-square / twice_variance)` against a uniform number in `[0, 1)`.
fn plain(square: u128, twice_variance: u128) -> Comparison {
    Comparison { length: 1, numerator: BigUint::from(1_u32), denominator: 1, square, twice_variance }
}

/// Computed with Python's `decimal` at 400 digits.
const POWERS: [(u128, u128, &str); 4] = [
    (
        1,
        1,
        "2.71828182845904523536028747135266249775724709369995957496696762772407663035354759457138217852516",
    ),
    (
        1,
        2,
        "1.64872127070012814684865078781416357165377610071014801157507931164066102119421560863277652005636",
    ),
    (
        100,
        1,
        "26881171418161354484126255515800135873611118.773741922415191608615280287034909564914158871097219",
    ),
    (
        81,
        32,
        "12.56920783085344107621079510245294816063876970284218243443203092759845283974875556995714627257",
    ),
];

#[test]
fn the_exponential_lies_between_its_bounds() {
    for (numerator, denominator, decimal) in POWERS {
        let (whole, fraction) = decimal.split_once('.').unwrap();
        let digits = BigUint::parse_bytes(format!("{whole}{fraction}").as_bytes(), 10).unwrap();
        let scale = BigUint::from(10_u32).pow(fraction.len() as u32);
        // What is cut off from the decimals is far below one unit.
        let precision = 96;
        let expected = (digits << precision) / scale;
        let (lower, upper) = exponential(numerator, denominator, precision);
        assert!(lower <= expected && expected <= upper, "exp({numerator}/{denominator})");
        let most = (&expected >> precision) + 2_u32;
        assert!(upper - lower <= most, "exp({numerator}/{denominator}) is known too loosely");
    }
}

#[test]
fn the_exponential_of_zero_is_one() {
    let (lower, upper) = exponential(0, 5, 64);
    assert_eq!(lower, BigUint::from(1_u32) << 64_u32);
    assert!(upper - lower <= BigUint::from(2_u32));
}

/// Binary digits of the exponential in words, computed with Python's `decimal` at 400 digits.
const DIGITS: [(u128, u128, [u64; 4]); 3] = [
    (1, 2, [0x9b45_97e3_7cb0_4ff3, 0xd675_a355_30cd_d767, 0xe347_bf8a_d0e8_0abb, 0xce4a_e958_6101_4318]),
    (81, 32, [0x145e_0310_07d6_5eae, 0x4a96_6a98_786b_4bf4, 0x02c3_eb9b_aaf1_c32b, 0xbd40_6c29_52b0_0b2d]),
    (100, 1, [0x0000_0000_0000_0000, 0x0000_0000_0000_0000, 0x0000_d460_f8a7_157a, 0xe579_eec8_9bae_3a7e]),
];

/// A uniform number that agrees with the exponential in all words but the last, which is just below or above.
#[test]
fn numbers_just_below_happen_and_numbers_just_above_do_not() {
    for (square, twice_variance, digits) in DIGITS {
        let event = plain(square, twice_variance);
        for last in 0..4 {
            let mut words = digits;
            // There is nothing below a word of zeros that agrees in the words before.
            if let Some(below) = digits[last].checked_sub(1) {
                words[last] = below;
                assert!(
                    event.decide(0, words[0], &mut Script(&words[1..=last])),
                    "{square}: below in {last}"
                );
            }
            words[last] = digits[last] + 1;
            assert!(!event.decide(0, words[0], &mut Script(&words[1..=last])), "{square}: above in {last}");
        }
    }
}

/// The same event, stretched: `u / 10 < (3/7) exp(-1/2)` at `u = 30/7 exp(-1/2) = 2.599...`.
#[test]
fn position_length_and_factor_count() {
    let numerator = BigUint::from(3_u32);
    let event = Comparison { length: 10, numerator, denominator: 7, square: 1, twice_variance: 2 };
    assert!(event.decide(0, u64::MAX, &mut Script(&[])));
    assert!(event.decide(1, u64::MAX, &mut Script(&[])));
    assert!(!event.decide(3, 0, &mut Script(&[])));
    let limit = 30.0 / 7.0 * (-0.5_f64).exp() - 2.0;
    let digits = |fraction: f64| (fraction * 2_f64.powi(64)) as u64;
    assert!(event.decide(2, digits(limit - 1e-14), &mut Script(&[])));
    assert!(!event.decide(2, digits(limit + 1e-14), &mut Script(&[])));
}

proptest! {
    /// Doubles decide the same wherever they can decide.
    #[test]
    fn doubles_agree(
        sigma in 1_u64..1 << 40,
        distance in 0.0..12.0_f64,
        position in 0_u64..1000,
        more in 1_u64..1000,
        digits in any::<u64>(),
    ) {
        let magnitude = (distance * sigma as f64) as u128;
        let (square, twice_variance) = (magnitude * magnitude, 2 * u128::from(sigma) * u128::from(sigma));
        let length = position + more;
        let event = Comparison { length, ..plain(square, twice_variance) };
        let uniform = (position as f64 + digits as f64 / 2_f64.powi(64)) / length as f64;
        let probability = (-(square as f64) / twice_variance as f64).exp();
        prop_assume!((uniform - probability).abs() > 1e-12);
        prop_assert_eq!(event.decide(position, digits, &mut Script(&[])), uniform < probability);
    }
}
