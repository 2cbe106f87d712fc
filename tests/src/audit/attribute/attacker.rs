//! What the attacker knows, and how it weighs what it sees.
//!
//! It knows every record, both values that each canary's bit chooses between, the model of every round and the noise; not
//! the bits, not the noise drawn, not the secret sample. With `x_i = +-1` for bit i and `g_i(b)` the clipped contribution under
//! bit b, a round's release is
//!
//! ```text
//! G = q (sum of the others + sum_i (g_i(1) + g_i(0)) / 2) + q sum_i x_i (g_i(1) - g_i(0)) / 2 + noise
//! ```
//!
//! exactly if everybody is in every sample (q = 1), and in the mean over samples else. Evidence of all rounds is
//! `h_i = sum_t <G - known, d_i> / s^2` and `J_ij = sum_t <d_i, d_j> / s^2`, `d_i = q (g_i(1) - g_i(0)) / 2`.

use std::ops::AddAssign;

use fusiondp_dp::NeighboringRelation;
use fusiondp_learn::model::{Model, PairedBatch, Workspace};
use fusiondp_site_agent::train::Session;

use super::AttributeError;

/// Most canaries whose bits are weighed jointly, over all combinations.
const JOINT: usize = 10;

/// The attacker's two copies of the data, which differ in the canaries' bits, all clear and all set.
pub struct Knowledge<'a> {
    /// All bits clear.
    pub clear: &'a Session,
    /// All bits set.
    pub set: &'a Session,
    /// The canaries' units.
    pub canaries: &'a [usize],
}

/// How far the two contributions of canaries are apart, summed over rounds and canaries.
#[derive(Debug, Clone, Copy, Default)]
pub struct Distance {
    /// Squared distances over C^2.
    squares: f64,
    /// How many.
    count: f64,
}

impl Distance {
    /// Root mean square of the distance over the largest that `relation` allows, 2 C or C: 0 to 1. An attack of Gaussian noise
    /// with everybody in the sample reaches at most this share of the claimed `mu`.
    #[must_use]
    pub fn reach(&self, relation: NeighboringRelation) -> f64 {
        let most = match relation {
            NeighboringRelation::Replace => 2.0,
            NeighboringRelation::ZeroOut => 1.0,
        };
        (self.squares / self.count.max(1.0)).sqrt() / most
    }
}

impl AddAssign for Distance {
    fn add_assign(&mut self, other: Self) {
        self.squares += other.squares;
        self.count += other.count;
    }
}

/// Evidence of one run.
pub struct Evidence {
    h: Vec<f64>,
    j: Vec<f64>,
    distance: Distance,
}

impl Evidence {
    /// Before the first release.
    #[must_use]
    pub fn none(canaries: usize) -> Self {
        let distance = Distance::default();
        Self { h: vec![0.0; canaries], j: vec![0.0; canaries * canaries], distance }
    }

    /// How far contributions were apart.
    #[must_use]
    pub fn distance(&self) -> Distance {
        self.distance
    }

    /// Adds a release `[P']` in units of the gradient, noised with deviation `noise`, of a sample with probability `q`, at `params`.
    ///
    /// # Errors
    /// What the model refuses.
    pub fn add(
        &mut self,
        known: &Knowledge<'_>,
        params: &[f32],
        release: &[f64],
        (clip_norm, q, noise): (f64, f64, f64),
    ) -> Result<(), AttributeError> {
        let mut residual = release.to_vec();
        let all: Vec<usize> = (0..known.clear.units().count()).collect();
        let mut clear = vec![Vec::new(); self.h.len()];
        let place = |unit: usize| known.canaries.iter().position(|&canary| canary == unit);
        contributions(known.clear, params, &all, clip_norm, |unit, gradient| {
            let canary = place(unit);
            // Half of what a canary adds under either bit is known whatever its bit is.
            let weight = if canary.is_some() { 0.5 * q } else { q };
            subtract(&mut residual, weight, gradient);
            if let Some(canary) = canary {
                clear[canary] = gradient.to_vec();
            }
        })?;
        let mut directions = vec![Vec::new(); self.h.len()];
        contributions(known.set, params, known.canaries, clip_norm, |index, gradient| {
            subtract(&mut residual, 0.5 * q, gradient);
            let half = |(&set, &clear): (&f32, &f32)| 0.5 * q * (f64::from(set) - f64::from(clear));
            directions[index] = gradient.iter().zip(&clear[index]).map(half).collect::<Vec<f64>>();
        })?;
        let count = self.h.len();
        for (i, direction) in directions.iter().enumerate() {
            self.h[i] += dot(&residual, direction) / (noise * noise);
            let whole = 2.0 / (q * clip_norm);
            let squares = whole * whole * dot(direction, direction);
            self.distance += Distance { squares, count: 1.0 };
            for (k, other) in directions[..=i].iter().enumerate() {
                let product = dot(direction, other) / (noise * noise);
                self.j[i * count + k] += product;
                if i != k {
                    self.j[k * count + i] += product;
                }
            }
        }
        Ok(())
    }

    /// Logarithm of the likelihood ratio of each bit. Up to ten canaries: the bits of the others summed over, exact for
    /// Gaussian noise and q = 1. More: the same with a Gaussian prior in place of signs, the best linear score.
    #[must_use]
    pub fn scores(&self) -> Vec<f64> {
        if self.h.len() <= JOINT { self.joint() } else { self.linear() }
    }

    fn joint(&self) -> Vec<f64> {
        let count = self.h.len();
        let mut sums = vec![[f64::NEG_INFINITY; 2]; count];
        for bits in 0..1_usize << count {
            let x: Vec<f64> = (0..count).map(|i| if bits >> i & 1 == 1 { 1.0 } else { -1.0 }).collect();
            let quadratic: f64 = (0..count).map(|i| x[i] * dot(&self.j[i * count..][..count], &x)).sum();
            let log = dot(&self.h, &x) - 0.5 * quadratic;
            for (i, sum) in sums.iter_mut().enumerate() {
                let sum = &mut sum[bits >> i & 1];
                let largest = sum.max(log);
                *sum = largest + ((*sum - largest).exp() + (log - largest).exp()).ln();
            }
        }
        sums.iter().map(|[clear, set]| set - clear).collect()
    }

    fn linear(&self) -> Vec<f64> {
        let count = self.h.len();
        let mut matrix = self.j.clone();
        (0..count).for_each(|i| matrix[i * count + i] += 1.0);
        let inverse = inverse(matrix, count);
        (0..count)
            .map(|i| 2.0 * dot(&inverse[i * count..][..count], &self.h) / inverse[i * count + i])
            .collect()
    }
}

/// Hands the clipped contribution of each of `units`, with its index among them, to `sink`.
///
/// # Errors
/// What the model refuses, or a session without true values.
pub fn contributions(
    session: &Session,
    params: &[f32],
    units: &[usize],
    clip_norm: f64,
    sink: impl FnMut(usize, &[f32]),
) -> Result<(), AttributeError> {
    let batch = batch(session, units)?;
    let mut workspace = Workspace::default();
    let model: &Model = session.model();
    Ok(model.private_gradients(params, &batch, session.objective(), clip_norm, &mut workspace, sink)?)
}

/// The records of some units in both views.
///
/// # Errors
/// A session without true values.
pub fn batch(session: &Session, units: &[usize]) -> Result<PairedBatch<f32>, AttributeError> {
    let real = session.real().ok_or(AttributeError::NoPrivatePart)?;
    let mut batch = PairedBatch::empty(session.model().input_shape());
    let mut rows = Vec::new();
    for &unit in units {
        rows.extend(session.units().rows(unit));
        batch.unit_offsets.push(rows.len());
    }
    real.select(&rows, &mut batch.real);
    if let Some(public) = session.public() {
        public.select(&rows, &mut batch.hybrid);
    }
    batch.labels = rows.iter().map(|&row| session.labels()[row]).collect();
    Ok(batch)
}

fn subtract(target: &mut [f64], weight: f64, gradient: &[f32]) {
    target.iter_mut().zip(gradient).for_each(|(target, &g)| *target -= weight * f64::from(g));
}

pub(super) fn dot(one: &[f64], other: &[f64]) -> f64 {
    one.iter().zip(other).map(|(a, b)| a * b).sum()
}

/// Inverse of a symmetric positive definite matrix, by elimination without pivots, which such a matrix does not need.
fn inverse(mut matrix: Vec<f64>, size: usize) -> Vec<f64> {
    let mut result = vec![0.0; size * size];
    (0..size).for_each(|i| result[i * size + i] = 1.0);
    for pivot in 0..size {
        let scale = 1.0 / matrix[pivot * size + pivot];
        for column in 0..size {
            matrix[pivot * size + column] *= scale;
            result[pivot * size + column] *= scale;
        }
        for row in (0..size).filter(|&row| row != pivot) {
            let factor = matrix[row * size + pivot];
            for column in 0..size {
                matrix[row * size + column] -= factor * matrix[pivot * size + column];
                result[row * size + column] -= factor * result[pivot * size + column];
            }
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inverse_is_one() {
        let matrix = vec![4.0, 1.0, 0.5, 1.0, 3.0, 0.2, 0.5, 0.2, 2.0];
        let inverse = inverse(matrix.clone(), 3);
        for row in 0..3 {
            for column in 0..3 {
                let value: f64 = (0..3).map(|k| matrix[row * 3 + k] * inverse[k * 3 + column]).sum();
                assert!((value - f64::from(u8::from(row == column))).abs() < 1e-12);
            }
        }
    }

    /// Alone, a bit's log-likelihood ratio is 2 h; beside a canary that does the same, evidence is shared.
    #[test]
    fn scores_are_those_by_hand() {
        let evidence = |h, j| Evidence { h, j, distance: Distance::default() };
        let alone = evidence(vec![0.7], vec![2.0]);
        assert!((alone.joint()[0] - 1.4).abs() < 1e-12 && (alone.linear()[0] - 1.4).abs() < 1e-12);
        let twins = evidence(vec![0.7, 0.7], vec![2.0; 4]);
        let weight = |x: f64, y: f64| (0.7 * (x + y) - (x + y) * (x + y)).exp();
        let by_hand =
            ((weight(1.0, 1.0) + weight(1.0, -1.0)) / (weight(-1.0, 1.0) + weight(-1.0, -1.0))).ln();
        assert!((twins.joint()[0] - by_hand).abs() < 1e-12 && twins.linear()[1] > 0.0);
    }
}
