//! Exact products of 16-bit integers, summed in 32 bits.
//!
//! A *word* holds the values of two neighboring rows of one column: the earlier row in its low half. One step multiplies two
//! pairs of halves and adds both products to a 32-bit sum, which is a single instruction on x86. Nothing here can overflow
//! for rows whose bounds add up to less than 2^31, which the caller sees to; so the result does not depend on the order of
//! rows, on the instruction set or on how rows are cut into runs.

use pulp::{NullaryFnOnce, Scalar};

use super::words::Words;

/// Rows of a full tile.
const ROWS: usize = 6;

/// Words of an operand: `[pairs, columns]`, each pair of rows padded with zeros to whole vectors.
#[derive(Clone, Copy)]
pub(super) struct Packed<'a> {
    words: &'a [u32],
    columns: usize,
}

/// Words per pair of rows: whole vectors of the widest instruction set.
fn stride(columns: usize) -> usize {
    columns.next_multiple_of(16)
}

impl<'a> Packed<'a> {
    /// Packs consecutive rows `[rows, columns]` into words; a missing second row counts as zeros.
    pub(super) fn new(values: &[i16], columns: usize, into: &'a mut Vec<u32>) -> Self {
        let stride = stride(columns);
        into.clear();
        into.resize(values.len().div_ceil(2 * columns) * stride, 0);
        for (words, pair) in into.chunks_exact_mut(stride).zip(values.chunks(2 * columns)) {
            let (first, second) = pair.split_at(columns);
            if second.is_empty() {
                words.iter_mut().zip(first).for_each(|(word, &low)| *word = half(low));
            }
            for ((word, &low), &high) in words.iter_mut().zip(first).zip(second) {
                *word = half(low) | half(high) << 16;
            }
        }
        Self { words: into, columns }
    }
}

fn half(value: i16) -> u32 {
    u32::from(value as u16)
}

/// `sums += left^T right` with `left` `[rows, M]`, `right` `[rows, N]` and `sums` `[M, N]` row-major.
#[inline(always)]
pub(super) fn product<W: Words>(simd: W, left: Packed<'_>, right: Packed<'_>, sums: &mut [i64]) {
    let mut product = Product { left, right, sums };
    let vectors = right.columns.div_ceil(W::LANES);
    let mut vector = 0;
    while vector < vectors {
        let first = vector * W::LANES;
        match vectors - vector {
            4.. if W::WIDE => {
                product.panel::<W, 4>(simd, first);
                vector += 4;
            }
            3 if W::WIDE => {
                product.panel::<W, 3>(simd, first);
                vector += 3;
            }
            2.. => {
                product.panel::<W, 2>(simd, first);
                vector += 2;
            }
            _ => {
                product.panel::<W, 1>(simd, first);
                vector += 1;
            }
        }
    }
}

struct Product<'a> {
    left: Packed<'a>,
    right: Packed<'a>,
    sums: &'a mut [i64],
}

impl Product<'_> {
    /// V vectors of columns, from column `first` on.
    #[inline(always)]
    fn panel<W: Words, const V: usize>(&mut self, simd: W, first: usize) {
        let outputs = self.left.columns;
        let mut row = 0;
        while outputs - row >= ROWS {
            self.tile::<W, ROWS, V>(simd, row, first);
            row += ROWS;
        }
        while outputs - row >= 2 {
            self.tile::<W, 2, V>(simd, row, first);
            row += 2;
        }
        if row < outputs {
            self.tile::<W, 1, V>(simd, row, first);
        }
    }

    #[inline(always)]
    fn tile<W: Words, const R: usize, const V: usize>(&mut self, simd: W, row: usize, first: usize) {
        let mut tile = [[simd.splat(0); V]; R];
        let pairs = self.left.words.chunks_exact(stride(self.left.columns));
        for (left, right) in pairs.zip(self.right.words.chunks_exact(stride(self.right.columns))) {
            let right = &right[first..first + V * W::LANES];
            let mut vectors = [simd.splat(0); V];
            for (v, vector) in vectors.iter_mut().enumerate() {
                *vector = simd.load(&right[v * W::LANES..]);
            }
            for (sums, &left) in tile.iter_mut().zip(&left[row..row + R]) {
                let left = simd.splat(left);
                for (sum, &right) in sums.iter_mut().zip(&vectors) {
                    *sum = simd.multiply_add(*sum, left, right);
                }
            }
        }
        let columns = self.right.columns;
        let last = columns.min(first + V * W::LANES);
        for (r, vectors) in tile.into_iter().enumerate() {
            let target = &mut self.sums[(row + r) * columns..][first..last];
            for (target, vector) in target.chunks_mut(W::LANES).zip(vectors) {
                simd.add_to(vector, target);
            }
        }
    }
}

/// [`product`] on the widest instruction set of the machine.
pub(super) fn multiply(left: Packed<'_>, right: Packed<'_>, sums: &mut [i64]) {
    #[cfg(target_arch = "x86_64")]
    {
        if let Some(simd) = pulp::x86::V4::try_new() {
            return simd.vectorize(Call { simd, left, right, sums });
        }
        if let Some(simd) = pulp::x86::V3::try_new() {
            return simd.vectorize(Call { simd, left, right, sums });
        }
    }
    Call { simd: Scalar::new(), left, right, sums }.call();
}

/// A call of [`product`]. Not a closure, which is not inlined into code for wider registers.
struct Call<'a, W> {
    simd: W,
    left: Packed<'a>,
    right: Packed<'a>,
    sums: &'a mut [i64],
}

impl<W: Words> NullaryFnOnce for Call<'_, W> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        product(self.simd, self.left, self.right, self.sums);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(count: usize, phase: i64) -> Vec<i16> {
        (0..count as i64).map(|i| ((i * 7_919 + phase) * 104_729 % 65_535 - 32_767) as i16).collect()
    }

    fn naive(left: &[i16], right: &[i16], (rows, m, n): (usize, usize, usize)) -> Vec<i64> {
        let mut sums = vec![5; m * n];
        for row in 0..rows {
            for i in 0..m {
                for j in 0..n {
                    sums[i * n + j] += i64::from(left[row * m + i]) * i64::from(right[row * n + j]);
                }
            }
        }
        sums
    }

    /// The product on every instruction set that this machine has.
    fn on_each(left: &[i16], right: &[i16], (m, n): (usize, usize)) -> Vec<Vec<i64>> {
        let (mut one, mut two) = (Vec::new(), Vec::new());
        let (left, right) = (Packed::new(left, m, &mut one), Packed::new(right, n, &mut two));
        let run = |dispatch: &dyn Fn(&mut [i64])| {
            let mut sums = vec![5; m * n];
            dispatch(&mut sums);
            sums
        };
        let mut all = vec![run(&|sums| multiply(left, right, sums))];
        all.push(run(&|sums| product(Scalar::new(), left, right, sums)));
        #[cfg(target_arch = "x86_64")]
        if let Some(simd) = pulp::x86::V3::try_new() {
            all.push(run(&|sums| simd.vectorize(Call { simd, left, right, sums })));
        }
        all
    }

    #[test]
    fn agrees_with_the_definition_at_every_remainder() {
        for rows in [0, 1, 2, 3, 8] {
            for m in [1, 2, 5, 6, 7, 13] {
                for n in [1, 7, 8, 15, 16, 17, 33, 47, 48, 64, 65, 70] {
                    // Values whose products, eight of them, stay inside 32 bits.
                    let small = |v: Vec<i16>| v.into_iter().map(|v| v / 4).collect::<Vec<_>>();
                    let (left, right) = (small(values(rows * m, 3)), small(values(rows * n, 11)));
                    let expected = naive(&left, &right, (rows, m, n));
                    for found in on_each(&left, &right, (m, n)) {
                        assert_eq!(found, expected, "{rows} {m} {n}");
                    }
                }
            }
        }
    }

    #[test]
    fn the_largest_pair_of_products_fits() {
        for (low, high) in [(32_767, 32_767), (-32_767, -32_767), (32_767, -32_767)] {
            let expected = naive(&[32_767, 32_767], &[low, high], (2, 1, 1));
            for found in on_each(&[32_767, 32_767], &[low, high], (1, 1)) {
                assert_eq!(found, expected);
            }
        }
    }
}
