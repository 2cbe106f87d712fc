//! The two scalar types of the engine.
//!
//! Training runs in `f32`. The same code runs in `f64` for reference figures and finite differences.

use std::fmt::{Debug, Display};
use std::iter::Sum;
use std::ops::{AddAssign, DivAssign, MulAssign, SubAssign};

use ndarray::LinalgScalar;
use num_traits::Float;

use crate::kernel::gelu;
use crate::kernel::lanes::Lanes;

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

/// Scalar of the learning engine: `f32` or `f64`.
pub trait Real:
    Float
    + LinalgScalar
    + AddAssign
    + SubAssign
    + MulAssign
    + DivAssign
    + Sum
    + Default
    + Debug
    + Display
    + Send
    + Sync
    + Lanes
    + sealed::Sealed
{
    /// Rounds to this type, to nearest.
    fn of(value: f64) -> Self;

    /// The value as `f64`, exact.
    fn wide(self) -> f64;

    /// Error function. `f64`: within one unit in the last place; `f32`: within 5e-7 absolute.
    fn erf(self) -> Self;
}

impl Real for f32 {
    #[inline(always)]
    fn of(value: f64) -> Self {
        value as f32
    }

    #[inline(always)]
    fn wide(self) -> f64 {
        f64::from(self)
    }

    #[inline(always)]
    fn erf(self) -> Self {
        gelu::erf_f32(self)
    }
}

impl Real for f64 {
    #[inline(always)]
    fn of(value: f64) -> Self {
        value
    }

    #[inline(always)]
    fn wide(self) -> f64 {
        self
    }

    fn erf(self) -> Self {
        libm::erf(self)
    }
}
