//! What a list of events costs.
//!
//! Two independent accountants compute an upper bound on epsilon at a given delta:
//!
//! * [`PldAccountant`] composes discretized privacy loss distributions and is tight to about 0.01 %;
//! * [`RdpAccountant`] composes Rényi divergences and is looser, at times better for tiny losses.
//!
//! [`epsilon`] reports the smaller of the two valid bounds; [`calibrate_noise`], [`calibrate_rate`] and [`calibrate_steps`]
//! invert it. An [`Accountant`] gives the same figures and remembers what it can, so that one more step costs a fraction of
//! the first computation. [`EpsilonBounds`] encloses the truth from both sides, for checking, and a
//! [`PrivacyProfile`] reads the whole curve.
//!
//! # Dominating pairs of one step
//!
//! With noise multiplier `s` and sampling probability `q`, in units of the clip norm:
//!
//! * `zero_out`: `N(0, s²)` against `(1-q) N(0, s²) + q N(1, s²)`, both directions composed separately, then the larger
//!   epsilon (Zhu, Dong, Wang 2022; Lebeda et al. 2024 on why the directions must not be mixed);
//! * `replace`: `(1-q) N(0, s²) + q N(-1, s²)` against `(1-q) N(0, s²) + q N(1, s²)`, its own mirror image.
//!
//! A table of counts with noise `s` has, under `replace`, the pair of a sum with noise `sqrt(2) s` and `q = 1`, because two
//! vectors of non-negative weights that sum to at most one are at most `sqrt 2` apart, not 2; under `zero_out` that of a sum
//! with noise `s`.
//!
//! Both grow with `q` and fall with `s`. Unlike steps compose in sequence, also across studies.
//!
//! # What composition assumes
//!
//! A step's query may depend on every earlier output; its `s` and `q` may not. Within a study they are fixed before
//! the first round, and whoever stops early learns no more than from all steps. Across studies a site spends one
//! budget at one delta, which composition of privacy loss distributions does not prove for parameters chosen by
//! earlier outputs: with `zero_out` (direction `Remove`) at epsilon 1.5, a step of `s = 2`, `q = 1` followed by
//! `s = 1`, `q = 1` or by `s = 0.15`, `q = 0.0886` has delta 0.0884 either way, but 0.1144 if the first outcome decides
//! which (a test computes both). So the figures hold if later studies' parameters are chosen without regard to earlier
//! outputs, or if the hospital's approval of each study stands between. A budget that needs no such assumption is a
//! privacy filter: Rényi divergences at one order fixed in advance (Feldman, Zrnic 2021, arXiv 2008.11193; Lécuyer
//! 2021, arXiv 2103.01379). The order that [`RdpAccountant`] reports is chosen afterwards, so it is none either.
//!
//! That these pairs dominate every pair of contributions `a`, `b` of norm at most 1, in any dimension:
//!
//! 1. The other units' sample shifts both outputs alike, and the hockey-stick divergence is jointly convex, so the worst
//!    case is a fixed shift, without loss zero: `(1-q) N_0 + q N_a` against `(1-q) N_0 + q N_b`.
//! 2. For `γ = e^ε >= 1` its divergence is `q E[(1 - γ Y_b - c Y_0)₊]` under `N_a`, with `c = (1-q)(γ-1)/q >= 0` and the
//!    likelihood ratios `Y = e^(G - Var G/2)`, where `G_b`, `G_0` are jointly normal with variances `|a-b|²/s²`, `|a|²/s²` and
//!    covariance `(|a|² - <a,b>)/s²`. For `γ < 1` exchange the two distributions.
//! 3. The expectation of a convex function of a nonnegative combination of such ratios grows with every entry of the
//!    covariance (Kahane 1985, convexity inequality). All three are largest for `|a| = 1`, `b = -a`: the pair of `replace`.
//!    With `b = 0` or `a = 0` they are largest at norm 1: the pairs of `zero_out`.
//!
//! # Rounding
//!
//! Every approximation errs upwards: discretization, truncated tails, sums and transforms in floating point. A bound that
//! cannot be established is [`Epsilon::INFINITE`], never a guess. Results are rounded up to 24 significant bits, so that
//! machines whose last bits differ agree.

mod again;
mod bounds;
mod calibration;
mod composition;
mod error;
mod pld;
mod profile;
mod rdp;
mod search;

pub use again::Accountant;
pub use bounds::EpsilonBounds;
pub use calibration::{calibrate_noise, calibrate_noise_beside, calibrate_rate, calibrate_steps};
pub use error::AccountantError;
pub use pld::PldAccountant;
pub use profile::{PrivacyProfile, ProfilePoint, gaussian_mu, largest_odds_factor, largest_posterior};
pub use rdp::RdpAccountant;

use crate::{
    event::DpEvent,
    params::{Delta, Epsilon, NeighboringRelation},
    steps::StepCounts,
};

/// Computes an upper bound on the privacy loss of events that compose in sequence.
pub trait PrivacyAccountant {
    /// An epsilon such that all `events` together are `(epsilon, delta)`-differentially private under `relation`.
    ///
    /// No events cost nothing.
    ///
    /// # Errors
    /// [`AccountantError`] if the events cannot be accounted for; they must not be treated as free then.
    fn epsilon(
        &self,
        events: &[DpEvent],
        delta: Delta,
        relation: NeighboringRelation,
    ) -> Result<Epsilon, AccountantError> {
        self.epsilon_of_steps(&StepCounts::of(events), delta, relation)
    }

    /// The same for counted steps.
    ///
    /// # Errors
    /// As [`PrivacyAccountant::epsilon`].
    fn epsilon_of_steps(
        &self,
        steps: &StepCounts,
        delta: Delta,
        relation: NeighboringRelation,
    ) -> Result<Epsilon, AccountantError>;
}

/// The smaller of the bounds of [`PldAccountant`] and [`RdpAccountant`].
///
/// The second is looked at only where the first is infinite or below 0.001: a bound by moments cannot be below one that
/// is tight by more than the latter's own error.
///
/// # Errors
/// As [`PrivacyAccountant::epsilon`].
pub fn epsilon(
    events: &[DpEvent],
    delta: Delta,
    relation: NeighboringRelation,
) -> Result<Epsilon, AccountantError> {
    epsilon_of_steps(&StepCounts::of(events), delta, relation)
}

/// The same for counted steps.
///
/// # Errors
/// As [`PrivacyAccountant::epsilon`].
pub fn epsilon_of_steps(
    steps: &StepCounts,
    delta: Delta,
    relation: NeighboringRelation,
) -> Result<Epsilon, AccountantError> {
    Accountant::default().epsilon_of_steps(steps, delta, relation)
}
