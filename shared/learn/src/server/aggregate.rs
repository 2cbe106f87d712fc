//! Sums over sites whose result does not depend on the order of the sites.

use std::cmp::Ordering;

use super::error::check_length;
use super::{PrivateScale, ServerError, SiteContribution, SiteDifference};

/// `sum_k records_k g_k / sum_k records_k`.
pub(super) fn public_mean(
    contributions: &[SiteContribution],
    length: usize,
) -> Result<Vec<f64>, ServerError> {
    let parts = contributions.iter().map(|c| (c.records, &c.public_gradient[..])).collect();
    weighted_mean("public gradient", "records", parts, length)
}

/// `sum_k units_k d_k / sum_k units_k`.
pub(super) fn difference_mean(
    contributions: &[SiteDifference],
    length: usize,
) -> Result<Vec<f64>, ServerError> {
    let parts = contributions.iter().map(|c| (c.units, &c.difference[..])).collect();
    weighted_mean("model difference", "units", parts, length)
}

/// `sum_k S_k * grid_step / (q * sum_k units_k)`; `None` in a warm-up round.
pub(super) fn private_mean(
    contributions: &[SiteContribution],
    length: usize,
    scale: &PrivateScale,
) -> Result<Option<Vec<f64>>, ServerError> {
    let sums: Vec<&[i64]> = contributions.iter().filter_map(|c| c.private_sum.as_deref()).collect();
    if sums.is_empty() {
        return Ok(None);
    }
    if sums.len() != contributions.len() {
        return Err(ServerError::MixedWarmup { with: sums.len(), all: contributions.len() });
    }
    let units: u128 = contributions.iter().map(|c| u128::from(c.units)).sum();
    if units == 0 {
        return Err(ServerError::NoWeight { what: "units" });
    }
    let factor = scale.factor(units)?;
    for sum in &sums {
        check_length("private sum", length, sum.len())?;
    }
    let scaled = |total: f64| total * factor;
    Ok(Some(match narrow_total(&sums, length) {
        Some(total) => total.into_iter().map(|value| scaled(value as f64)).collect(),
        None => wide_total(&sums, length).into_iter().map(|value| scaled(value as f64)).collect(),
    }))
}

/// Exact sum over sites; `None` if a partial sum leaves 64 bits, which honest sites' sums are far from.
fn narrow_total(sums: &[&[i64]], length: usize) -> Option<Vec<i64>> {
    let (mut total, mut left) = (vec![0_i64; length], false);
    for sum in sums {
        for (total, &value) in total.iter_mut().zip(*sum) {
            let (next, overflow) = total.overflowing_add(value);
            *total = next;
            left |= overflow;
        }
    }
    (!left).then_some(total)
}

/// Exact sum over sites: fewer than 2^64 terms below 2^63 in magnitude. Rounded to f64 it is the same number as
/// [`narrow_total`], but many times slower to get.
fn wide_total(sums: &[&[i64]], length: usize) -> Vec<i128> {
    let mut total = vec![0_i128; length];
    for sum in sums {
        total.iter_mut().zip(*sum).for_each(|(total, &value)| *total += i128::from(value));
    }
    total
}

/// Variance of the noise in each coordinate of [`private_mean`]; 0 in a warm-up round.
pub(super) fn noise_variance(
    contributions: &[SiteContribution],
    scale: &PrivateScale,
) -> Result<f64, ServerError> {
    let deviation = scale.noise_deviation;
    if !(deviation >= 0.0 && deviation.is_finite()) {
        let range = "finite and at least 0";
        return Err(ServerError::Setting { field: "noise_deviation", value: deviation, range });
    }
    let noisy = contributions.iter().filter(|c| c.private_sum.is_some());
    let (sites, units) =
        noisy.fold((0_u64, 0_u128), |(sites, units), c| (sites + 1, units + u128::from(c.units)));
    if sites == 0 {
        return Ok(0.0);
    }
    // Every site draws its own noise, so variances add up.
    let mean = deviation * (scale.factor(units)? / scale.grid_step);
    Ok(sites as f64 * mean * mean)
}

impl PrivateScale {
    /// Factor from summed grid steps to the mean gradient of `units` units.
    fn factor(&self, units: u128) -> Result<f64, ServerError> {
        let (step, q) = (self.grid_step, self.sampling_probability);
        if !(step > 0.0 && step.is_finite()) {
            return Err(ServerError::Setting {
                field: "grid_step",
                value: step,
                range: "finite and above 0",
            });
        }
        if !(q > 0.0 && q <= 1.0) {
            let range = "above 0 and at most 1";
            return Err(ServerError::Setting { field: "sampling_probability", value: q, range });
        }
        Ok(step / (q * units as f64))
    }
}

/// Partial sums of [`project`]: enough for additions not to wait for each other.
const LANES: usize = 16;

/// Scales a vector down to Euclidean norm `limit` if it is longer.
pub(super) fn project(params: &mut [f32], limit: f64) {
    let norm = squared_norm(params).sqrt();
    if norm > limit {
        let factor = limit / norm;
        params.iter_mut().for_each(|p| *p = (f64::from(*p) * factor) as f32);
    }
}

/// Sum of squares, in a fixed order on every platform: a lane for each remainder of the index, lanes added in order.
fn squared_norm(params: &[f32]) -> f64 {
    let (chunks, rest) = params.as_chunks::<LANES>();
    let mut lanes = [0.0_f64; LANES];
    let mut add = |values: &[f32]| {
        lanes.iter_mut().zip(values).for_each(|(lane, &p)| *lane += f64::from(p) * f64::from(p));
    };
    chunks.iter().for_each(|chunk| add(chunk));
    add(rest);
    lanes.iter().sum()
}

/// Mean of vectors with integer weights. They are added in the order of weight, then of values, which does not depend on
/// the order in which they are given.
fn weighted_mean(
    what: &'static str,
    weights: &'static str,
    mut parts: Vec<(u64, &[f32])>,
    length: usize,
) -> Result<Vec<f64>, ServerError> {
    for (_, values) in &parts {
        check_length(what, length, values.len())?;
        if values.iter().any(|value| !value.is_finite()) {
            return Err(ServerError::NotFinite { what });
        }
    }
    let total: u128 = parts.iter().map(|&(weight, _)| u128::from(weight)).sum();
    if total == 0 {
        return Err(ServerError::NoWeight { what: weights });
    }
    parts.sort_by(compare);
    let mut mean = vec![0.0; length];
    for (weight, values) in parts {
        let weight = weight as f64 / total as f64;
        mean.iter_mut().zip(values).for_each(|(mean, &value)| *mean += weight * f64::from(value));
    }
    Ok(mean)
}

fn compare(a: &(u64, &[f32]), b: &(u64, &[f32])) -> Ordering {
    let values = || {
        let mut pairs = a.1.iter().zip(b.1).map(|(a, b)| a.total_cmp(b));
        pairs.find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
    };
    a.0.cmp(&b.0).then_with(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn narrow_and_wide_totals_agree_where_both_exist() {
        let sites: [&[i64]; 3] = [&[1, -5, i64::MAX / 4], &[7, i64::MIN / 4, 9], &[-9, 3, i64::MAX / 4]];
        let narrow = narrow_total(&sites, 3).map(|total| total.into_iter().map(i128::from).collect());
        assert_eq!(narrow, Some(wide_total(&sites, 3)));
    }

    #[test]
    fn a_total_beyond_64_bits_is_left_to_the_wide_one() {
        let sites: [&[i64]; 3] = [&[i64::MAX], &[1], &[-1]];
        assert_eq!(narrow_total(&sites, 1), None);
        assert_eq!(wide_total(&sites, 1), [i128::from(i64::MAX)]);
    }

    #[test]
    fn a_projected_vector_has_the_limit_as_norm_whatever_its_length() {
        for length in [1, LANES - 1, LANES, 3 * LANES + 5] {
            let original: Vec<f32> = (0..length).map(|i| 1.0 + i as f32).collect();
            let exact: f64 = original.iter().map(|&p| f64::from(p).powi(2)).sum();
            let mut projected = original.clone();
            project(&mut projected, 0.5);
            for (found, before) in projected.iter().zip(&original) {
                let expected = f64::from(*before) * 0.5 / exact.sqrt();
                assert!((f64::from(*found) - expected).abs() < 1e-7, "{found} against {expected}");
            }
            let mut short = original.clone();
            project(&mut short, 2.0 * exact.sqrt());
            assert_eq!(short, original);
        }
    }
}
