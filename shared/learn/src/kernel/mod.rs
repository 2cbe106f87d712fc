//! Numeric kernels: matrix products and elementwise functions, one thread.

pub(crate) mod gelu;
pub(crate) mod lanes;
mod matmul;
mod matrix;
mod reduce;

pub(crate) use matmul::{Accumulate, matmul};
pub(crate) use matrix::{Matrix, transpose};
pub(crate) use reduce::{
    add_and_sum, add_columns, axpy, center_and_scale, dot, dot_wide, scale_and_sum, squares_about, subtract,
};
