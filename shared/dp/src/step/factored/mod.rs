//! Sums of contributions whose linear blocks come as outer products.
//!
//! # What a unit contributes
//!
//! For each row of a linear block `left_t` and `(right_t, c_t)` are rounded to integers of 16 bits, where `c_t` is 1 in the
//! rows that add to the bias and 0 in others, and the right side is first scaled to norm 2^14. The unit's vector `v` has the
//! coordinates
//!
//! ```text
//! sum_t L_ti R_tj  (weight)      sum_t L_ti K_t  (bias)      2^8 D_i  (dense coordinates, rounded to every 256th step)
//! ```
//!
//! all integers. A unit of many records has left sides on a finer grid, from which its vector, once it is written out, is
//! brought back to this one by truncation, see `shrink`; a record's part of a clip norm would otherwise be too few steps.
//!
//! The vector is added if `|v|² <= 2^56`, and else nothing is added. Before that test the vector of a unit of several
//! records, each of which was rounded by itself, is shrunk into the ball in integers if it is at most twice as long, see
//! `shrink`. What is added is a function of the unit's own values and public constants: neither the other units of a group nor
//! the order or number of threads enter.
//!
//! # Why the arithmetic is exact
//!
//! | quantity | bound | held in |
//! |---|---|---|
//! | `L`, `R`, `K` | 2^15 - 1 | `i16`, checked |
//! | inner product of two rows | 2^16 terms below 2^30: 2^46 | `i64` |
//! | squared norm from inner products | 2^8 pairs of rows, 2^60 per pair and coordinate, 2^32 coordinates: 2^100 | `i128` |
//! | sum of a run of rows in one coordinate | bounds of its rows, which add up to less than 2^31 | `i32` |
//! | coordinate of a unit that is written out | 2^32 rows of 2^30: 2^62 | `i64` |
//! | its square, taken up to 2^29 | 2^58, 16 of them 2^62 | `i64` |
//! | coordinate times the factor that shrinks it | 2^29 times 2^32: 2^61 | `i64` |
//! | sum of all units in one coordinate | 2^32 units of 2^28: 2^60 | `i64` |
//!
//! `|v|²` follows from inner products alone, `sum_{t,t'} <L_t, L_t'> (<R_t, R_t'> + K_t K_t')`, so a unit of few rows is never
//! written out. A unit of many rows is, into one buffer, which is then cheaper than its inner products; both ways give the
//! same integer. A unit that is to be shrunk is written out, too.

mod product;
mod rows;
mod shrink;
#[cfg(test)]
mod tests;
mod words;

use pulp::{Arch, Simd, WithSimd};

use super::grid::Grid;
use super::rounding::{self, Rounder};
use super::shape::{Block, ContributionShape, UnitGroup};
use rows::{LinearRows, Rounded};

/// Rows of a unit in one block up to which inner products are cheaper than writing the unit out.
const GRAM_ROWS: usize = 16;
/// Rows after which a block is multiplied out.
const FLUSH_ROWS: usize = 128;
/// Square of the clip norm in grid steps.
const SQUARED_RADIUS: i128 = (Grid::STEPS_PER_CLIP_NORM as i128).pow(2);
/// Grid steps between two values of a dense coordinate.
const DENSE_STEPS: i64 = Grid::STEPS_PER_CLIP_NORM / rounding::STEPS_PER_CLIP_NORM;
/// Its square.
const SQUARED_DENSE_STEPS: i128 = (DENSE_STEPS as i128).pow(2);

/// The sum of contributions of one shape.
pub(super) struct FactoredSum {
    shape: ContributionShape,
    linear: Vec<LinearRows>,
    dense: Rounder,
    /// Grid steps per unit of the gradient.
    steps_per_unit: f64,
    /// One unit written out; empty until it is needed.
    unit: Vec<i64>,
    sums: Vec<i64>,
}

impl FactoredSum {
    pub(super) fn new(shape: ContributionShape, grid: Grid) -> Self {
        Self {
            linear: shape.linear().map(|(outputs, inputs)| LinearRows::new(outputs, inputs)).collect(),
            dense: Rounder::new(grid, shape.dense()),
            steps_per_unit: grid.steps_per_unit(),
            unit: Vec::new(),
            sums: vec![0; shape.dimension()],
            shape,
        }
    }

    pub(super) fn shape(&self) -> &ContributionShape {
        &self.shape
    }

    /// Adds the units of a group that was checked against the shape.
    pub(super) fn add(&mut self, group: &UnitGroup<'_>) {
        Arch::new().dispatch(Add { sum: self, group });
    }

    /// Adds one unit of a shape without linear blocks, clipped already; its length was checked.
    pub(super) fn add_dense(&mut self, clipped: &[f32]) {
        if let Some(squares) = self.dense.round(clipped)
            && squares as i128 * SQUARED_DENSE_STEPS <= SQUARED_RADIUS
        {
            add_dense(&self.shape, self.dense.rounded(), &mut self.sums);
        }
    }

    /// The sum of everything that was added.
    pub(super) fn finish(mut self) -> Vec<i64> {
        self.flush();
        self.sums
    }

    fn flush(&mut self) {
        flush(&self.shape, &mut self.linear, LinearRows::flush, &mut self.sums);
    }
}

/// Adds the units of a group.
struct Add<'a, 'g> {
    sum: &'a mut FactoredSum,
    group: &'a UnitGroup<'g>,
}

impl WithSimd for Add<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for unit in 0..self.group.units() {
            self.sum.add_unit(self.group, unit);
            if self.sum.linear.iter().any(|rows| rows.len() >= FLUSH_ROWS) {
                self.sum.flush();
            }
        }
    }
}

impl FactoredSum {
    #[inline(always)]
    fn add_unit(&mut self, group: &UnitGroup<'_>, unit: usize) {
        let factor = group.clip_factors[unit];
        if !(factor.is_finite() && factor > 0.0) {
            return;
        }
        let width = self.shape.dense();
        let dense = &group.dense[unit * width..][..width];
        let Some(dense_squares) = self.dense.round_scaled(dense, factor) else { return };
        let records = group.offsets[unit + 1] - group.offsets[unit];
        let finer = shrink::finer_bits(records);
        let steps = f64::from(factor) * self.steps_per_unit;
        let Some(finer) = self.push_rows(group, unit, (steps, finer)) else { return };
        let longest = if records > 1 { shrink::LARGEST_SQUARES } else { SQUARED_RADIUS };
        if finer > 0 || self.linear.iter().any(|rows| rows.unit_len() > GRAM_ROWS) {
            self.add_written_out(finer, longest);
            return;
        }
        let dense = dense_squares as i128 * SQUARED_DENSE_STEPS;
        let squares = self.linear.iter().fold(dense, |total, rows| total + rows.squared_norm());
        if squares <= SQUARED_RADIUS {
            add_dense(&self.shape, self.dense.rounded(), &mut self.sums);
        } else if squares <= longest {
            self.add_written_out(finer, longest);
        } else {
            self.remove_unit();
        }
    }

    fn remove_unit(&mut self) {
        self.linear.iter_mut().for_each(LinearRows::remove_unit);
    }

    /// Appends the unit's rows on a grid finer by `finer` bits, or on that of few records if a row does not fit; by how many
    /// bits it is finer in the end, and `None` if the unit counts as the zero vector.
    #[inline(always)]
    fn push_rows(&mut self, group: &UnitGroup<'_>, unit: usize, (steps, finer): (f64, u32)) -> Option<u32> {
        if self.push_rows_on(group, unit, steps * (1_u64 << finer) as f64) == Rounded::Inside {
            return Some(finer);
        }
        self.remove_unit();
        if finer > 0 && self.push_rows_on(group, unit, steps) == Rounded::Inside {
            return Some(0);
        }
        self.remove_unit();
        None
    }

    #[inline(always)]
    fn push_rows_on(&mut self, group: &UnitGroup<'_>, unit: usize, steps: f64) -> Rounded {
        let range = group.offsets[unit]..group.offsets[unit + 1];
        self.linear.iter_mut().for_each(LinearRows::begin_unit);
        for (rows, (factors, (outputs, inputs))) in
            self.linear.iter_mut().zip(group.linear.iter().zip(self.shape.linear()))
        {
            for row in range.clone() {
                for factor in *factors {
                    let left = &factor.left[row * outputs..][..outputs];
                    let right = &factor.right[row * inputs..][..inputs];
                    if rows.push(left, right, factor.constant, steps) == Rounded::Outside {
                        return Rounded::Outside;
                    }
                }
            }
        }
        Rounded::Inside
    }

    /// Writes the unit whose rows stand last, on a grid finer by `finer` bits, into the unit buffer, takes them away, shrinks
    /// the unit if its squared norm is beyond the ball and at most `longest`, and adds it if it is in the ball.
    fn add_written_out(&mut self, finer: u32, longest: i128) {
        self.unit.clear();
        self.unit.resize(self.sums.len(), 0);
        flush(&self.shape, &mut self.linear, LinearRows::flush_unit, &mut self.unit);
        shrink::to_grid(&mut self.unit, finer);
        add_dense(&self.shape, self.dense.rounded(), &mut self.unit);
        let mut squares = shrink::squared_norm(&self.unit);
        if let Some(found) = squares
            && found > SQUARED_RADIUS
            && found <= longest
        {
            shrink::into_ball(&mut self.unit, found);
            squares = shrink::squared_norm(&self.unit);
        }
        if squares.is_some_and(|squares| squares <= SQUARED_RADIUS) {
            self.sums.iter_mut().zip(&self.unit).for_each(|(sum, &value)| *sum += value);
        }
    }
}

/// Multiplies out rows of each block into its place in the sums.
fn flush(
    shape: &ContributionShape,
    linear: &mut [LinearRows],
    multiply_out: fn(&mut LinearRows, &mut [i64]),
    sums: &mut [i64],
) {
    let mut rows = linear.iter_mut();
    for (start, block) in shape.placed() {
        if !matches!(block, Block::Dense { .. })
            && let Some(rows) = rows.next()
        {
            multiply_out(rows, &mut sums[start..start + block.length()]);
        }
    }
}

/// Adds rounded dense coordinates to the sums of the dense blocks.
#[inline(always)]
fn add_dense(shape: &ContributionShape, rounded: &[i32], sums: &mut [i64]) {
    let mut next = 0;
    for (start, block) in shape.placed() {
        if let Block::Dense { length } = block {
            let values = &rounded[next..next + length];
            for (sum, &value) in sums[start..start + length].iter_mut().zip(values) {
                // Cannot wrap: each term is at most 2^28 and there are fewer than 2^32 units, so |sum| < 2^60.
                *sum = sum.wrapping_add(i64::from(value).wrapping_mul(DENSE_STEPS));
            }
            next += length;
        }
    }
}

/// Largest rounding of a contribution of norm 1 in this shape, see
/// [`PrivateStep::engine_clip_norm`](super::PrivateStep::engine_clip_norm).
pub(super) fn largest_rounding(shape: &ContributionShape) -> f64 {
    let half_step = 0.5 / rows::RIGHT_NORM;
    let block = |(outputs, inputs)| half_step * ((outputs as f64).sqrt() + (inputs as f64 + 1.0).sqrt());
    let linear = shape.linear().map(block).fold(0.0, f64::max);
    linear + 0.5 * (shape.dense() as f64).sqrt() / rounding::STEPS_PER_CLIP_NORM as f64
}
