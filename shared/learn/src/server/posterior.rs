//! The head of a split model as a posterior mean: every noised gradient is an observation of where the optimum lies.
//!
//! Noise of a known size falls on the gradient of a few dozen parameters, many of which belong to neighboring bins. Plain
//! descent walks after the noise: most of all in bins that few patients fall into, where nothing pulls it back. Here the
//! noise is taken for what it is. Near the optimum w* the mean gradient is `g(w) = H (w - w*)`, so a released mean
//! gradient g with noise of variance v per coordinate observes
//!
//! ```text
//! z = H w - g = H w* + noise,        noise ~ N(0, v I)
//! ```
//!
//! With the prior `w* ~ N(0, K)`, under which the parameters of neighboring bins are alike, the posterior after some
//! rounds has precision `K^-1 + sum H^2 / v` and mean `precision^-1 sum H z / v`, which become the head's parameters.
//! Everything here is a function of released values and of constants that the study declares: post-processing, which
//! costs no privacy.
//!
//! | symbol | here | declared as |
//! |---|---|---|
//! | `K` | per feature `amplitude^2 exp(-|i - j| / length)` over ordered bins, no correlation over words; bins for missing are independent of all others and have half the amplitude; times `group_correlation` between groups | `amplitude`, `length`, `group_correlation` |
//! | `H` | `curvature * E[x x^T]`, where x is the head's input: bins and groups equally frequent, features independent | `curvature` |
//! | `v` | number of sites times the variance of a site's noise, in units of the mean gradient | follows from the plan |
//!
//! `H` is an approximation, and early rounds see it far from w*: until half of the private rounds have passed, what was
//! observed before a round counts `memory` times as much as before.

use ndarray::{Array1, Array2, ArrayView1};
use serde::{Deserialize, Serialize};

use super::ServerError;
use super::cholesky::Cholesky;
use crate::model::HeadFeature;
use crate::optimiser::{Reader, Writer};

/// Share of records whose cell is missing, as far as `H` is concerned.
const MISSING_SHARE: f64 = 0.05;

/// Most bins of a head: the state is a matrix over them, stored with every round.
const MAX_BINS: usize = 1_000;

/// Smallest variance of a gradient's coordinate: observations without noise still see an approximate `H`.
const SMALLEST_VARIANCE: f64 = 1e-12;

/// First bytes of a stored posterior, the last of them its version.
const MAGIC: [u8; 4] = *b"FPO1";

/// Settings of the posterior step of a split model's head.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PosteriorSpec {
    /// Mean second derivative of a record's clipped loss by its logit, about `p (1 - p)` or less where gradients are
    /// clipped; finite, above 0. Too small a value overshoots, too large a one learns slowly.
    pub curvature: f64,
    /// Prior standard deviation of a bin's contribution to the logit, in nats; finite, above 0.
    pub amplitude: f64,
    /// Bins over which the prior correlation of ordered bins falls to 1/e; finite, above 0.
    pub length: f64,
    /// Prior correlation of the same bin in different groups of a column with `by`, `[0, 1)`.
    #[serde(default = "half")]
    pub group_correlation: f64,
    /// Weight of earlier observations after each of the first half of private rounds, `[0, 1]`.
    pub memory: f64,
}

impl PosteriorSpec {
    /// Checks every setting.
    ///
    /// # Errors
    /// The first setting outside its range.
    pub fn validate(&self) -> Result<(), ServerError> {
        let positive =
            [("curvature", self.curvature), ("amplitude", self.amplitude), ("length", self.length)];
        for (field, value) in positive {
            if !(value > 0.0 && value.is_finite()) {
                return Err(ServerError::Setting { field, value, range: "finite and above 0" });
            }
        }
        if !(0.0..1.0).contains(&self.group_correlation) {
            let (field, value) = ("group_correlation", self.group_correlation);
            return Err(ServerError::Setting { field, value, range: "at least 0 and below 1" });
        }
        if !(0.0..=1.0).contains(&self.memory) {
            let range = "at least 0 and at most 1";
            return Err(ServerError::Setting { field: "memory", value: self.memory, range });
        }
        Ok(())
    }
}

fn half() -> f64 {
    0.5
}

/// What has been observed of a head's optimum.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Posterior {
    memory: f64,
    /// `K^-1`, `[J, J]`.
    prior_precision: Array2<f64>,
    /// `H`, `[J, J]`.
    curvature: Array2<f64>,
    /// `sum H^2 / v`, `[J, J]`.
    precision: Array2<f64>,
    /// `sum H z / v`, `[J]`.
    information: Array1<f64>,
    /// Private rounds applied.
    steps: u64,
    /// Private rounds in all; 0 before the first.
    rounds: u64,
}

impl Posterior {
    /// Nothing observed yet, of a head of these features with J bins in all.
    ///
    /// # Errors
    /// More bins than a posterior is kept of, or a prior covariance that is numerically singular.
    pub(super) fn new(spec: &PosteriorSpec, features: &[HeadFeature]) -> Result<Self, ServerError> {
        if total(features) > MAX_BINS {
            let reason = "the head has more than 1,000 bins; declare fewer, or use private_optimizer";
            return Err(ServerError::Posterior { reason });
        }
        let covariance = covariance(spec, features);
        let singular = ServerError::Posterior {
            reason: "length is so large that bins are indistinguishable a priori; choose a smaller one",
        };
        let prior_precision = Cholesky::new(&covariance).ok_or(singular)?.inverse();
        let length = covariance.nrows();
        Ok(Self {
            memory: spec.memory,
            prior_precision,
            curvature: second_moment(features) * spec.curvature,
            precision: Array2::zeros((length, length)),
            information: Array1::zeros(length),
            steps: 0,
            rounds: 0,
        })
    }

    /// Observes a mean private gradient `[J]` at `params` `[J]` and replaces these by the posterior mean.
    /// `rounds_left` counts this round and those after it.
    ///
    /// # Errors
    /// The posterior precision is numerically no precision, as after gradients of absurd size.
    pub(super) fn step(
        &mut self,
        params: &mut [f32],
        gradient: &[f64],
        noise_variance: f64,
        rounds_left: u32,
    ) -> Result<(), ServerError> {
        if self.steps == 0 {
            self.rounds = rounds_left.into();
        }
        if self.steps < self.rounds / 2 {
            self.precision *= self.memory;
            self.information *= self.memory;
        }
        self.steps += 1;
        self.observe(params, gradient, noise_variance.max(SMALLEST_VARIANCE));
        let broken = ServerError::Posterior { reason: "the observed gradients are not of a head like this" };
        let factor = Cholesky::new(&(&self.prior_precision + &self.precision)).ok_or(broken)?;
        let mut mean = self.information.to_vec();
        factor.solve(&mut mean);
        params.iter_mut().zip(mean).for_each(|(parameter, mean)| *parameter = mean as f32);
        Ok(())
    }

    fn observe(&mut self, params: &[f32], gradient: &[f64], variance: f64) {
        let at: Array1<f64> = params.iter().map(|&parameter| f64::from(parameter)).collect();
        let observed = self.curvature.dot(&at) - ArrayView1::from(gradient);
        self.information.scaled_add(variance.recip(), &self.curvature.dot(&observed));
        self.precision.scaled_add(variance.recip(), &self.curvature.dot(&self.curvature));
    }

    /// The observations as bytes: `FPO1`, rounds, sums.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut writer = Writer::new(MAGIC);
        writer.u64(self.steps);
        writer.u64(self.rounds);
        writer.f64s(&self.precision.iter().copied().collect::<Vec<_>>());
        writer.f64s(&self.information.to_vec());
        writer.finish()
    }

    /// Takes over what [`Self::to_bytes`] wrote for a head of the same features.
    ///
    /// # Errors
    /// Bytes of another version or head.
    pub(super) fn restore(&mut self, bytes: &[u8]) -> Result<(), ServerError> {
        let mut reader = Reader::new(MAGIC, bytes)?;
        let (steps, rounds) = (reader.u64()?, reader.u64()?);
        let precision = Array2::from_shape_vec(self.precision.dim(), reader.f64s()?);
        let information = Array1::from(reader.f64s()?);
        reader.finish()?;
        let unexpected = || ServerError::unexpected("number of bins");
        if information.len() != self.information.len() {
            return Err(unexpected());
        }
        (self.steps, self.rounds) = (steps, rounds);
        self.precision = precision.map_err(|_| unexpected())?;
        self.information = information;
        Ok(())
    }
}

/// Prior covariance of the parameters.
fn covariance(spec: &PosteriorSpec, features: &[HeadFeature]) -> Array2<f64> {
    let mut covariance = Array2::zeros((total(features), total(features)));
    for (first, feature) in placed(features) {
        for row in 0..feature.parameters() {
            for column in 0..feature.parameters() {
                covariance[[first + row, first + column]] = bin_covariance(spec, feature, row, column);
            }
        }
    }
    covariance
}

/// Prior covariance of two parameters of a feature.
fn bin_covariance(spec: &PosteriorSpec, feature: &HeadFeature, one: usize, other: usize) -> f64 {
    // A bin adds weight times parameter to the logit, so the parameter is in units of `1 / weight`.
    let variance = (spec.amplitude / f64::from(feature.weight)).powi(2);
    let between_groups =
        if one / feature.bins == other / feature.bins { 1.0 } else { spec.group_correlation };
    let (one, other, missing) = (one % feature.bins, other % feature.bins, feature.bins - 1);
    let distance = one.abs_diff(other) as f64;
    let between_bins = match (one == other, feature.ordered && one.max(other) < missing) {
        (true, _) if one == missing => 0.25,
        (true, _) => 1.0,
        (false, true) => libm::exp(-distance / spec.length),
        (false, false) => 0.0,
    };
    variance * between_groups * between_bins
}

/// `E[x x^T]` of the head's input x: within a feature a diagonal, between features the product of means.
fn second_moment(features: &[HeadFeature]) -> Array2<f64> {
    let mut means = Array1::zeros(total(features));
    let mut squares = means.clone();
    let mut owner = vec![0; means.len()];
    for (first, feature) in placed(features) {
        let weight = f64::from(feature.weight);
        for index in 0..feature.parameters() {
            let share = share(feature, index);
            means[first + index] = weight * share;
            squares[first + index] = weight * weight * share;
            owner[first + index] = first;
        }
    }
    // Two bins of one feature exclude each other.
    Array2::from_shape_fn((owner.len(), owner.len()), |(row, column)| match owner[row] == owner[column] {
        true if row == column => squares[row],
        true => 0.0,
        false => means[row] * means[column],
    })
}

/// Share of records in a bin, as far as `H` is concerned.
fn share(feature: &HeadFeature, index: usize) -> f64 {
    let present = feature.bins - 1;
    let within = match present {
        0 => 1.0,
        _ if index % feature.bins == present => MISSING_SHARE,
        _ => (1.0 - MISSING_SHARE) / present as f64,
    };
    within / feature.groups as f64
}

fn placed(features: &[HeadFeature]) -> impl Iterator<Item = (usize, &HeadFeature)> {
    features.iter().scan(0, |next, feature| {
        let first = *next;
        *next += feature.parameters();
        Some((first, feature))
    })
}

fn total(features: &[HeadFeature]) -> usize {
    features.iter().map(HeadFeature::parameters).sum()
}

#[cfg(test)]
mod tests;
