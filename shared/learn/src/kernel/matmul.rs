//! The one matrix product of the engine.
//!
//! Register tiles of up to 6 rows by 4 vectors, chosen at run time for the widest instruction set of the machine (AVX-512,
//! AVX2 with FMA, NEON or scalar). Neither operand is packed: the right one is row-major, so its vectors are
//! contiguous, and of the left one only single values are read.
//!
//! Every value of the result is the same chain of multiply-adds over k, whatever tile it falls in (a right operand of one
//! column has a chain of its own). So a row of the result depends on its own row of the left operand alone, to the bit:
//! batches can be cut, joined and permuted.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};

use super::dot;
use super::matrix::Matrix;
use crate::real::Real;

/// What a product does with the values that stand in its destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Accumulate {
    /// Overwrite them.
    Replace,
    /// Add to them.
    Add,
}

/// Rows of a full tile: with 4 vectors 24 accumulators, which leaves registers for the operands.
const ROWS: usize = 6;

/// `c = a b` or `c += a b`, with `a` `[M, K]` (stored either way), `b` `[K, N]` row-major, `c` `[M, N]` row-major; one
/// thread.
pub(crate) fn matmul<F: Real>(a: Matrix<'_, F>, b: Matrix<'_, F>, c: &mut [F], mode: Accumulate) {
    debug_assert_eq!((a.columns(), c.len()), (b.rows(), a.rows() * b.columns()));
    debug_assert!(!b.is_transposed());
    Arch::new().dispatch(Product { a, b, c, mode });
}

struct Product<'a, F> {
    a: Matrix<'a, F>,
    b: Matrix<'a, F>,
    c: &'a mut [F],
    mode: Accumulate,
}

impl<F: Real> WithSimd for Product<'_, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        if self.b.columns() == 1 && !self.a.is_transposed() {
            return self.column(simd);
        }
        let lanes = F::lanes::<S>();
        let columns = self.b.columns();
        let mut first = 0;
        // A third of the registers stays free for the right operand and the broadcast.
        if S::REGISTER_COUNT >= 32 {
            while columns - first >= 4 * lanes {
                self.panel::<S, 4>(simd, first..first + 4 * lanes);
                first += 4 * lanes;
            }
        }
        while columns - first >= 2 * lanes {
            self.panel::<S, 2>(simd, first..first + 2 * lanes);
            first += 2 * lanes;
        }
        while first < columns {
            let last = columns.min(first + lanes);
            self.panel::<S, 1>(simd, first..last);
            first = last;
        }
    }
}

impl<F: Real> Product<'_, F> {
    /// A right operand of one column.
    #[inline(always)]
    fn column<S: Simd>(&mut self, simd: S) {
        let width = self.a.columns();
        for (row, c) in self.c.iter_mut().enumerate() {
            let value = dot(simd, &self.a.values()[row * width..][..width], self.b.values());
            *c = if self.mode == Accumulate::Add { *c + value } else { value };
        }
    }

    /// A range of columns of the result: V full vectors, or one that may be partial.
    #[inline(always)]
    fn panel<S: Simd, const V: usize>(&mut self, simd: S, columns: Range<usize>) {
        let rows = self.a.rows();
        let mut row = 0;
        while rows - row >= ROWS {
            self.tile::<S, ROWS, V>(simd, row, &columns);
            row += ROWS;
        }
        while rows - row >= 2 {
            self.tile::<S, 2, V>(simd, row, &columns);
            row += 2;
        }
        if row < rows {
            self.tile::<S, 1, V>(simd, row, &columns);
        }
    }

    #[inline(always)]
    fn tile<S: Simd, const R: usize, const V: usize>(&mut self, simd: S, row: usize, columns: &Range<usize>) {
        let sums = if self.a.is_transposed() {
            self.sums::<S, R, V>(
                simd,
                columns,
                Strided { values: self.a.values(), stride: self.a.rows(), row },
            )
        } else {
            self.sums::<S, R, V>(simd, columns, Rows::new(self.a, row))
        };
        let width = self.b.columns();
        for (r, sums) in sums.into_iter().enumerate() {
            let target = &mut self.c[(row + r) * width..][columns.clone()];
            for (target, sum) in target.chunks_mut(F::lanes::<S>()).zip(sums) {
                let value = match self.mode {
                    Accumulate::Replace => sum,
                    Accumulate::Add => F::plus(simd, F::load(simd, target), sum),
                };
                F::store(simd, target, value);
            }
        }
    }

    /// The tile's values.
    #[inline(always)]
    fn sums<S: Simd, const R: usize, const V: usize>(
        &self,
        simd: S,
        columns: &Range<usize>,
        left: impl Left<F, R>,
    ) -> [[F::Vector<S>; V]; R] {
        let mut sums = [[F::splat(simd, F::zero()); V]; R];
        let partial = columns.len() < V * F::lanes::<S>();
        for (k, row) in self.b.values().chunks_exact(self.b.columns()).enumerate() {
            let row = &row[columns.clone()];
            let mut right = [F::splat(simd, F::zero()); V];
            if partial {
                right = [F::load(simd, row); V];
            } else {
                right.copy_from_slice(&F::whole::<S>(row)[..V]);
            }
            for (r, sums) in sums.iter_mut().enumerate() {
                let left = F::splat(simd, left.at(k, r));
                for (sum, &right) in sums.iter_mut().zip(&right) {
                    *sum = F::fused(simd, left, right, *sum);
                }
            }
        }
        sums
    }
}

/// R rows of a left operand.
trait Left<F, const R: usize> {
    /// Value of the tile's row `r` at `k`.
    fn at(&self, k: usize, r: usize) -> F;
}

/// Rows that lie one after the other.
struct Rows<'a, F, const R: usize>([&'a [F]; R]);

impl<'a, F, const R: usize> Rows<'a, F, R> {
    #[inline(always)]
    fn new(a: Matrix<'a, F>, row: usize) -> Self {
        let width = a.columns();
        let mut rows: [&[F]; R] = [&[]; R];
        // Not `array::from_fn`, which is not inlined into code for wider registers.
        for (r, values) in rows.iter_mut().enumerate() {
            *values = &a.values()[(row + r) * width..][..width];
        }
        Self(rows)
    }
}

impl<F: Copy, const R: usize> Left<F, R> for Rows<'_, F, R> {
    #[inline(always)]
    fn at(&self, k: usize, r: usize) -> F {
        self.0[r][k]
    }
}

/// Rows of a transposed operand: neighbors in memory at each k.
struct Strided<'a, F> {
    values: &'a [F],
    stride: usize,
    row: usize,
}

impl<F: Copy, const R: usize> Left<F, R> for Strided<'_, F> {
    #[inline(always)]
    fn at(&self, k: usize, r: usize) -> F {
        self.values[k * self.stride + self.row..][..R][r]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::transpose;

    fn values(count: usize, phase: f64) -> Vec<f64> {
        (0..count).map(|i| (i as f64 * 0.7 + phase).sin()).collect()
    }

    fn naive(a: &[f64], b: &[f64], (m, k, n): (usize, usize, usize)) -> Vec<f64> {
        let mut c = vec![0.0; m * n];
        for i in 0..m {
            for j in 0..n {
                c[i * n + j] = (0..k).map(|x| a[i * k + x] * b[x * n + j]).sum();
            }
        }
        c
    }

    /// A product on every instruction set that this machine has.
    fn on_each<F: Real>(a: Matrix<'_, F>, b: Matrix<'_, F>, mode: Accumulate, start: &[F]) -> Vec<Vec<F>> {
        let run = |dispatch: &dyn Fn(Product<'_, F>)| {
            let mut c = start.to_vec();
            dispatch(Product { a, b, c: &mut c, mode });
            c
        };
        let mut all = vec![run(&|product| Arch::new().dispatch(product))];
        all.push(run(&|product| Simd::vectorize(pulp::Scalar::new(), product)));
        #[cfg(target_arch = "x86_64")]
        if let Some(simd) = pulp::x86::V3::try_new() {
            all.push(run(&|product| Simd::vectorize(simd, product)));
        }
        all
    }

    fn check<F: Real>((m, k, n): (usize, usize, usize), tolerance: f64) {
        let (a, b) = (values(m * k, 0.1), values(k * n, 0.4));
        let expected = naive(&a, &b, (m, k, n));
        let narrow = |values: &[f64]| values.iter().map(|&v| F::of(v)).collect::<Vec<F>>();
        let (a, b) = (narrow(&a), narrow(&b));
        let mut flipped = Vec::new();
        transpose(&a, m, k, &mut flipped);
        for left in [Matrix::new(&a, m, k), Matrix::new(&flipped, k, m).t()] {
            let right = Matrix::new(&b, k, n);
            for once in on_each(left, right, Accumulate::Replace, &vec![F::nan(); m * n]) {
                for twice in on_each(left, right, Accumulate::Add, &once) {
                    for (c, e) in twice.iter().zip(&expected) {
                        assert!((c.wide() - 2.0 * e).abs() <= tolerance, "{m} {k} {n}: {c} against {e}");
                    }
                }
            }
        }
    }

    #[test]
    fn agrees_with_the_definition_at_every_remainder() {
        for m in [0, 1, 2, 5, 6, 7, 13] {
            for k in [0, 1, 3, 8] {
                for n in [1, 2, 7, 8, 15, 16, 17, 33, 64, 70] {
                    check::<f64>((m, k, n), 1e-13);
                    check::<f32>((m, k, n), 1e-5);
                }
            }
        }
        check::<f32>((65, 130, 129), 1e-4);
    }

    #[test]
    fn a_row_has_the_same_bits_wherever_it_stands() {
        let (k, n) = (37, 41);
        let a: Vec<f32> = values(23 * k, 0.2).into_iter().map(|v| v as f32).collect();
        let b: Vec<f32> = values(k * n, 0.9).into_iter().map(|v| v as f32).collect();
        let mut whole = vec![0.0; 23 * n];
        matmul(Matrix::new(&a, 23, k), Matrix::new(&b, k, n), &mut whole, Accumulate::Replace);
        for row in 0..23 {
            let mut single = vec![0.0; n];
            let a = Matrix::new(&a[row * k..][..k], 1, k);
            matmul(a, Matrix::new(&b, k, n), &mut single, Accumulate::Replace);
            assert_eq!(single, whole[row * n..][..n], "row {row}");
        }
    }
}
