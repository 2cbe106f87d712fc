//! Sums over slices, in several independent partial sums.

use pulp::Simd;

use crate::real::Real;

/// Independent partial sums of [`dot_wide`].
const LANES: usize = 16;

/// Inner product of two slices of equal length.
#[inline(always)]
pub(crate) fn dot<F: Real, S: Simd>(simd: S, a: &[F], b: &[F]) -> F {
    let lanes = F::lanes::<S>();
    let mut sums = [F::splat(simd, F::zero()); 4];
    let (a_chunks, b_chunks) = (a.chunks_exact(4 * lanes), b.chunks_exact(4 * lanes));
    let rest = a_chunks.remainder().chunks(lanes).zip(b_chunks.remainder().chunks(lanes));
    for (a, b) in a_chunks.zip(b_chunks) {
        let (a, b) = (F::whole::<S>(a), F::whole::<S>(b));
        for ((sum, &a), &b) in sums.iter_mut().zip(a).zip(b) {
            *sum = F::fused(simd, a, b, *sum);
        }
    }
    for ((a, b), sum) in rest.zip(&mut sums) {
        *sum = F::fused(simd, F::load(simd, a), F::load(simd, b), *sum);
    }
    fold(simd, sums)
}

/// Sum of a slice.
#[inline(always)]
pub(crate) fn sum<F: Real, S: Simd>(simd: S, a: &[F]) -> F {
    let lanes = F::lanes::<S>();
    let mut sums = [F::splat(simd, F::zero()); 4];
    let chunks = a.chunks_exact(4 * lanes);
    let rest = chunks.remainder().chunks(lanes);
    for a in chunks {
        for (sum, &a) in sums.iter_mut().zip(F::whole::<S>(a)) {
            *sum = F::plus(simd, *sum, a);
        }
    }
    for (a, sum) in rest.zip(&mut sums) {
        *sum = F::plus(simd, *sum, F::load(simd, a));
    }
    fold(simd, sums)
}

#[inline(always)]
fn fold<F: Real, S: Simd>(simd: S, sums: [F::Vector<S>; 4]) -> F {
    let [a, b, c, d] = sums;
    F::total(simd, F::plus(simd, F::plus(simd, a, b), F::plus(simd, c, d)))
}

/// Inner product summed in `f64`; products of `f32` values are exact.
#[inline(always)]
pub(crate) fn dot_wide<F: Real>(a: &[F], b: &[F]) -> f64 {
    let mut lanes = [0.0; LANES];
    let (a_chunks, b_chunks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest: f64 =
        a_chunks.remainder().iter().zip(b_chunks.remainder()).map(|(&x, &y)| x.wide() * y.wide()).sum();
    for (x, y) in a_chunks.zip(b_chunks) {
        for lane in 0..LANES {
            lanes[lane] += x[lane].wide() * y[lane].wide();
        }
    }
    lanes.iter().sum::<f64>() + rest
}

/// `y += factor x`.
#[inline(always)]
pub(crate) fn axpy<F: Real>(factor: F, x: &[F], y: &mut [F]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y += factor * x;
    }
}

/// `y -= x`.
#[inline(always)]
pub(crate) fn subtract<F: Real>(y: &mut [F], x: &[F]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y -= x;
    }
}

#[cfg(test)]
mod tests {
    use pulp::{Arch, WithSimd};

    use super::*;

    struct Both<'a>(&'a [f64], &'a [f64]);

    impl WithSimd for Both<'_> {
        type Output = (f64, f64);

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) -> (f64, f64) {
            (dot(simd, self.0, self.1), sum(simd, self.0))
        }
    }

    #[test]
    fn reductions_match_plain_loops_at_every_remainder() {
        for n in 0..70 {
            let a: Vec<f64> = (0..n).map(|i| (i as f64 * 0.7).sin()).collect();
            let b: Vec<f64> = (0..n).map(|i| (i as f64 * 1.3).cos()).collect();
            let expected: f64 = a.iter().zip(&b).map(|(x, y)| x * y).sum();
            let (found, total) = Arch::new().dispatch(Both(&a, &b));
            assert!((found - expected).abs() < 1e-12);
            assert!((total - a.iter().sum::<f64>()).abs() < 1e-12);
            assert!((dot_wide(&a, &b) - expected).abs() < 1e-12);
        }
    }
}
