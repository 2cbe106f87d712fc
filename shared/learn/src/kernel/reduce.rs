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

/// `x += y`; returns the sum of the new `x`.
#[inline(always)]
pub(crate) fn add_and_sum<F: Real, S: Simd>(simd: S, x: &mut [F], y: &[F]) -> F {
    let lanes = F::lanes::<S>();
    let mut sums = [F::splat(simd, F::zero()); 4];
    let (mut xs, ys) = (x.chunks_exact_mut(4 * lanes), y.chunks_exact(4 * lanes));
    let y_rest = ys.remainder();
    for (x, y) in xs.by_ref().zip(ys) {
        for ((sum, x), &y) in sums.iter_mut().zip(F::whole_mut::<S>(x)).zip(F::whole::<S>(y)) {
            *x = F::plus(simd, *x, y);
            *sum = F::plus(simd, *sum, *x);
        }
    }
    let rest = xs.into_remainder().chunks_mut(lanes).zip(y_rest.chunks(lanes));
    for ((x, y), sum) in rest.zip(&mut sums) {
        let value = F::plus(simd, F::load(simd, x), F::load(simd, y));
        F::store(simd, x, value);
        *sum = F::plus(simd, *sum, value);
    }
    fold(simd, sums)
}

/// Sum of the squares of `x - center`.
#[inline(always)]
pub(crate) fn squares_about<F: Real, S: Simd>(simd: S, center: F, x: &[F]) -> F {
    let lanes = F::lanes::<S>();
    let mut sums = [F::splat(simd, F::zero()); 4];
    let centers = F::splat(simd, center);
    let whole = F::whole::<S>(x);
    for chunk in whole.chunks(4) {
        for (sum, &x) in sums.iter_mut().zip(chunk) {
            let distance = F::minus(simd, x, centers);
            *sum = F::fused(simd, distance, distance, *sum);
        }
    }
    let rest = x[whole.len() * lanes..].iter().map(|&x| (x - center) * (x - center));
    let whole: F = fold(simd, sums);
    whole + rest.sum::<F>()
}

/// `y = x y`, then `into = gain y`; returns the sum of `into` and its inner product with `other`.
#[inline(always)]
pub(crate) fn scale_and_sum<F: Real, S: Simd>(
    simd: S,
    (gain, other): (&[F], &[F]),
    y: &mut [F],
    into: &mut [F],
) -> (F, F) {
    let lanes = F::lanes::<S>();
    let mut sums = [[F::splat(simd, F::zero()); 2]; 2];
    let rows = y.chunks_mut(2 * lanes).zip(into.chunks_mut(2 * lanes));
    for ((y, into), (gain, other)) in rows.zip(gain.chunks(2 * lanes).zip(other.chunks(2 * lanes))) {
        if y.len() == 2 * lanes {
            let (y, into) = (F::whole_mut::<S>(y), F::whole_mut::<S>(into));
            let (gain, other) = (F::whole::<S>(gain), F::whole::<S>(other));
            for (i, sums) in sums.iter_mut().enumerate() {
                y[i] = F::times(simd, y[i], into[i]);
                into[i] = F::times(simd, gain[i], y[i]);
                sums[0] = F::plus(simd, sums[0], into[i]);
                sums[1] = F::fused(simd, into[i], other[i], sums[1]);
            }
            continue;
        }
        let rest = y.chunks_mut(lanes).zip(into.chunks_mut(lanes));
        let rest = rest.zip(gain.chunks(lanes).zip(other.chunks(lanes))).zip(&mut sums);
        for (((y, into), (gain, other)), sums) in rest {
            let upstream = F::times(simd, F::load(simd, y), F::load(simd, into));
            F::store(simd, y, upstream);
            let scaled = F::times(simd, F::load(simd, gain), upstream);
            F::store(simd, into, scaled);
            sums[0] = F::plus(simd, sums[0], scaled);
            sums[1] = F::fused(simd, scaled, F::load(simd, other), sums[1]);
        }
    }
    let [[a, b], [c, d]] = sums;
    (F::total(simd, F::plus(simd, a, c)), F::total(simd, F::plus(simd, b, d)))
}

/// `y = factor (y - mean - x slope)`.
#[inline(always)]
pub(crate) fn center_and_scale<F: Real, S: Simd>(
    simd: S,
    (x, mean, slope): (&[F], F, F),
    factor: F,
    y: &mut [F],
) {
    let [mean, slope, factor] =
        [F::splat(simd, mean), F::splat(simd, F::zero() - slope), F::splat(simd, factor)];
    let whole = F::whole::<S>(x);
    for (y, &x) in F::whole_mut::<S>(y).iter_mut().zip(whole) {
        *y = F::times(simd, factor, F::fused(simd, x, slope, F::minus(simd, *y, mean)));
    }
    let first = whole.len() * F::lanes::<S>();
    if first < x.len() {
        let (x, rest) = (F::load(simd, &x[first..]), &mut y[first..]);
        let value = F::fused(simd, x, slope, F::minus(simd, F::load(simd, rest), mean));
        F::store(simd, rest, F::times(simd, factor, value));
    }
}

/// Vectors of columns that are summed at once.
const PANEL: usize = 4;

/// Adds the columns' sums of a row-major matrix `a`, or of the elementwise product of `a` and `b`, to `sums` `[columns]`.
#[inline(always)]
pub(crate) fn add_columns<F: Real, S: Simd>(simd: S, a: &[F], b: Option<&[F]>, sums: &mut [F]) {
    let columns = sums.len();
    for first in (0..columns).step_by(PANEL * F::lanes::<S>()) {
        let last = columns.min(first + PANEL * F::lanes::<S>());
        add_panel(simd, (a, b), (columns, first), &mut sums[first..last]);
    }
}

/// [`add_columns`] for some columns from `first` on.
#[inline(always)]
fn add_panel<F: Real, S: Simd>(
    simd: S,
    (a, b): (&[F], Option<&[F]>),
    (columns, first): (usize, usize),
    sums: &mut [F],
) {
    let width = sums.len();
    if width < PANEL * F::lanes::<S>() {
        for (row, a) in a.chunks_exact(columns).enumerate() {
            let a = &a[first..first + width];
            match b {
                Some(b) => {
                    let b = &b[row * columns + first..][..width];
                    sums.iter_mut().zip(a.iter().zip(b)).for_each(|(sum, (&a, &b))| *sum += a * b);
                }
                None => axpy(F::one(), a, sums),
            }
        }
        return;
    }
    let mut totals = [F::splat(simd, F::zero()); PANEL];
    totals.copy_from_slice(F::whole::<S>(sums));
    for (row, a) in a.chunks_exact(columns).enumerate() {
        let a = F::whole::<S>(&a[first..first + width]);
        match b {
            Some(b) => {
                let b = F::whole::<S>(&b[row * columns + first..][..width]);
                for ((total, &a), &b) in totals.iter_mut().zip(a).zip(b) {
                    *total = F::fused(simd, a, b, *total);
                }
            }
            None => {
                for (total, &a) in totals.iter_mut().zip(a) {
                    *total = F::plus(simd, *total, a);
                }
            }
        }
    }
    F::whole_mut::<S>(sums).copy_from_slice(&totals);
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

    struct Columns<'a>(&'a [f64], &'a [f64], usize);

    impl WithSimd for Columns<'_> {
        type Output = [Vec<f64>; 3];

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) -> [Vec<f64>; 3] {
            let Self(a, b, columns) = self;
            let mut all = [vec![0.5; columns], vec![0.5; columns], a.to_vec()];
            add_columns(simd, a, None, &mut all[0]);
            add_columns(simd, a, Some(b), &mut all[1]);
            center_and_scale(simd, (b, 0.3, 0.7), 1.5, &mut all[2]);
            all
        }
    }

    #[test]
    fn column_sums_and_centering_match_plain_loops_at_every_remainder() {
        for columns in 1..70 {
            let a: Vec<f64> = (0..3 * columns).map(|i| (i as f64 * 0.7).sin()).collect();
            let b: Vec<f64> = (0..3 * columns).map(|i| (i as f64 * 1.3).cos()).collect();
            let [sums, products, centered] = Arch::new().dispatch(Columns(&a, &b, columns));
            for column in 0..columns {
                let rows = (0..3).map(|row| row * columns + column);
                let sum = 0.5 + rows.clone().map(|i| a[i]).sum::<f64>();
                let product = 0.5 + rows.map(|i| a[i] * b[i]).sum::<f64>();
                assert!((sums[column] - sum).abs() < 1e-12 && (products[column] - product).abs() < 1e-12);
            }
            for (found, (a, b)) in centered.iter().zip(a.iter().zip(&b)) {
                assert!((found - 1.5 * (a - 0.3 - b * 0.7)).abs() < 1e-12, "{columns}");
            }
        }
    }

    struct Both<'a>(&'a [f64], &'a [f64]);

    impl WithSimd for Both<'_> {
        type Output = [f64; 5];

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) -> [f64; 5] {
            let Self(a, b) = self;
            let mut added = a.to_vec();
            let total = add_and_sum(simd, &mut added, b);
            assert!(added.iter().zip(a).zip(b).all(|((&s, &a), &b)| s == a + b));
            let (mut y, mut into) = (a.to_vec(), b.to_vec());
            let sums = scale_and_sum(simd, (b, a), &mut y, &mut into);
            assert!(y.iter().zip(a).zip(b).all(|((&y, &a), &b)| y == a * b));
            assert!(into.iter().zip(&y).zip(b).all(|((&i, &y), &b)| i == b * y));
            [dot(simd, a, b), total, squares_about(simd, 0.25, a), sums.0, sums.1]
        }
    }

    #[test]
    fn reductions_match_plain_loops_at_every_remainder() {
        for n in 0..70 {
            let a: Vec<f64> = (0..n).map(|i| (i as f64 * 0.7).sin()).collect();
            let b: Vec<f64> = (0..n).map(|i| (i as f64 * 1.3).cos()).collect();
            let expected: f64 = a.iter().zip(&b).map(|(x, y)| x * y).sum();
            let of =
                |term: &dyn Fn(f64, f64) -> f64| a.iter().zip(&b).map(|(&x, &y)| term(x, y)).sum::<f64>();
            let expected_all = [
                expected,
                of(&|x, y| x + y),
                of(&|x, _| (x - 0.25) * (x - 0.25)),
                of(&|x, y| y * x * y),
                of(&|x, y| y * x * y * x),
            ];
            for (found, expected) in Arch::new().dispatch(Both(&a, &b)).iter().zip(expected_all) {
                assert!((found - expected).abs() < 1e-12, "{n}");
            }
            assert!((dot_wide(&a, &b) - expected).abs() < 1e-12);
        }
    }
}
