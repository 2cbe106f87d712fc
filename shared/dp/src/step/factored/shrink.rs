//! Units of many records, written out: their finer grid, and shrinking into the ball, in integers.
//!
//! # Finer grid
//!
//! A record that has the n-th part of a clip norm has a left side of norm `2^14 / n`, which rounding to integers would wash
//! out. From 64 records on the left sides are therefore written `2^k` times as long, `2^k > n / 64`, which makes that norm at
//! least 2^8, and the sum over rows is divided by `2^k` in the end.
//!
//! # Shrinking
//!
//! Rounding moves the vector of a unit of several records by more than the one record for which the engine leaves room, in the
//! worst case by an amount that grows with their number. To clip so far that the worst case fits would cost such units a good
//! part of their length; shrinking costs what they are too long by, a thousandth or so.
//!
//! For a vector `v` with `|v| > R`, `R = 2^28`, let `s` be the least integer with `s^2 >= |v|^2` and `m = floor(2^32 R / s)`.
//! Each coordinate becomes `v_i m / 2^32`, rounded towards zero, so that `|v'_i| <= |v_i| R / s` and
//!
//! ```text
//! |v'|^2 <= |v|^2 R^2 / s^2 <= R^2
//! ```
//!
//! whatever `v` is. A coordinate is off by less than one step from truncation, and `m` by less than 2^-31 of itself.

use super::super::grid::Grid;

/// Largest squared norm that is shrunk, that of twice the clip norm.
pub(super) const LARGEST_SQUARES: i128 = 4 * super::SQUARED_RADIUS;
/// Coordinates beyond this have no part in a vector that is shrunk or added, and their squares would not fit.
const LARGEST: u64 = 2 * Grid::STEPS_PER_CLIP_NORM.unsigned_abs();
/// Squares of at most 2^58 that are summed in 64 bits.
const SQUARES: usize = 16;
/// Denominator of the factor.
const ONE: i64 = 1 << 32;

/// Records from which on the grid is finer.
const FINE_RECORDS: usize = 64;

/// Bits by which the grid of a unit of this many records is finer; none below 64 records, at most 58.
pub(super) fn finer_bits(records: usize) -> u32 {
    (records / FINE_RECORDS).checked_ilog2().map_or(0, |bits| bits + 1)
}

/// Divides by `2^finer`, towards zero.
pub(super) fn to_grid(unit: &mut [i64], finer: u32) {
    if finer > 0 {
        unit.iter_mut().for_each(|value| *value /= 1 << finer);
    }
}

/// Exact squared norm; `None` if a coordinate is beyond twice the clip norm.
pub(super) fn squared_norm(unit: &[i64]) -> Option<i128> {
    if unit.iter().any(|value| value.unsigned_abs() > LARGEST) {
        return None;
    }
    let squares = |values: &[i64]| i128::from(values.iter().map(|value| value * value).sum::<i64>());
    Some(unit.chunks(SQUARES).map(squares).sum())
}

/// Shrinks a vector of squared norm `squares`, beyond the ball and at most [`LARGEST_SQUARES`], into the ball.
pub(super) fn into_ball(unit: &mut [i64], squares: i128) {
    let root = squares.isqrt();
    let length = if root * root < squares { root + 1 } else { root };
    // Below 2^32, as the length is above 2^28.
    let factor = (i128::from(ONE) * i128::from(Grid::STEPS_PER_CLIP_NORM) / length) as i64;
    unit.iter_mut().for_each(|value| *value = *value * factor / ONE);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn shrunk(unit: &[i64]) -> Vec<i64> {
        let mut shrunk = unit.to_vec();
        into_ball(&mut shrunk, squared_norm(unit).unwrap());
        shrunk
    }

    proptest! {
        /// Vectors of every length that is shrunk, in few and many dimensions.
        #[test]
        fn the_result_is_in_the_ball_and_next_to_the_sphere(
            direction in prop::collection::vec(-1.0..1.0_f64, 1..200), excess in prop_oneof![1e-8..1e-3_f64, 1e-3..0.999],
        ) {
            let norm = direction.iter().map(|v| v * v).sum::<f64>().sqrt();
            prop_assume!(norm > 1e-3);
            let length = (1.0 + excess) * (1_u64 << 28) as f64;
            let unit: Vec<i64> = direction.iter().map(|v| (v / norm * length).round() as i64).collect();
            let squares = squared_norm(&unit).unwrap();
            prop_assume!(squares > super::super::SQUARED_RADIUS && squares <= LARGEST_SQUARES);
            let shrunk = shrunk(&unit);
            let found = squared_norm(&shrunk).unwrap();
            prop_assert!(found <= super::super::SQUARED_RADIUS);
            // Truncation takes less than a step from each coordinate.
            let lost = (1_u64 << 28) as f64 - (found as f64).sqrt();
            prop_assert!(lost <= 2.0 + (unit.len() as f64).sqrt(), "{lost}");
            let factor = (1_u64 << 28) as f64 / (squares as f64).sqrt();
            for (&before, &after) in unit.iter().zip(&shrunk) {
                prop_assert!((after as f64 - before as f64 * factor).abs() < 2.0);
            }
        }
    }

    #[test]
    fn the_grid_is_finer_from_64_records_on() {
        let bits = [0, 1, 2, 63, 64, 127, 128, 600, 1 << 32].map(finer_bits);
        assert_eq!(bits, [0, 0, 0, 0, 1, 1, 2, 4, 27]);
        let mut unit = [7, -7, 16, -1];
        to_grid(&mut unit, 2);
        assert_eq!(unit, [1, -1, 4, 0]);
    }

    #[test]
    fn the_edges_of_what_is_shrunk_fit() {
        let radius = 1_i64 << 28;
        assert_eq!(shrunk(&[2 * radius, 0]), [radius, 0]);
        assert_eq!(shrunk(&[-2 * radius]), [-radius]);
        assert_eq!(shrunk(&[radius, 1])[1], 0);
        assert!(squared_norm(&[2 * radius + 1]).is_none());
        assert!(squared_norm(&[i64::MIN]).is_none());
        // The largest sum of squares in 64 bits.
        assert_eq!(squared_norm(&[-2 * radius; 17]), Some(17 << 58));
    }
}
