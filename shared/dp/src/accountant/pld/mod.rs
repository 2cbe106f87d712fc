//! Accounting with privacy loss distributions.
//!
//! One direction of a relation is computed in four stages, one file each:
//!
//! 1. `pair`, `losses`: the loss of each kind of step on a grid, connecting the dots from above;
//! 2. `tilt`: the exponential tilt at which the tail that decides delta is likely;
//! 3. `convolution`: all steps composed by Fourier transform, with a bound on its rounding;
//! 4. `curve`: the epsilon at which the composed curve meets what is left of delta.
//!
//! Delta pays for everything left out: probability truncated into an infinite loss, losses beyond the window (Chernoff),
//! rounding of the transforms. Epsilon pays for the rounding of losses.
//!
//! # Choice of the interval
//!
//! Dividing a cell's mass over its ends keeps mass and mean of `e^-L` and raises `E[e^(λL)]` by a factor of at most
//! `1 + λ(λ+1) h²/8`, so `T` steps raise epsilon by about `T (λ+1) h²/8` or less. The interval `h` makes that 0.01 %.

mod convolution;
mod curve;
mod losses;
pub(in crate::accountant) mod pair;
mod tilt;

use self::{
    curve::{Crossing, DeltaCurve},
    losses::{LossDistribution, LossRange, MOST_CELLS},
    pair::{Direction, DominatingPair},
    tilt::Tilt,
};
use super::{
    AccountantError, PrivacyAccountant,
    composition::{Composition, Part},
};
use crate::{
    params::{Delta, Epsilon, NeighboringRelation},
    steps::StepCounts,
};

/// Relative error of epsilon that the adaptive interval permits.
const ACCURACY: f64 = 1e-4;
/// Epsilons below this are computed with the absolute error of this one.
const LEAST_RESOLVED: f64 = 1e-4;
/// Grid cells of one step in the first attempt.
const FIRST_CELLS: f64 = 2048.0;
/// Most times that the interval is changed, before composing and again after.
const MOST_REFINEMENTS: usize = 6;
/// Most points of the composed grid: adaptive, and with a fixed interval.
const MOST_POINTS: (usize, usize) = (1 << 20, 1 << 23);
/// Fraction of delta that truncating the steps' upper tails may cost.
const TRUNCATION: f64 = 1e-5;
/// Deltas below this are not resolved in double precision.
const LEAST_DELTA: f64 = 1e-200;

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
}

impl PrivacyAccountant for PldAccountant {
    fn epsilon_of_steps(
        &self,
        steps: &StepCounts,
        delta: Delta,
        relation: NeighboringRelation,
    ) -> Result<Epsilon, AccountantError> {
        let composition = Composition::of(steps)?;
        let directions: &[Direction] = match relation {
            NeighboringRelation::Replace => &[Direction::Replace],
            NeighboringRelation::ZeroOut => &[Direction::Remove, Direction::Add],
        };
        let mut largest = Epsilon::ZERO;
        for &direction in directions {
            let steps = Steps::of(&composition, direction, delta.get());
            largest = largest.max(steps.epsilon(self.interval, largest)?);
        }
        Ok(largest.coarsened())
    }
}

/// The steps of a composition in one direction.
struct Steps {
    /// Pair, multiplicity and discretized range of each kind of step.
    kinds: Vec<(DominatingPair, u64, LossRange)>,
    /// Number of all steps.
    total: f64,
    delta: f64,
}

impl Steps {
    fn of(composition: &Composition, direction: Direction, delta: f64) -> Self {
        let total = composition.steps as f64;
        let tail = TRUNCATION * delta / total.max(1.0);
        let kind = |part: &Part| {
            let pair = DominatingPair::new(part, direction);
            (pair, part.steps, LossRange::of(&pair, tail))
        };
        Self { kinds: composition.parts.iter().map(kind).collect(), total, delta }
    }

    /// The bound for one direction; it need not be tightened once it is at most `enough`.
    fn epsilon(&self, fixed: Option<f64>, enough: Epsilon) -> Result<Epsilon, AccountantError> {
        let variation: f64 =
            self.kinds.iter().map(|(pair, steps, _)| *steps as f64 * pair.total_variation()).sum();
        if variation <= self.delta {
            return Ok(Epsilon::ZERO);
        }
        if self.delta < LEAST_DELTA || !self.kinds.iter().all(|(_, _, range)| range.is_resolved()) {
            return Ok(Epsilon::INFINITE);
        }
        match fixed {
            Some(interval) => self.epsilon_with_fixed(interval),
            None => Ok(self.epsilon_adaptive(enough).0),
        }
    }

    fn longest_range(&self) -> f64 {
        self.kinds.iter().map(|(_, _, range)| range.length()).fold(0.0, f64::max)
    }

    fn epsilon_with_fixed(&self, interval: f64) -> Result<Epsilon, AccountantError> {
        let too_large = || AccountantError::GridTooLarge { interval, limit: MOST_POINTS.1 };
        if self.longest_range() / interval > MOST_POINTS.1 as f64 {
            return Err(too_large());
        }
        let grid = TiltedGrid::new(self, interval);
        grid.window(grid.tilt.lower_guess(), MOST_POINTS.1).ok_or_else(too_large)?;
        Ok(grid.epsilon(MOST_POINTS.1))
    }

    /// Refines the interval until it is fine enough for the epsilon that comes out of it; also returns the last one.
    fn epsilon_adaptive(&self, enough: Epsilon) -> (Epsilon, f64) {
        let mut grid = self.settled_grid(enough);
        let mut best = grid.epsilon(MOST_POINTS.0);
        for _ in 0..MOST_REFINEMENTS {
            let wanted = self.wanted_interval(grid.tilt.value, best.get());
            // Half as much again in error is not worth another composition.
            if !best.is_finite() || best <= enough || grid.interval <= 1.25 * wanted {
                break;
            }
            grid = TiltedGrid::new(self, wanted);
            best = best.min(grid.epsilon(MOST_POINTS.0));
        }
        (best, grid.interval)
    }

    /// A grid whose interval suits the moment bound that it gives; costs no transform.
    fn settled_grid(&self, enough: Epsilon) -> TiltedGrid<'_> {
        let mut grid = TiltedGrid::new(self, self.longest_range() / FIRST_CELLS);
        for _ in 0..MOST_REFINEMENTS {
            let wanted = self.wanted_interval(grid.tilt.value, grid.tilt.epsilon);
            if grid.tilt.epsilon <= enough.get() || (0.8..1.25).contains(&(grid.interval / wanted)) {
                break;
            }
            grid = TiltedGrid::new(self, wanted);
        }
        grid
    }

    /// The interval with a relative error of [`ACCURACY`] at this tilt and epsilon.
    fn wanted_interval(&self, tilt: f64, epsilon: f64) -> f64 {
        let permitted = ACCURACY * epsilon.max(LEAST_RESOLVED);
        let interval = (8.0 * permitted / (self.total * (tilt + 1.0))).sqrt();
        interval.max(self.longest_range() / MOST_CELLS)
    }
}

/// All steps discretized on one grid, and the tilt that suits them.
struct TiltedGrid<'a> {
    steps: &'a Steps,
    interval: f64,
    losses: Vec<LossDistribution>,
    tilt: Tilt,
}

/// A cyclic range of grid indices.
#[derive(Debug, Clone, Copy)]
struct Window {
    first: i64,
    length: usize,
}

impl<'a> TiltedGrid<'a> {
    fn new(steps: &'a Steps, interval: f64) -> Self {
        let losses: Vec<LossDistribution> = steps
            .kinds
            .iter()
            .map(|(pair, count, range)| LossDistribution::of(pair, *count, *range, interval))
            .collect();
        let tilt = Tilt::best(&losses, steps.delta);
        Self { steps, interval, losses, tilt }
    }

    /// The window that starts at loss `low`, or nothing if it needs more than `most` points.
    fn window(&self, low: f64, most: usize) -> Option<Window> {
        let span = (self.tilt.epsilon - low) + self.tilt.span(&self.losses, self.steps.delta);
        let points = (span / self.interval).ceil() + 2.0;
        if points.is_nan() || points > most as f64 {
            return None;
        }
        Some(Window {
            first: (low / self.interval).floor() as i64,
            length: (points as usize).next_power_of_two(),
        })
    }

    /// The bound on this grid, infinite if there is none with at most `most` points.
    fn epsilon(&self, most: usize) -> Epsilon {
        let mut best = Epsilon::INFINITE;
        for low in [self.tilt.lower_guess(), 0.0] {
            let crossing = self.window(low, most).and_then(|window| self.crossing(window));
            match crossing {
                // A lower window may hold a better bound, unless this one began at zero.
                Some(Crossing::Below(loss)) if loss > 0.0 => best = best.min(self.outward(loss)),
                Some(Crossing::At(loss) | Crossing::Below(loss)) => return best.min(self.outward(loss)),
                Some(Crossing::Above) | None => return best,
            }
        }
        best
    }

    /// Composes within a window and looks up what is left of delta.
    fn crossing(&self, window: Window) -> Option<Crossing> {
        let composed = convolution::compose(&self.losses, &self.tilt, window.length)?;
        let top = (window.first + window.length as i64) as f64 * self.interval;
        let infinite: f64 = self.losses.iter().map(|losses| losses.steps * losses.at_infinity).sum();
        let left = self.steps.delta - infinite - self.tilt.probability_above(&self.losses, top);
        let curve = DeltaCurve::new(&composed, &self.tilt, self.interval, window.first);
        // The logarithm of a negative rest is NaN, which no place of the curve meets.
        Some(curve.crossing(left.ln() - self.relative_rounding(window)))
    }

    /// Bound on the relative rounding of delta by tilting, composing sums and undoing the tilt.
    fn relative_rounding(&self, window: Window) -> f64 {
        let exponent = |losses: &LossDistribution| {
            let largest = losses.first.abs().max(losses.last().abs()) as f64 * self.interval;
            losses.steps * (2.0 + self.tilt.value * largest)
        };
        let tilting: f64 = self.losses.iter().map(exponent).sum();
        let undoing = self.tilt.log_moment.abs() + self.tilt.value * self.tilt.epsilon + window.length as f64;
        4.0 * f64::EPSILON * (tilting + undoing)
    }

    /// Adds the rounding of the steps' losses; what is not a number is no bound.
    fn outward(&self, loss: f64) -> Epsilon {
        let rounding: f64 = self.losses.iter().map(|losses| losses.steps * losses.uncertainty).sum();
        let epsilon = if loss <= 0.0 { rounding } else { (loss + rounding) * (1.0 + 1e-14) };
        Epsilon::new(epsilon).unwrap_or(Epsilon::INFINITE)
    }
}

#[cfg(test)]
mod tests;
