//! From a composed distribution to the epsilon at a delta.

use super::{Side, convolution::Composed, tilt::TiltedSum};

/// Tail sums of a composed, tilted distribution over a window of losses.
///
/// With `r_i` the tilted probability of loss `i h` and `n = i - j`, for each place `j` of the window
///
/// * `weights[j] = Σ_{n>=0} e^(-(λ+1) n h) r_{j+n}`,
/// * `excesses[j] = Σ_{n>=0} (1 - e^(-n h)) e^(-λ n h) r_{j+n}`,
///
/// so that `delta(ε) = e^(K - λ j h) (excesses[j] + (1 - e^x) weights[j])` for `ε = j h + x`, `x` in `(-h, 0]`, where `K`
/// is the log-moment. Both follow from their neighbors by additions of nonnegative terms, without cancellation.
pub(super) struct DeltaCurve<'a> {
    sum: &'a TiltedSum,
    interval: f64,
    /// Grid index of the first loss of the window.
    first: i64,
    weights: Vec<f64>,
    excesses: Vec<f64>,
}

/// Where the curve meets a delta.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Crossing {
    /// At this epsilon.
    At(f64),
    /// Already below delta at the least epsilon of the window, given here: a valid but loose bound.
    Below(f64),
    /// Nowhere in the window.
    Above,
}

impl<'a> DeltaCurve<'a> {
    /// The curve over losses from `first * interval` upwards.
    ///
    /// Errors of the composed probabilities are added on the side above and subtracted on the side below. Losses below
    /// the window, folded into it, only add to delta; those above it lose by it.
    pub(super) fn new(
        composed: &Composed,
        sum: &'a TiltedSum,
        (interval, first): (f64, i64),
        side: Side,
    ) -> Self {
        let length = composed.probabilities.len();
        let (mut weights, mut excesses) = (vec![0.0; length], vec![0.0; length]);
        let weight_decay = (-(sum.tilt + 1.0) * interval).exp();
        let excess_decay = (-sum.tilt * interval).exp();
        let gap = -(-interval).exp_m1();
        let (mut weight, mut excess) = (0.0, 0.0);
        for place in (0..length).rev() {
            let cyclic = (first + place as i64).rem_euclid(length as i64) as usize;
            excess = excess_decay * (excess + gap * weight);
            let probability = match side {
                Side::Above => not_negative(composed.probabilities[cyclic]) + composed.error,
                Side::Below => not_negative(composed.probabilities[cyclic] - composed.error),
            };
            weight = weight_decay * weight + probability;
            (weights[place], excesses[place]) = (weight, excess);
        }
        Self { sum, interval, first, weights, excesses }
    }

    /// The least epsilon of the window at which the finite losses' delta is at most `e^log_delta`.
    pub(super) fn crossing(&self, log_delta: f64) -> Crossing {
        let meets = |place: usize| self.excesses[place] <= (log_delta - self.log_scale(place)).exp();
        // Places are ordered: delta falls with epsilon.
        let (mut fails, mut holds) = (0, self.excesses.len() - 1);
        if !meets(holds) {
            return Crossing::Above;
        }
        if meets(fails) {
            return Crossing::Below(self.loss(0));
        }
        while holds - fails > 1 {
            let middle = fails + (holds - fails) / 2;
            if meets(middle) {
                holds = middle;
            } else {
                fails = middle;
            }
        }
        Crossing::At(self.inside_cell(holds, log_delta))
    }

    /// Epsilon in the cell below `place`, where the curve is linear in `e^ε`.
    fn inside_cell(&self, place: usize, log_delta: f64) -> f64 {
        let scaled = (log_delta - self.log_scale(place)).exp();
        let share = ((scaled - self.excesses[place]) / self.weights[place]).max(0.0);
        // A share that is not a number, or not below one, leaves the cell's upper end.
        let offset = if share < 1.0 { (-share).ln_1p() } else { 0.0 };
        self.loss(place) + offset.max(-self.interval)
    }

    fn loss(&self, place: usize) -> f64 {
        (self.first + place as i64) as f64 * self.interval
    }

    /// `K - λ j h`.
    fn log_scale(&self, place: usize) -> f64 {
        self.sum.log_moment() - self.sum.tilt * self.loss(place)
    }
}

/// Zero for what is below it; not `max`, which would make nothing of what is not a number.
fn not_negative(value: f64) -> f64 {
    if value < 0.0 { 0.0 } else { value }
}
