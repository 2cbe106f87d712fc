//! Vectors of words for each instruction set.

use pulp::Scalar;

/// Vectors of words, for whichever instruction set a product was dispatched to.
pub(super) trait Words: Copy {
    /// A register's worth of words.
    type Vector: Copy;

    /// Words in a vector.
    const LANES: usize;

    /// Whether there are registers for tiles of four vectors per row.
    const WIDE: bool;

    /// The same word in every lane.
    fn splat(self, word: u32) -> Self::Vector;

    /// The first vector of a slice that has at least one.
    fn load(self, words: &[u32]) -> Self::Vector;

    /// `sum + low(a) low(b) + high(a) high(b)` per lane, halves signed.
    fn multiply_add(self, sum: Self::Vector, a: Self::Vector, b: Self::Vector) -> Self::Vector;

    /// Adds each lane, as a signed number, to the sums, of which there may be fewer than lanes.
    fn add_to(self, lanes: Self::Vector, sums: &mut [i64]);
}

/// Adds signed 32-bit lanes to 64-bit sums.
#[inline(always)]
fn widen<const N: usize>(lanes: [i32; N], sums: &mut [i64]) {
    for (sum, lane) in sums.iter_mut().zip(lanes) {
        // Cannot wrap: see MAX_UNITS.
        *sum = sum.wrapping_add(i64::from(lane));
    }
}

/// Any machine; loops over arrays, which compilers vectorize.
impl Words for Scalar {
    type Vector = [i32; 8];

    const LANES: usize = 8;
    const WIDE: bool = false;

    #[inline(always)]
    fn splat(self, word: u32) -> Self::Vector {
        [word as i32; 8]
    }

    #[inline(always)]
    fn load(self, words: &[u32]) -> Self::Vector {
        let mut vector = [0; 8];
        for (lane, &word) in vector.iter_mut().zip(&words[..8]) {
            *lane = word as i32;
        }
        vector
    }

    #[inline(always)]
    fn multiply_add(self, sum: Self::Vector, a: Self::Vector, b: Self::Vector) -> Self::Vector {
        let mut result = [0; 8];
        for lane in 0..8 {
            let low = i32::from(a[lane] as i16).wrapping_mul(i32::from(b[lane] as i16));
            let high = (a[lane] >> 16).wrapping_mul(b[lane] >> 16);
            result[lane] = sum[lane].wrapping_add(low).wrapping_add(high);
        }
        result
    }

    #[inline(always)]
    fn add_to(self, lanes: Self::Vector, sums: &mut [i64]) {
        widen(lanes, sums);
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use pulp::x86::{V3, V4};
    use pulp::{Simd, cast, i16x16, i16x32, i32x8, i32x16, u32x8, u32x16};

    use super::{Words, widen};

    impl Words for V4 {
        type Vector = u32x16;

        const LANES: usize = 16;
        const WIDE: bool = true;

        #[inline(always)]
        fn splat(self, word: u32) -> u32x16 {
            self.splat_u32s(word)
        }

        #[inline(always)]
        fn load(self, words: &[u32]) -> u32x16 {
            Self::as_simd_u32s(words).0[0]
        }

        #[inline(always)]
        fn multiply_add(self, sum: u32x16, a: u32x16, b: u32x16) -> u32x16 {
            let (a, b): (i16x32, i16x32) = (cast(a), cast(b));
            let products: i32x16 = self.multiply_wrapping_add_adjacent_i16x32(a, b);
            self.add_u32s(sum, cast(products))
        }

        #[inline(always)]
        fn add_to(self, lanes: u32x16, sums: &mut [i64]) {
            widen::<16>(cast(lanes), sums);
        }
    }

    impl Words for V3 {
        type Vector = u32x8;

        const LANES: usize = 8;
        const WIDE: bool = false;

        #[inline(always)]
        fn splat(self, word: u32) -> u32x8 {
            self.splat_u32s(word)
        }

        #[inline(always)]
        fn load(self, words: &[u32]) -> u32x8 {
            Self::as_simd_u32s(words).0[0]
        }

        #[inline(always)]
        fn multiply_add(self, sum: u32x8, a: u32x8, b: u32x8) -> u32x8 {
            let (a, b): (i16x16, i16x16) = (cast(a), cast(b));
            let products: i32x8 = self.multiply_wrapping_add_adjacent_i16x16(a, b);
            self.add_u32s(sum, cast(products))
        }

        #[inline(always)]
        fn add_to(self, lanes: u32x8, sums: &mut [i64]) {
            widen::<8>(cast(lanes), sums);
        }
    }
}
