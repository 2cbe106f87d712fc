//! The composition of steps on one grid of losses.
//!
//! A grid is made for kinds of steps and composes any number of each: what it holds, the transforms of single steps, does
//! not depend on the counts, so one more step costs one product and one inverse transform.

use super::{
    LEAST_RESOLVED, MOST_POINTS, Side,
    convolution::Transforms,
    curve::{Crossing, DeltaCurve},
    losses::{LossDistribution, LossRange, MOST_CELLS},
    pair::DominatingPair,
    tilt::{TiltedStep, TiltedSum, best_tilt},
};
use crate::params::Epsilon;

/// Relative error of epsilon that the adaptive interval permits.
const ACCURACY: f64 = 1e-4;
/// Grid cells of one step in the first attempt.
const FIRST_CELLS: f64 = 512.0;
/// Most times that the interval is changed, before composing and again after.
const MOST_REFINEMENTS: usize = 6;

/// A kind of step and the range of its losses that is discretized.
pub(super) type RangedPair = (DominatingPair, LossRange);

/// Kinds of steps discretized on one grid under one tilt.
pub(super) struct Grid {
    side: Side,
    delta: f64,
    /// Spacing of the losses.
    pub(super) interval: f64,
    tilt: f64,
    steps: Vec<TiltedStep>,
    /// By number of points, made when first needed.
    transforms: Vec<Transforms>,
}

/// A cyclic range of grid indices.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    pub(super) first: i64,
    pub(super) length: usize,
}

impl Grid {
    /// The grid of this interval, with the tilt that suits `counts` steps of each kind at `delta`.
    pub(super) fn new(kinds: &[RangedPair], counts: &[u64], delta: f64, interval: f64) -> Self {
        let losses: Vec<LossDistribution> =
            kinds.iter().map(|(pair, range)| LossDistribution::above(pair, *range, interval)).collect();
        let best = best_tilt(&losses, counts, delta);
        let grid = Self::of(losses, Side::Above, (delta, interval, best));
        // Where delta is large the best tilt may be near zero, and the window would have to hold every loss.
        let least = grid.sum(counts).deviation().recip();
        if best >= least || !least.is_finite() {
            return grid;
        }
        let losses = grid.steps.into_iter().map(|step| step.losses).collect();
        Self::of(losses, Side::Above, (delta, interval, least))
    }

    /// A grid whose interval suits `counts` steps of each kind: refined until it is fine enough for the epsilon that
    /// comes out of it.
    pub(super) fn adaptive(kinds: &[RangedPair], counts: &[u64], delta: f64) -> Self {
        let longest = longest_range(kinds);
        let mut grid = Self::settled(kinds, counts, delta);
        for _ in 0..MOST_REFINEMENTS {
            let epsilon = grid.bound(counts, MOST_POINTS.0);
            let wanted = wanted_interval(grid.tilt, epsilon.get(), counts, longest);
            // Half as much again in error is not worth another composition.
            if epsilon.get() <= LEAST_RESOLVED || !epsilon.is_finite() || grid.interval <= 1.25 * wanted {
                break;
            }
            match Self::composable(kinds, counts, delta, wanted) {
                Some(finer) => grid = finer,
                None => break,
            }
        }
        grid
    }

    /// A grid whose interval suits the moment bound that it gives; costs no transform.
    fn settled(kinds: &[RangedPair], counts: &[u64], delta: f64) -> Self {
        let longest = longest_range(kinds);
        let mut grid = Self::new(kinds, counts, delta, longest / FIRST_CELLS);
        for _ in 0..MOST_REFINEMENTS {
            let wanted = wanted_interval(grid.tilt, grid.sum(counts).epsilon, counts, longest);
            if (0.8..1.25).contains(&(grid.interval / wanted)) {
                break;
            }
            match Self::composable(kinds, counts, delta, wanted) {
                Some(other) => grid = other,
                None => break,
            }
        }
        grid
    }

    /// The grid of this interval, unless its window has too many points to be composed.
    fn composable(kinds: &[RangedPair], counts: &[u64], delta: f64, interval: f64) -> Option<Self> {
        let grid = Self::new(kinds, counts, delta, interval);
        let sum = grid.sum(counts);
        grid.window(&sum, sum.lower_guess(), MOST_POINTS.0).is_some().then_some(grid)
    }

    /// The grid of the same interval and tilt whose compositions are dominated by the true ones.
    pub(super) fn mirrored_below(&self, kinds: &[RangedPair]) -> Self {
        let losses =
            kinds.iter().map(|(pair, range)| LossDistribution::below(pair, *range, self.interval)).collect();
        Self::of(losses, Side::Below, (self.delta, self.interval, self.tilt))
    }

    fn of(losses: Vec<LossDistribution>, side: Side, (delta, interval, tilt): (f64, f64, f64)) -> Self {
        let steps = losses.into_iter().map(|losses| TiltedStep::new(losses, tilt)).collect();
        Self { side, delta, interval, tilt, steps, transforms: Vec::new() }
    }

    /// Numbers kept.
    pub(super) fn size(&self) -> usize {
        self.transforms.iter().map(Transforms::size).sum()
    }

    /// What is known about `counts` steps of each kind without composing them.
    pub(super) fn sum(&self, counts: &[u64]) -> TiltedSum {
        TiltedSum::of(&self.steps, counts, self.tilt, self.delta)
    }

    /// The window that starts at loss `low`, or nothing if it needs more than `most` points.
    pub(super) fn window(&self, sum: &TiltedSum, low: f64, most: usize) -> Option<Window> {
        let span = (sum.epsilon - low) + sum.span(self.delta);
        let points = (span / self.interval).ceil() + 2.0;
        if points.is_nan() || points > most as f64 {
            return None;
        }
        Some(Window {
            first: (low / self.interval).floor() as i64,
            length: (points as usize).next_power_of_two(),
        })
    }

    /// The bound for `counts` steps of each kind. Without one on at most `most` points it is infinite on the side above,
    /// and zero on the side below.
    pub(super) fn bound(&mut self, counts: &[u64], most: usize) -> Epsilon {
        let sum = self.sum(counts);
        let mut best = if self.side == Side::Above { Epsilon::INFINITE } else { Epsilon::ZERO };
        let guess = match self.side {
            Side::Above => sum.lower_guess(),
            // What is folded into this window counts against the bound, so it reaches further.
            Side::Below => sum.least_expected(),
        };
        for low in [guess, 0.0] {
            let window = self.window(&sum, low, most);
            let crossing = window.and_then(|window| self.crossing(&sum, counts, window));
            match (self.side, crossing) {
                (_, None) => return best,
                (Side::Above, Some(Crossing::Above)) => return best,
                // A lower window may hold a better bound, unless this one began at zero.
                (Side::Above, Some(Crossing::Below(loss))) if loss > 0.0 => {
                    best = best.min(self.outward(counts, loss));
                }
                (Side::Above, Some(Crossing::At(loss) | Crossing::Below(loss))) => {
                    let free = loss <= 0.0 && self.costs_nothing(&sum, counts, most);
                    return if free { Epsilon::ZERO } else { best.min(self.outward(counts, loss)) };
                }
                (Side::Below, Some(Crossing::At(loss))) => return self.outward(counts, loss),
                // What the window does not reach is at least its end; what it is above may be anything.
                (Side::Below, Some(Crossing::Above | Crossing::Below(_))) => {}
            }
        }
        best
    }

    /// Whether delta pays for everything: it is met below zero, by more than what the rounding of losses may have moved.
    fn costs_nothing(&mut self, sum: &TiltedSum, counts: &[u64], most: usize) -> bool {
        let window = self.window(sum, -self.interval, most);
        match window.and_then(|window| self.crossing(sum, counts, window)) {
            Some(Crossing::At(loss) | Crossing::Below(loss)) => loss + self.rounding(counts) <= 0.0,
            Some(Crossing::Above) | None => false,
        }
    }

    /// How far rounding may have set the losses of all steps together to the wrong side.
    fn rounding(&self, counts: &[u64]) -> f64 {
        let uncertainty = |(step, &count): (&TiltedStep, &u64)| count as f64 * step.losses.uncertainty;
        self.steps.iter().zip(counts).map(uncertainty).sum()
    }

    /// Composes within a window and looks up what is left of delta.
    fn crossing(&mut self, sum: &TiltedSum, counts: &[u64], window: Window) -> Option<Crossing> {
        let composed = self.transforms(window.length)?.compose(counts)?;
        let curve = DeltaCurve::new(&composed, sum, (self.interval, window.first), self.side);
        let rounding = self.relative_rounding(sum, counts, window);
        match self.side {
            Side::Above => {
                let top = (window.first + window.length as i64) as f64 * self.interval;
                let at_infinity =
                    |(step, &count): (&TiltedStep, &u64)| count as f64 * step.losses.at_infinity;
                let infinite: f64 = self.steps.iter().zip(counts).map(at_infinity).sum();
                let left = self.delta - infinite - sum.probability_above(top);
                // The logarithm of a negative rest is NaN, which no place of the curve meets.
                Some(curve.crossing(left.ln() - rounding))
            }
            Side::Below => Some(self.crossing_below(sum, &curve, (window, rounding))),
        }
    }

    /// Where the curve, less the losses below the window that the grid folded into it, meets delta.
    fn crossing_below(
        &self,
        sum: &TiltedSum,
        curve: &DeltaCurve<'_>,
        (window, rounding): (Window, f64),
    ) -> Crossing {
        let met = curve.crossing(self.delta.ln() + rounding);
        let Crossing::At(first) = met else { return met };
        // The bound on what was folded in falls with epsilon, so one a little below the crossing serves above it.
        let at = first * (1.0 - 1e-4) - self.interval;
        let folded = self.folded_below(sum, window, at);
        match curve.crossing((self.delta + folded).ln() + rounding) {
            Crossing::At(loss) if loss >= at => Crossing::At(loss),
            _ => Crossing::Below(0.0),
        }
    }

    /// Bound on what losses below the window add to delta at epsilon and above, after folding.
    ///
    /// Those of the half below the window reappear in its upper half, those further below anywhere above epsilon; a tilted
    /// probability `r` adds at most `e^(K - λ L) r` at loss `L`.
    fn folded_below(&self, sum: &TiltedSum, window: Window, epsilon: f64) -> f64 {
        let low = window.first as f64 * self.interval;
        let half = 0.5 * window.length as f64 * self.interval;
        let far = (sum.log_tilted_mass_below(low - half) - self.tilt * epsilon).exp();
        let near = (sum.log_tilted_mass_below(low) - self.tilt * (low + half)).exp();
        (far + near) * (1.0 + 1e-6)
    }

    /// The transforms on this many points.
    fn transforms(&mut self, length: usize) -> Option<&Transforms> {
        if let Some(place) = self.transforms.iter().position(|transforms| transforms.length() == length) {
            return self.transforms.get(place);
        }
        self.transforms.push(Transforms::new(&self.steps, self.tilt, length)?);
        self.transforms.last()
    }

    /// Bound on the relative rounding of delta by tilting, composing sums and undoing the tilt.
    fn relative_rounding(&self, sum: &TiltedSum, counts: &[u64], window: Window) -> f64 {
        // Merged cells are sums of several.
        let cell = if self.side == Side::Above { 2.0 } else { 256.0 };
        let exponent = |(step, &count): (&TiltedStep, &u64)| {
            let largest = step.losses.first.abs().max(step.losses.last().abs()) as f64 * self.interval;
            count as f64 * (cell + self.tilt * largest)
        };
        let tilting: f64 = self.steps.iter().zip(counts).map(exponent).sum();
        let undoing = sum.log_moment().abs() + self.tilt * sum.epsilon + window.length as f64;
        4.0 * f64::EPSILON * (tilting + undoing)
    }

    /// Adds the rounding of the steps' losses, or takes it away on the side below; what is not a number is no bound.
    pub(super) fn outward(&self, counts: &[u64], loss: f64) -> Epsilon {
        let rounding = self.rounding(counts);
        match self.side {
            Side::Above => {
                let epsilon = if loss <= 0.0 { rounding } else { (loss + rounding) * (1.0 + 1e-14) };
                Epsilon::new(epsilon).unwrap_or(Epsilon::INFINITE)
            }
            Side::Below => {
                let epsilon = (loss - rounding) * (1.0 - 1e-14);
                if epsilon > 0.0 { Epsilon::new(epsilon).unwrap_or(Epsilon::ZERO) } else { Epsilon::ZERO }
            }
        }
    }
}

/// The interval with a relative error of [`ACCURACY`] at this tilt and epsilon.
fn wanted_interval(tilt: f64, epsilon: f64, counts: &[u64], longest: f64) -> f64 {
    let total: f64 = counts.iter().map(|&count| count as f64).sum();
    let permitted = ACCURACY * epsilon.max(LEAST_RESOLVED);
    let interval = (8.0 * permitted / (total * (tilt + 1.0))).sqrt();
    interval.max(longest / MOST_CELLS)
}

/// Length of the longest range of losses.
pub(super) fn longest_range(kinds: &[RangedPair]) -> f64 {
    kinds.iter().map(|(_, range)| range.length()).fold(0.0, f64::max)
}
