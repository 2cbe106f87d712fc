//! Accounting with Rényi divergences.
//!
//! The divergences of order `α` of composed steps add up (Mironov 2017). A bound at every order gives
//! `epsilon = D_α + ln((α-1)/α) - (ln δ + ln α)/(α-1)` (Canonne, Kamath, Steinke 2020, Proposition 12), and the least of
//! them is reported. Orders are real: a geometric scan of `α - 1` over `[0.01, 10^6]`, then a golden-section search around
//! the best. Every order gives a valid bound, so the search affects tightness only.

mod divergence;

use divergence::log_moment;

use super::{AccountantError, PrivacyAccountant, composition::Composition, search};
use crate::{
    params::{Delta, Epsilon, NeighboringRelation},
    steps::StepCounts,
};

/// Least and greatest `ln(α - 1)` that are tried.
const LOG_TILTS: (f64, f64) = (-4.6, 13.8);

/// Composes Rényi divergences; an independent check of the privacy loss distributions.
#[derive(Debug, Clone, Copy, Default)]
pub struct RdpAccountant;

impl PrivacyAccountant for RdpAccountant {
    fn epsilon_of_steps(
        &self,
        steps: &StepCounts,
        delta: Delta,
        relation: NeighboringRelation,
    ) -> Result<Epsilon, AccountantError> {
        let composition = Composition::of(steps, relation)?;
        if composition.parts.is_empty() {
            return Ok(Epsilon::ZERO);
        }
        let bound = |log_tilt: f64| epsilon_at(&composition, log_tilt.exp(), delta.get(), relation);
        let best = search::minimum(LOG_TILTS, 28, 16, bound);
        // The search passes over NaN and reports infinity if there is nothing else.
        Ok(Epsilon::new(best.value).unwrap_or(Epsilon::INFINITE).coarsened())
    }
}

/// The epsilon that order `1 + tilt` proves.
fn epsilon_at(composition: &Composition, tilt: f64, delta: f64, relation: NeighboringRelation) -> f64 {
    let log_moment: f64 =
        composition.parts.iter().map(|part| part.steps as f64 * log_moment(part, tilt, relation)).sum();
    let epsilon = (log_moment + conversion(tilt) - delta.ln()) / tilt;
    // Outward by more than the rounding of the few operations above.
    let rounding = 1e-14 * (1.0 + (log_moment.abs() + delta.ln().abs() + conversion(tilt).abs()) / tilt);
    let outward = epsilon + rounding;
    // Not `max`, which would make what is not a number the best of all bounds.
    if outward < 0.0 { 0.0 } else { outward }
}

/// `λ ln λ - (λ+1) ln(λ+1)`: the logarithm of the largest value of `(1 - e^-x) e^-λx`.
///
/// It is what converts a bound on `E[e^(λL)]` into one on delta: `(1 - e^(ε-L))₊ <= e^(λ(L-ε)) c(λ)`.
pub(in crate::accountant) fn conversion(tilt: f64) -> f64 {
    // Written so that large tilts do not cancel.
    -tilt * tilt.recip().ln_1p() - tilt.ln_1p()
}

#[cfg(test)]
mod tests;
