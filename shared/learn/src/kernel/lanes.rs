//! Vectors of a scalar type, for whichever instruction set a kernel was dispatched to.

use pulp::Simd;

use super::gelu;

/// A scalar type with vectors.
pub trait Lanes: Copy {
    /// A vector register's worth of values.
    type Vector<S: Simd>: Copy;

    /// Values in a vector.
    fn lanes<S: Simd>() -> usize;

    /// The same value in every lane.
    fn splat<S: Simd>(simd: S, value: Self) -> Self::Vector<S>;

    /// `a + b`.
    fn plus<S: Simd>(simd: S, a: Self::Vector<S>, b: Self::Vector<S>) -> Self::Vector<S>;

    /// `a - b`.
    fn minus<S: Simd>(simd: S, a: Self::Vector<S>, b: Self::Vector<S>) -> Self::Vector<S>;

    /// `a b`.
    fn times<S: Simd>(simd: S, a: Self::Vector<S>, b: Self::Vector<S>) -> Self::Vector<S>;

    /// `a b + c`, rounded once where the machine has fused products.
    fn fused<S: Simd>(simd: S, a: Self::Vector<S>, b: Self::Vector<S>, c: Self::Vector<S>)
    -> Self::Vector<S>;

    /// Sum over the lanes.
    fn total<S: Simd>(simd: S, value: Self::Vector<S>) -> Self;

    /// Exact (erf) GELU `x Phi(x)` and its derivative `Phi(x) + x phi(x)` in every lane.
    ///
    /// `f64`: as exact as the error function of the C library; `f32`: `Phi` within 5e-7 absolute.
    fn gelu<S: Simd>(simd: S, x: Self::Vector<S>) -> (Self::Vector<S>, Self::Vector<S>);

    /// `kept` where the 16 bits of `words`, from bit `shift` on, are at least `threshold`, else zero; one value per word.
    fn choose<S: Simd>(
        simd: S,
        words: &[u32; 16],
        shift: u32,
        threshold: u32,
        kept: Self,
        into: &mut [Self; 16],
    ) where
        Self: Sized;

    /// The whole vectors at the start of a slice.
    fn whole<S: Simd>(values: &[Self]) -> &[Self::Vector<S>]
    where
        Self: Sized;

    /// The whole vectors at the start of a slice, to be changed.
    fn whole_mut<S: Simd>(values: &mut [Self]) -> &mut [Self::Vector<S>]
    where
        Self: Sized;

    /// At most one vector of values; zeros beyond.
    fn load<S: Simd>(simd: S, values: &[Self]) -> Self::Vector<S>
    where
        Self: Sized;

    /// As many lanes as `target` has values.
    fn store<S: Simd>(simd: S, target: &mut [Self], value: Self::Vector<S>)
    where
        Self: Sized;
}

macro_rules! lanes {
    ($scalar:ty, $vector:ident, $count:ident, $splat:ident, $add:ident, $sub:ident, $mul:ident, $mul_add:ident, $total:ident, $gelu:ident, $choose:ident, $whole:ident, $whole_mut:ident, $load:ident, $store:ident) => {
        impl Lanes for $scalar {
            type Vector<S: Simd> = S::$vector;

            #[inline(always)]
            fn lanes<S: Simd>() -> usize {
                S::$count
            }

            #[inline(always)]
            fn splat<S: Simd>(simd: S, value: Self) -> S::$vector {
                simd.$splat(value)
            }

            #[inline(always)]
            fn plus<S: Simd>(simd: S, a: S::$vector, b: S::$vector) -> S::$vector {
                simd.$add(a, b)
            }

            #[inline(always)]
            fn minus<S: Simd>(simd: S, a: S::$vector, b: S::$vector) -> S::$vector {
                simd.$sub(a, b)
            }

            #[inline(always)]
            fn times<S: Simd>(simd: S, a: S::$vector, b: S::$vector) -> S::$vector {
                simd.$mul(a, b)
            }

            #[inline(always)]
            fn fused<S: Simd>(simd: S, a: S::$vector, b: S::$vector, c: S::$vector) -> S::$vector {
                simd.$mul_add(a, b, c)
            }

            #[inline(always)]
            fn total<S: Simd>(simd: S, value: S::$vector) -> Self {
                simd.$total(value)
            }

            #[inline(always)]
            fn gelu<S: Simd>(simd: S, x: S::$vector) -> (S::$vector, S::$vector) {
                gelu::$gelu(simd, x)
            }

            #[inline(always)]
            fn choose<S: Simd>(
                simd: S,
                words: &[u32; 16],
                shift: u32,
                threshold: u32,
                kept: Self,
                into: &mut [Self; 16],
            ) {
                $choose(simd, words, shift, threshold, kept, into);
            }

            #[inline(always)]
            fn whole<S: Simd>(values: &[Self]) -> &[S::$vector] {
                S::$whole(values).0
            }

            #[inline(always)]
            fn whole_mut<S: Simd>(values: &mut [Self]) -> &mut [S::$vector] {
                S::$whole_mut(values).0
            }

            #[inline(always)]
            fn load<S: Simd>(simd: S, values: &[Self]) -> S::$vector {
                simd.$load(values)
            }

            #[inline(always)]
            fn store<S: Simd>(simd: S, target: &mut [Self], value: S::$vector) {
                simd.$store(target, value);
            }
        }
    };
}

lanes!(
    f32,
    f32s,
    F32_LANES,
    splat_f32s,
    add_f32s,
    sub_f32s,
    mul_f32s,
    mul_add_f32s,
    reduce_sum_f32s,
    gelu_f32s,
    choose_f32,
    as_simd_f32s,
    as_mut_simd_f32s,
    partial_load_f32s,
    partial_store_f32s
);
lanes!(
    f64,
    f64s,
    F64_LANES,
    splat_f64s,
    add_f64s,
    sub_f64s,
    mul_f64s,
    mul_add_f64s,
    reduce_sum_f64s,
    gelu_f64s,
    choose_f64,
    as_simd_f64s,
    as_mut_simd_f64s,
    partial_load_f64s,
    partial_store_f64s
);

/// [`Lanes::choose`] in vectors.
#[inline(always)]
fn choose_f32<S: Simd>(
    simd: S,
    words: &[u32; 16],
    shift: u32,
    threshold: u32,
    kept: f32,
    into: &mut [f32; 16],
) {
    let (low, shift) = (simd.splat_u32s(0xffff), simd.splat_u32s(shift));
    let (threshold, kept) = (simd.splat_u32s(threshold), simd.splat_f32s(kept));
    for (into, &words) in S::as_mut_simd_f32s(into).0.iter_mut().zip(S::as_simd_u32s(words).0) {
        let bits = simd.and_u32s(simd.wrapping_dyn_shr_u32s(words, shift), low);
        let mask = simd.greater_than_or_equal_u32s(bits, threshold);
        *into = simd.select_f32s(mask, kept, simd.splat_f32s(0.0));
    }
}

/// [`Lanes::choose`] one by one: double precision is for reference figures.
#[inline(always)]
fn choose_f64<S: Simd>(_: S, words: &[u32; 16], shift: u32, threshold: u32, kept: f64, into: &mut [f64; 16]) {
    for (into, &word) in into.iter_mut().zip(words) {
        *into = if (word >> shift) & 0xffff >= threshold { kept } else { 0.0 };
    }
}
