//! Accounting with privacy loss distributions.
//!
//! One direction of a relation is computed in four stages, one file each:
//!
//! 1. `pair`, `losses`: the loss of each kind of step on a grid, connecting the dots from above;
//! 2. `tilt`: the exponential tilt at which the tail that decides delta is likely;
//! 3. `convolution`: all steps composed by Fourier transform, with a bound on its rounding;
//! 4. `curve`: the epsilon at which the composed curve meets what is left of delta.
//!
//! `grid` joins them, `cache` keeps grids, and `merged` discretizes from below, for lower bounds to check with.
//!
//! Delta pays for everything left out: probability truncated into an infinite loss, losses beyond the window (Chernoff),
//! rounding of the transforms. Epsilon pays for the rounding of losses.
//!
//! # Choice of the interval
//!
//! Dividing a cell's mass over its ends keeps mass and mean of `e^-L` and raises `E[e^(λL)]` by a factor of at most
//! `1 + λ(λ+1) h²/8`, so `T` steps raise epsilon by about `T (λ+1) h²/8` or less. The interval `h` makes that 0.01 %.
//!
//! # Same steps, same figure
//!
//! Coordinator and sites compare epsilons, so a figure must not depend on what was computed before. A grid is therefore
//! chosen for counts rounded up to four significant bits, whatever the counts are, and then composes the true ones.

mod cache;
mod convolution;
mod curve;
mod grid;
mod losses;
mod merged;
pub(in crate::accountant) mod pair;
mod tilt;

pub(in crate::accountant) use self::cache::GridCache;
use self::{
    grid::{Grid, RangedPair, longest_range},
    losses::LossRange,
    pair::{Direction, DominatingPair},
};
use super::{
    AccountantError, EpsilonBounds, PrivacyAccountant,
    composition::{Composition, Part},
};
use crate::{
    params::{Delta, Epsilon, NeighboringRelation},
    steps::StepCounts,
};

/// Epsilons below this are computed with the absolute error of this one.
const LEAST_RESOLVED: f64 = 1e-4;
/// Most points of the composed grid: adaptive, and with a fixed interval.
const MOST_POINTS: (usize, usize) = (1 << 20, 1 << 23);
/// Fraction of delta that truncating the steps' upper tails may cost.
const TRUNCATION: f64 = 1e-5;
/// Most times that the interval of a lower bound is halved.
const MOST_HALVINGS: usize = 4;
/// Relative gain by halving it below which a lower bound has settled.
const SETTLED: f64 = 1e-3;
/// Deltas below this are not resolved in double precision.
const LEAST_DELTA: f64 = 1e-200;

/// On which side of the truth a computation errs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    /// Upper bounds, the only ones that are reported as privacy.
    Above,
    /// Lower bounds, to check the others with.
    Below,
}

/// Composes discretized privacy loss distributions: an upper bound on epsilon, tight to about 0.01 %.
#[derive(Debug, Clone, Copy, Default)]
pub struct PldAccountant {
    /// Spacing of the loss grid; adaptive if absent.
    interval: Option<f64>,
}

impl PldAccountant {
    /// An accountant with a fixed spacing of the privacy loss grid, to compare with others that have one.
    ///
    /// The bound holds for every interval; only its tightness depends on it. [`PldAccountant::default`] adapts.
    ///
    /// # Errors
    /// [`AccountantError::Interval`] unless `interval` is finite and above zero.
    pub fn with_interval(interval: f64) -> Result<Self, AccountantError> {
        if interval > 0.0 && interval.is_finite() {
            Ok(Self { interval: Some(interval) })
        } else {
            Err(AccountantError::Interval { interval })
        }
    }

    /// A lower and an upper bound on the true epsilon of `steps`: what no correct accountant can go below, and what
    /// [`PrivacyAccountant::epsilon_of_steps`] reports.
    ///
    /// The lower bound is zero where none could be established; it is for checking, never for a budget.
    ///
    /// # Errors
    /// As [`PrivacyAccountant::epsilon`].
    pub fn bounds(
        &self,
        steps: &StepCounts,
        delta: Delta,
        relation: NeighboringRelation,
    ) -> Result<EpsilonBounds, AccountantError> {
        let composition = Composition::of(steps, relation)?;
        let mut lower = Epsilon::ZERO;
        for &direction in Direction::all(relation) {
            lower = lower.max(Steps::of(&composition, direction, delta.get()).lower(self.interval)?);
        }
        Ok(EpsilonBounds { lower, upper: self.epsilon_of_steps(steps, delta, relation)? })
    }

    /// The bound, with grids from `cache`.
    pub(in crate::accountant) fn epsilon_with(
        &self,
        cache: &mut GridCache,
        composition: &Composition,
        delta: Delta,
        relation: NeighboringRelation,
    ) -> Result<Epsilon, AccountantError> {
        let mut largest = Epsilon::ZERO;
        for &direction in Direction::all(relation) {
            let steps = Steps::of(composition, direction, delta.get());
            largest = largest.max(steps.upper(self.interval, cache)?);
        }
        Ok(largest.coarsened())
    }
}

impl PrivacyAccountant for PldAccountant {
    fn epsilon_of_steps(
        &self,
        steps: &StepCounts,
        delta: Delta,
        relation: NeighboringRelation,
    ) -> Result<Epsilon, AccountantError> {
        self.epsilon_with(&mut GridCache::default(), &Composition::of(steps, relation)?, delta, relation)
    }
}

/// The steps of a composition in one direction.
struct Steps<'a> {
    parts: &'a [Part],
    direction: Direction,
    counts: Vec<u64>,
    delta: f64,
}

impl<'a> Steps<'a> {
    fn of(composition: &'a Composition, direction: Direction, delta: f64) -> Self {
        let counts = composition.parts.iter().map(|part| part.steps).collect();
        Self { parts: &composition.parts, direction, counts, delta }
    }

    fn pairs(&self) -> impl Iterator<Item = DominatingPair> + '_ {
        self.parts.iter().map(|part| DominatingPair::new(part, self.direction))
    }

    /// Each kind of step with the range of losses to discretize if there are `counts` of them.
    fn ranged(&self, counts: &[u64]) -> Vec<RangedPair> {
        let total: f64 = counts.iter().map(|&count| count as f64).sum();
        let tail = TRUNCATION * self.delta / total.max(1.0);
        self.pairs().map(|pair| (pair, LossRange::of(&pair, tail))).collect()
    }

    /// Epsilon where it needs no composition: zero if delta pays for everything, infinite if nothing can be resolved.
    fn trivial(&self) -> Option<Epsilon> {
        let steps = self.pairs().zip(&self.counts);
        let variation: f64 = steps.map(|(pair, &count)| count as f64 * pair.total_variation()).sum();
        if variation <= self.delta {
            return Some(Epsilon::ZERO);
        }
        let resolved = self.ranged(&self.counts).iter().all(|(_, range)| range.is_resolved());
        (self.delta < LEAST_DELTA || !resolved).then_some(Epsilon::INFINITE)
    }

    fn upper(&self, fixed: Option<f64>, cache: &mut GridCache) -> Result<Epsilon, AccountantError> {
        if let Some(known) = self.trivial() {
            return Ok(known);
        }
        match fixed {
            Some(interval) => Ok(self.fixed_grid(interval)?.bound(&self.counts, MOST_POINTS.1)),
            None => Ok(self.adaptive_upper(cache)),
        }
    }

    fn adaptive_upper(&self, cache: &mut GridCache) -> Epsilon {
        let rounded: Vec<u64> = self.counts.iter().map(|&count| cache::rounded_up(count)).collect();
        for planned in [&rounded, &self.counts] {
            let bound = cache.grid(self, planned).bound(&self.counts, MOST_POINTS.0);
            if bound.is_finite() {
                return bound;
            }
        }
        Epsilon::INFINITE
    }

    fn lower(&self, fixed: Option<f64>) -> Result<Epsilon, AccountantError> {
        if self.trivial().is_some() {
            return Ok(Epsilon::ZERO);
        }
        let kinds = self.ranged(&self.counts);
        let below = |above: &Grid| above.mirrored_below(&kinds).bound(&self.counts, MOST_POINTS.1);
        if let Some(interval) = fixed {
            return Ok(below(&self.fixed_grid(interval)?));
        }
        // An interval that suits the bound from above may be coarse for this one: a kind of step whose losses span few cells
        // loses up to an interval at the end of its range, and that with every step.
        let mut grid = Grid::adaptive(&kinds, &self.counts, self.delta);
        let mut best = below(&grid);
        for _ in 0..MOST_HALVINGS {
            grid = Grid::new(&kinds, &self.counts, self.delta, 0.5 * grid.interval);
            let finer = below(&grid);
            let settled = finer.get() <= best.get() * (1.0 + SETTLED);
            best = best.max(finer);
            if settled {
                break;
            }
        }
        Ok(best)
    }

    fn fixed_grid(&self, interval: f64) -> Result<Grid, AccountantError> {
        let too_large = || AccountantError::GridTooLarge { interval, limit: MOST_POINTS.1 };
        let kinds = self.ranged(&self.counts);
        if longest_range(&kinds) / interval > MOST_POINTS.1 as f64 {
            return Err(too_large());
        }
        let grid = Grid::new(&kinds, &self.counts, self.delta, interval);
        let sum = grid.sum(&self.counts);
        grid.window(&sum, sum.lower_guess(), MOST_POINTS.1).ok_or_else(too_large)?;
        Ok(grid)
    }
}

#[cfg(test)]
mod tests;
