//! Epsilon of a growing list of steps.

use std::fmt;

use super::{
    AccountantError, PldAccountant, PrivacyAccountant, RdpAccountant, composition::Composition,
    pld::GridCache,
};
use crate::{
    params::{Delta, Epsilon, NeighboringRelation},
    steps::StepCounts,
};

/// Below this, the bound by moments may be the better one.
const TIGHT_FROM: f64 = 1e-3;

/// Computes [`epsilon_of_steps`](super::epsilon_of_steps), and keeps the transforms of single steps meanwhile.
///
/// The figures are those of a new accountant, bit for bit, whatever was asked before. One more step of a kind that is
/// known costs one product and one inverse Fourier transform, but for counts that pass a number of four significant bits
/// (1024, 1152, 1280, ...), for which the grid is made anew.
#[derive(Default)]
pub struct Accountant {
    grids: GridCache,
}

impl Accountant {
    /// An upper bound on the epsilon of `steps`.
    ///
    /// # Errors
    /// As [`PrivacyAccountant::epsilon`].
    pub fn epsilon_of_steps(
        &mut self,
        steps: &StepCounts,
        delta: Delta,
        relation: NeighboringRelation,
    ) -> Result<Epsilon, AccountantError> {
        let composition = Composition::of(steps, relation)?;
        let pld = PldAccountant::default().epsilon_with(&mut self.grids, &composition, delta, relation)?;
        if pld == Epsilon::ZERO || (pld.is_finite() && pld.get() >= TIGHT_FROM) {
            return Ok(pld);
        }
        Ok(pld.min(RdpAccountant.epsilon_of_steps(steps, delta, relation)?))
    }
}

impl fmt::Debug for Accountant {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Accountant").finish_non_exhaustive()
    }
}
