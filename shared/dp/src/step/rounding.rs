//! Rounding coordinates that are handed over one by one.

use super::grid::Grid;

/// Adding 1.5 * 2^23 to a single of magnitude below 2^22 leaves its nearest integer, ties to even, in the low mantissa
/// bits; the even offset keeps the parity. Unlike a cast this needs no branch and vectorizes.
const ROUNDING_OFFSET: f32 = 12_582_912.0;
/// Values of such a coordinate in one clip norm, 2^20: what single precision resolves.
pub(super) const STEPS_PER_CLIP_NORM: i64 = 1 << 20;
/// A coordinate above this cannot be in the ball.
const LARGEST_COORDINATE: f32 = STEPS_PER_CLIP_NORM as f32;
/// Squares of one chunk stay below 2^(40+12), so their sum cannot overflow.
const CHUNK: usize = 4096;

/// Rounds coordinates to multiples of the clip norm times 2^-20; its scratch space is reused.
pub(super) struct Rounder {
    /// Multiples per unit of the gradient.
    scale: f32,
    /// The last coordinates in multiples.
    rounded: Vec<i32>,
}

impl Rounder {
    pub(super) fn new(grid: Grid, dimension: usize) -> Self {
        let multiples = STEPS_PER_CLIP_NORM as f64 / Grid::steps_per_clip_norm();
        Self { scale: (grid.steps_per_unit() * multiples) as f32, rounded: vec![0; dimension] }
    }

    /// Rounds as many coordinates as the rounder has; their exact squared norm in multiples, or `None` if one of them is not
    /// finite or larger than the clip norm.
    #[inline(always)]
    pub(super) fn round(&mut self, contribution: &[f32]) -> Option<u128> {
        self.round_scaled(contribution, 1.0)
    }

    /// [`Self::round`] of the coordinates times a factor.
    #[inline(always)]
    pub(super) fn round_scaled(&mut self, contribution: &[f32], factor: f32) -> Option<u128> {
        let mut squared_norm = 0_u128;
        let mut outside = 0_u32;
        for (values, rounded) in contribution.chunks(CHUNK).zip(self.rounded.chunks_mut(CHUNK)) {
            let (squares, bad) = round_chunk(values, rounded, self.scale * factor);
            outside |= bad;
            squared_norm += u128::from(squares);
        }
        (outside == 0).then_some(squared_norm)
    }

    /// The rounded coordinates in multiples, each at most 2^20 in magnitude if [`Self::round`] gave a norm.
    pub(super) fn rounded(&self) -> &[i32] {
        &self.rounded
    }
}

/// Rounds one chunk; returns the exact sum of squares and a nonzero word if a coordinate is too large or not finite.
///
/// The sum means nothing when the word is nonzero.
#[inline(always)]
fn round_chunk(values: &[f32], rounded: &mut [i32], scale: f32) -> (u64, u32) {
    let mut squares = 0_i64;
    let mut outside = 0_u32;
    for (&value, steps) in values.iter().zip(rounded) {
        let scaled = value * scale;
        // Written as a negated comparison so that NaN counts as outside.
        #[allow(clippy::neg_cmp_op_on_partial_ord)]
        let is_outside = !(scaled.abs() <= LARGEST_COORDINATE);
        outside |= u32::from(is_outside);
        let bits = (scaled + ROUNDING_OFFSET).to_bits();
        *steps = bits.wrapping_sub(ROUNDING_OFFSET.to_bits()) as i32;
        // Cannot wrap for coordinates inside: 4096 squares of at most 2^40.
        squares = squares.wrapping_add(i64::from(*steps).wrapping_mul(i64::from(*steps)));
    }
    (squares as u64, outside)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;
    use crate::params::ClipNorm;

    fn contribution(clip: f64, values: &[f32]) -> Vec<i64> {
        let grid = Grid::for_clip_norm(ClipNorm::new(clip).unwrap());
        let mut rounder = Rounder::new(grid, values.len());
        match rounder.round(values) {
            Some(squares) if squares <= 1 << 40 => rounder.rounded().iter().map(|&v| i64::from(v)).collect(),
            _ => vec![0; values.len()],
        }
    }

    fn squared_norm(vector: &[i64]) -> i128 {
        vector.iter().map(|&v| i128::from(v) * i128::from(v)).sum()
    }

    #[test]
    fn rounds_to_nearest_with_ties_to_even() {
        let step = 1.0 / 1_048_576.0_f32;
        let values = [0.5, 1.5, 2.5, -0.5, -1.5, 0.49, -0.51, 3.0].map(|v| v * step);
        assert_eq!(contribution(1.0, &values), [0, 2, 2, 0, -2, 0, -1, 3]);
    }

    #[test]
    fn the_sphere_itself_is_inside_and_one_step_more_is_not() {
        assert_eq!(contribution(1.0, &[1.0, 0.0]), [1 << 20, 0]);
        assert_eq!(contribution(1.0, &[1.0, 1.0 / 1_048_576.0]), [0, 0]);
        assert_eq!(contribution(1.0, &[-1.0000001]), [0]);
    }

    #[test]
    fn what_is_not_finite_becomes_zero() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, -f32::MAX] {
            assert_eq!(contribution(1.0, &[0.1, bad, 0.1]), [0, 0, 0], "{bad}");
        }
    }

    #[test]
    fn long_vectors_are_checked_across_chunks() {
        let dimension = 3 * CHUNK + 7;
        let inside = 0.999 / (dimension as f32).sqrt();
        assert!(contribution(1.0, &vec![inside; dimension]).iter().all(|&v| v > 0));
        let outside = 1.001 / (dimension as f32).sqrt();
        assert!(contribution(1.0, &vec![outside; dimension]).iter().all(|&v| v == 0));
    }

    proptest! {
        #[test]
        fn every_contribution_is_in_the_ball(
            clip in 1e-3..1e3_f64,
            values in prop::collection::vec(prop_oneof![-2.0..2.0_f32, any::<f32>()], 1..40),
        ) {
            let scaled: Vec<f32> = values.iter().map(|v| v * clip as f32 * 0.4).collect();
            prop_assert!(squared_norm(&contribution(clip, &scaled)) <= 1 << 40);
        }

        #[test]
        fn two_contributions_differ_by_at_most_twice_the_clip_norm(
            (a, b) in (1_usize..30).prop_flat_map(|n| (
                prop::collection::vec(-0.6..0.6_f32, n), prop::collection::vec(-0.6..0.6_f32, n))),
        ) {
            let difference: Vec<i64> =
                contribution(1.0, &a).iter().zip(contribution(1.0, &b)).map(|(x, y)| x - y).collect();
            prop_assert!(squared_norm(&difference) <= 1 << 42);
        }

        #[test]
        fn rounding_moves_a_coordinate_by_little_more_than_half_a_step(value in -1.0..1.0_f32) {
            let steps = contribution(1.0, &[value])[0] as f64;
            prop_assert!((steps - f64::from(value) * 1_048_576.0).abs() <= 0.5);
        }
    }
}
