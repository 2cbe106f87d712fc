//! The private step: from clipped contributions of a secret sample to a noisy integer sum.
//!
//! ```text
//! CommittedCharge ──begin──> PrivateStep ──add_units, every sampled unit once──> ──release──> PrivateRelease
//! ```
//!
//! Counts of units take the same way without a sample: [`HistogramStep`].
//!
//! Only a [`CommittedCharge`](crate::CommittedCharge) opens a step and the step consumes it, so nothing is released
//! that the ledger has not recorded first, and nothing is released twice.
//!
//! # Sensitivity by construction
//!
//! Contributions are summed as integers on a [`Grid`] whose step is the clip norm times 2^-28. Where a contribution is a sum
//! of outer products, the factors are rounded and the products are integers; coordinates that are handed over one by
//! one are rounded to every 256th step. The exact squared norm of the integer vector, which follows from inner products of
//! the factors, is compared with 2^56. What exceeds it, or is not finite, is replaced by the zero vector; a unit of several
//! records, whose roundings add up, is first shrunk into the ball in integers. So each unit adds
//! an integer vector inside the ball of radius 2^28 whatever the gradient engine computed, and integer sums have no
//! rounding error and no order (compare Casacuberta et al. 2022). The module `factored` has the bounds of every integer.
//! Hence
//!
//! * `zero_out`: presence against absence changes the sum by at most 2^28 steps, the clip norm;
//! * `replace`: two contributions of one unit differ by at most 2^29 steps, twice the clip norm.
//!
//! Zeroing is safe for both because it is a function of that unit's vector alone, and its value lies in the same ball.
//!
//! # Why discrete noise is accounted as continuous noise
//!
//! With noise multiplier `s`, each coordinate receives a discrete Gaussian of parameter
//! `sigma = ceil(s 2^28) + 1` grid steps. Its privacy is not worse than that of the continuous Gaussian mechanism with
//! deviation `s 2^28`, whose curve the accountants compute, by the following argument.
//!
//! 1. Let the continuous mechanism release `x = y + N(0, r²)` for an integer sum `y`, with `r² = sigma² - 16`.
//!    As `sigma >= s 2^28 + 1 >= 2^18`, also `r >= s 2^28`.
//! 2. Round `x` at random to an integer `z` with probability proportional to `exp(-(z-x)²/(2·16))`. This is
//!    post-processing, free under subsampling and composition alike, because the rounding does not depend on the data.
//! 3. By Poisson summation the normalizer of that rounding is the same for every `x` up to a factor `1 ± κ` with
//!    `κ < 3 exp(-2π²·16) < 1e-136`, so `z` has probability proportional to the convolution
//!    `exp(-(z-y)²/(2 sigma²))` up to that factor: it is the discrete Gaussian centered at `y`.
//! 4. Over all coordinates (at most 2^32) the two mechanisms' log-probabilities differ by less than 1e-125, far below
//!    the upward rounding of every reported epsilon.
//!
//! The discrete Gaussian is also subgaussian with the same parameter (Canonne, Kamath, Steinke 2020) and
//! has the continuous mechanism's Rényi divergences as upper bounds; its own normalizer differs from `sigma sqrt(2π)` by
//! a factor `1 ± 2 exp(-2π² sigma²)`. The sampler draws values beyond `519 sigma` anew, which over all coordinates have
//! probability below 2^-189000, nothing beside the rounding of any delta. Noise multipliers below 2^-10 are refused so
//! that `sigma` stays above 2^18, above 2^12 so that it stays within 2^40 + 1.
//!
//! # What is secret
//!
//! The sample, its size and the sum before noise. None of them appears in `Debug`, in an error or in the release. How
//! long a step takes is not hidden by this crate: releases should leave a site on the round's schedule.

mod discrete_gaussian;
mod error;
mod factored;
mod grid;
mod histogram;
mod poisson;
mod private_step;
mod release;
mod rounding;
mod shape;
mod words;

pub use error::StepError;
pub use grid::Grid;
pub use histogram::{HistogramRelease, HistogramStep, MAX_CELLS};
pub use private_step::{MAX_DIMENSION, MAX_UNITS, PrivateStep};
pub use release::{PrivateRelease, ReleaseParts};
pub use shape::{Block, ContributionShape, Factor, MAX_WIDTH, UnitGroup};
