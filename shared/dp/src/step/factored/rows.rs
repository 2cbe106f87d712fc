//! Rows of a linear block as 16-bit integers, and what follows from them exactly.

use super::product::{Packed, multiply};

/// Largest magnitude of an integer in a row.
const LARGEST: u32 = 32_767;
/// Adding 1.5 * 2^23 to a single of magnitude below 2^22 leaves its nearest integer, ties to even, in the low mantissa
/// bits. Unlike a cast this needs no branch and vectorizes.
///
/// Bits less those of the offset are more than 2^22 in magnitude for every other single, NaN and infinities included: among
/// positive singles bits ascend with the value, and those of negative ones are more than 2^29 away from the offset's, counted
/// modulo 2^32.
const ROUNDING_OFFSET: f32 = 12_582_912.0;
/// Norm of a right row in its integers, 2^14.
pub(super) const RIGHT_NORM: f64 = 16_384.0;
/// Right rows with a squared norm below this count as zero, those above as outside.
const RIGHT_SQUARES: std::ops::RangeInclusive<f32> = 1e-30..=1e30;
/// Most rows into which a long left row is cut.
const MOST_PIECES: f32 = 64.0;
/// Most rows of a product run; more would not stay in the first-level cache.
const RUN_ROWS: usize = 128;
/// Most that the bounds of a run may add up to, so that its sums fit 32 bits.
const RUN_BOUND: u64 = i32::MAX as u64;

/// What became of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rounded {
    /// Its integers were appended; none where they are all zero.
    Inside,
    /// It is not finite or too long to be written down: its unit counts as the zero vector.
    Outside,
}

/// Rows `left_t`, `right_t` of a linear block that are not in the sums yet.
pub(super) struct LinearRows {
    outputs: usize,
    inputs: usize,
    /// `[rows, outputs]`.
    left: Vec<i16>,
    /// `[rows, inputs]`.
    right: Vec<i16>,
    /// What the bias column of the right side holds, `[rows]`.
    constant: Vec<i16>,
    /// Largest magnitude of a product of each row, `[rows]`.
    bounds: Vec<u32>,
    /// First row of the last unit.
    mark: usize,
    scratch: [Vec<u32>; 3],
}

impl LinearRows {
    pub(super) fn new(outputs: usize, inputs: usize) -> Self {
        Self {
            outputs,
            inputs,
            left: Vec::new(),
            right: Vec::new(),
            constant: Vec::new(),
            bounds: Vec::new(),
            mark: 0,
            scratch: [const { Vec::new() }; 3],
        }
    }

    /// Rows that stand here.
    pub(super) fn len(&self) -> usize {
        self.bounds.len()
    }

    /// Begins a unit.
    pub(super) fn begin_unit(&mut self) {
        self.mark = self.len();
    }

    /// Rows of the last unit.
    pub(super) fn unit_len(&self) -> usize {
        self.len() - self.mark
    }

    /// Removes the last unit.
    pub(super) fn remove_unit(&mut self) {
        self.truncate(self.mark);
    }

    fn truncate(&mut self, rows: usize) {
        self.left.truncate(rows * self.outputs);
        self.right.truncate(rows * self.inputs);
        self.constant.truncate(rows);
        self.bounds.truncate(rows);
    }

    /// Appends `steps left (x) (right, constant)` in integers, where `steps` converts a product to grid steps.
    ///
    /// The right side is scaled to norm 2^14 and rounded, the left side takes the rest of the scale. A left side that 16
    /// bits do not hold is cut into equal rows.
    #[inline(always)]
    pub(super) fn push(&mut self, left: &[f32], right: &[f32], constant: bool, steps: f64) -> Rounded {
        let squares = squares(right) + if constant { 1.0 } else { 0.0 };
        if squares < *RIGHT_SQUARES.start() {
            return Rounded::Inside;
        }
        if !RIGHT_SQUARES.contains(&squares) {
            return Rounded::Outside;
        }
        let scale = RIGHT_NORM / f64::from(squares).sqrt();
        let rows = self.len();
        let left_scale = (steps / scale) as f32;
        self.left.resize((rows + 1) * self.outputs, 0);
        let rounded = round(left, left_scale, &mut self.left[rows * self.outputs..]);
        let (left_largest, pieces) = match rounded {
            Some(largest) => (largest, 1),
            None => match self.cut(left, left_scale) {
                Some(cut) => cut,
                None => return self.give_up(rows),
            },
        };
        if left_largest == 0 {
            self.truncate(rows);
            return Rounded::Inside;
        }
        self.right.resize((rows + 1) * self.inputs, 0);
        let Some(right_largest) = round(right, scale as f32, &mut self.right[rows * self.inputs..]) else {
            return self.give_up(rows);
        };
        // At most 2^14, since the constant is part of the norm.
        let constant = if constant { scale.round() as i16 } else { 0 };
        self.constant.push(constant);
        self.bounds.push(left_largest * right_largest.max(u32::from(constant.unsigned_abs())));
        for _ in 1..pieces {
            self.repeat_last();
        }
        Rounded::Inside
    }

    fn give_up(&mut self, rows: usize) -> Rounded {
        self.truncate(rows);
        Rounded::Outside
    }

    /// Rounds one of several equal pieces of a long left side into the last row; its largest magnitude, and their number.
    fn cut(&mut self, left: &[f32], scale: f32) -> Option<(u32, usize)> {
        let largest = left.iter().fold(0.0_f32, |largest, &value| largest.max((value * scale).abs()));
        let pieces = (largest / LARGEST as f32).ceil() + 1.0;
        if !(2.0..=MOST_PIECES).contains(&pieces) {
            return None;
        }
        let start = self.left.len() - self.outputs;
        let largest = round(left, scale / pieces, &mut self.left[start..])?;
        Some((largest, pieces as usize))
    }

    /// Appends a copy of the last row.
    fn repeat_last(&mut self) {
        self.left.extend_from_within(self.left.len() - self.outputs..);
        self.right.extend_from_within(self.right.len() - self.inputs..);
        self.constant.extend_from_within(self.constant.len() - 1..);
        self.bounds.extend_from_within(self.bounds.len() - 1..);
    }

    /// Exact squared norm of `sum_t left_t (x) (right_t, constant_t)` over the rows of the last unit.
    ///
    /// `sum_{t,t'} <left_t, left_t'> (<right_t, right_t'> + constant_t constant_t')`: inner products are below 2^47 in
    /// magnitude, their products below 2^94.
    #[inline(always)]
    pub(super) fn squared_norm(&self) -> i128 {
        let mut total = 0;
        for t in self.mark..self.len() {
            total += self.inner(t, t);
            for s in self.mark..t {
                total += 2 * self.inner(t, s);
            }
        }
        total
    }

    #[inline(always)]
    fn inner(&self, t: usize, s: usize) -> i128 {
        let (outputs, inputs) = (self.outputs, self.inputs);
        let left = dot(&self.left[t * outputs..][..outputs], &self.left[s * outputs..][..outputs]);
        let right = dot(&self.right[t * inputs..][..inputs], &self.right[s * inputs..][..inputs]);
        let constant = i64::from(self.constant[t]) * i64::from(self.constant[s]);
        i128::from(left) * i128::from(right + constant)
    }

    /// Adds all rows to the sums of this block, weight then bias if it has one, and removes them.
    pub(super) fn flush(&mut self, sums: &mut [i64]) {
        self.multiply_out(0, sums);
        self.mark = 0;
    }

    /// Adds the rows of the last unit to `sums`, weight then bias, and removes them.
    pub(super) fn flush_unit(&mut self, sums: &mut [i64]) {
        self.multiply_out(self.mark, sums);
    }

    fn multiply_out(&mut self, first: usize, sums: &mut [i64]) {
        let (weight, bias) = sums.split_at_mut(self.outputs * self.inputs);
        let mut row = first;
        while row < self.len() {
            let last = row + self.run(row);
            let [one, two, three] = &mut self.scratch;
            let left = &self.left[row * self.outputs..last * self.outputs];
            let left = Packed::new(left, self.outputs, one);
            let right = &self.right[row * self.inputs..last * self.inputs];
            multiply(left, Packed::new(right, self.inputs, two), weight);
            if !bias.is_empty() {
                multiply(Packed::new(&self.constant[row..last], 1, three), left, bias);
            }
            row = last;
        }
        self.truncate(first);
    }

    /// Number of rows from `first` on whose products may be summed in 32 bits; at least one.
    fn run(&self, first: usize) -> usize {
        let mut total = 0;
        let fits = self.bounds[first..].iter().take(RUN_ROWS).take_while(|&&bound| {
            total += u64::from(bound);
            total <= RUN_BOUND
        });
        fits.count()
    }
}

#[cfg(test)]
impl LinearRows {
    /// Left side, and right side with the constant behind it, of each row.
    pub(super) fn integers(&self) -> Vec<(Vec<i128>, Vec<i128>)> {
        let wide = |values: &[i16]| values.iter().map(|&v| i128::from(v)).collect::<Vec<_>>();
        let row = |row: usize| {
            let left = wide(&self.left[row * self.outputs..][..self.outputs]);
            let right = wide(&self.right[row * self.inputs..][..self.inputs]);
            (left, [right, vec![i128::from(self.constant[row])]].concat())
        };
        (0..self.len()).map(row).collect()
    }
}

/// Rounds `values * scale` to nearest; the largest magnitude, or `None` if a value is not finite or needs more than 16 bits.
///
/// What was written means nothing in the latter case.
#[inline(always)]
fn round(values: &[f32], scale: f32, into: &mut [i16]) -> Option<u32> {
    let mut largest = 0;
    for (into, &value) in into.iter_mut().zip(values) {
        let bits = (value * scale + ROUNDING_OFFSET).to_bits();
        let steps = bits.wrapping_sub(ROUNDING_OFFSET.to_bits()) as i32;
        *into = steps as i16;
        largest = steps.unsigned_abs().max(largest);
    }
    (largest <= LARGEST).then_some(largest)
}

/// Sum of squares, in several partial sums; only the choice of a scale depends on it.
#[inline(always)]
fn squares(values: &[f32]) -> f32 {
    let mut lanes = [0.0; 64];
    let chunks = values.chunks_exact(lanes.len());
    for (lane, &value) in lanes.iter_mut().zip(chunks.remainder()) {
        *lane = value * value;
    }
    for chunk in chunks {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            *lane += value * value;
        }
    }
    let mut width = lanes.len() / 2;
    while width > 0 {
        let (low, high) = lanes.split_at_mut(width);
        low.iter_mut().zip(high).for_each(|(low, high)| *low += *high);
        width /= 2;
    }
    lanes[0]
}

/// Exact inner product of at most 2^16 pairs.
#[inline(always)]
fn dot(a: &[i16], b: &[i16]) -> i64 {
    let mut total = 0_i64;
    for (&a, &b) in a.iter().zip(b) {
        total = total.wrapping_add(i64::from(i32::from(a).wrapping_mul(i32::from(b))));
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn singles_that_need_more_than_16_bits_are_noticed_whatever_their_bits() {
        // A sample of all bit patterns, coprime stride, and the edges.
        let edges = [32_767.4_f32, -32_767.4, 32_767.6, -32_767.6, -25_165_824.0, 4_194_304.0, f32::MAX];
        let all = (0..=u32::MAX).step_by(9_973).map(f32::from_bits);
        for value in all.chain(edges).chain([f32::NAN, f32::INFINITY, f32::NEG_INFINITY]) {
            let mut into = [0];
            let expected = value.round_ties_even();
            if expected.abs() <= 32_767.0 {
                assert_eq!(round(&[value], 1.0, &mut into), Some(expected.abs() as u32), "{value}");
                assert_eq!(f32::from(into[0]), expected, "{value}");
            } else {
                assert_eq!(round(&[value], 1.0, &mut into), None, "{value}");
            }
        }
    }
}
