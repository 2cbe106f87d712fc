//! From guesses to lower bounds on epsilon.

use fusiondp_dp::{Epsilon, gaussian_mu};

/// Largest epsilon that is looked for.
const MOST: f64 = 40.0;

/// A lower bound on epsilon at `delta` that is wrong with probability `error` at most: `right` of `guesses` secret bits out
/// of `canaries` independent ones were guessed.
///
/// Steinke, Nasr, Jagielski 2023 (arXiv 2305.08846), Theorem 5.2: for an (epsilon, delta) private mechanism, the
/// probability of `right` or more is at most `P[W >= right] + 2 m delta max_i P[right - i <= W < right] / i`, with `W`
/// binomial over the guesses at probability `e^epsilon / (1 + e^epsilon)`. It needs no independence of the outcomes.
#[must_use]
pub fn epsilon((canaries, guesses, right): (usize, usize, usize), delta: f64, error: f64) -> f64 {
    let refuted = |epsilon: f64| probability_of(canaries, (guesses, right), epsilon, delta) <= error;
    if !refuted(0.0) {
        return 0.0;
    }
    let (mut low, mut high) = (0.0, MOST);
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        if refuted(middle) { low = middle } else { high = middle }
    }
    low
}

/// Bound on the probability of so many right guesses.
fn probability_of(canaries: usize, (guesses, right): (usize, usize), epsilon: f64, delta: f64) -> f64 {
    let log_masses = log_binomial(guesses, 1.0 / (1.0 + (-epsilon).exp()));
    let at_least: f64 = log_masses[right..].iter().map(|mass| mass.exp()).sum();
    let (mut below, mut worst) = (0.0, 0.0_f64);
    for (distance, mass) in log_masses[..right].iter().rev().enumerate() {
        below += mass.exp();
        worst = worst.max(below / (distance + 1) as f64);
    }
    at_least + 2.0 * canaries as f64 * delta * worst
}

/// A lower bound on epsilon at `delta`, if the mechanism is as private as some Gaussian one and outcomes are independent:
/// `wrong` of the bits of all `canaries` were guessed wrongly.
///
/// Every test against a Gaussian mechanism errs at a rate of at least `Phi(-mu / 2)` (Dong, Roth, Su 2022), so an upper
/// confidence limit of the error rate (Clopper, Pearson 1934) bounds `mu` from below (Nasr et al. 2023, arXiv 2302.07956).
#[must_use]
pub fn gaussian_epsilon((canaries, wrong): (usize, usize), delta: f64, error: f64) -> f64 {
    let mu = least_mu(largest_rate(canaries, wrong, error));
    let (mut low, mut high) = (0.0, MOST);
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        let too_large = Epsilon::new(middle).map_or(true, |epsilon| gaussian_mu(epsilon, delta) > mu);
        if too_large { high = middle } else { low = middle }
    }
    low
}

/// The rate at which so few errors or fewer have probability `error`.
fn largest_rate(trials: usize, errors: usize, error: f64) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        let at_most: f64 = log_binomial(trials, middle)[..=errors].iter().map(|mass| mass.exp()).sum();
        if at_most > error { low = middle } else { high = middle }
    }
    high
}

/// The `mu` at which the best test errs at this rate.
fn least_mu(rate: f64) -> f64 {
    let (mut low, mut high) = (0.0, 2.0 * MOST);
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        let errs = 0.5 * libm::erfc(0.5 * middle * std::f64::consts::FRAC_1_SQRT_2);
        if errs >= rate { low = middle } else { high = middle }
    }
    low
}

/// Logarithms of the binomial probabilities of 0 to `trials`.
fn log_binomial(trials: usize, probability: f64) -> Vec<f64> {
    let (yes, no) = (probability.ln(), (1.0 - probability).ln());
    let log_factorial = |n: usize| libm::lgamma(n as f64 + 1.0);
    let all = log_factorial(trials);
    let power = |times: usize, log: f64| if times == 0 { 0.0 } else { times as f64 * log };
    (0..=trials)
        .map(|k| all - log_factorial(k) - log_factorial(trials - k) + power(k, yes) + power(trials - k, no))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binomial_probabilities_sum_to_one() {
        for (trials, probability) in [(1, 0.3), (50, 0.5), (2_000, 0.731), (3, 1.0), (3, 0.0)] {
            let sum: f64 = log_binomial(trials, probability).iter().map(|mass| mass.exp()).sum();
            assert!((sum - 1.0).abs() < 1e-9, "{trials} {probability}: {sum}");
        }
    }

    /// Pure privacy: all of r guesses right has probability (e^ε / (1 + e^ε))^r.
    #[test]
    fn guesses_that_are_all_right_bound_epsilon_as_by_hand() {
        let found = epsilon((100, 100, 100), 0.0, 0.05);
        let rate = 0.05_f64.powf(0.01);
        assert!((found - (rate / (1.0 - rate)).ln()).abs() < 1e-9, "{found}");
        assert!(epsilon((100, 100, 100), 1e-5, 0.05) < found);
        assert_eq!(epsilon((100, 100, 55), 0.0, 0.05), 0.0);
        assert_eq!(epsilon((1_000_000, 1_000, 700), 0.1, 0.05), 0.0);
    }

    /// Reference figures of the published procedure (p-value of the article's appendix, computed with scipy 1.16).
    #[test]
    fn bounds_agree_with_another_computation() {
        for ((canaries, guesses, right, delta), expected) in REFERENCE {
            let found = epsilon((canaries, guesses, right), delta, 0.05);
            assert!((found - expected).abs() < 2e-6, "{canaries} {guesses} {right} {delta}: {found}");
        }
    }

    const REFERENCE: [((usize, usize, usize, f64), f64); 4] = [
        ((16_384, 328, 240, 1e-5), 0.778_150_736),
        ((16_384, 328, 300, 1e-5), 2.005_751_344),
        ((4_096, 82, 80, 1e-6), 2.510_262_512),
        ((1_000, 1_000, 600, 0.0), 0.297_467_924),
    ];

    #[test]
    fn a_gaussian_mechanism_that_errs_at_its_rate_is_bounded_just_below() {
        // mu = 1: the best test errs at 30.85 %; epsilon at 1e-5 is 4.38.
        let found = gaussian_epsilon((1_000_000, 308_538), 1e-5, 0.05);
        assert!(found < 4.3772 && found > 4.33, "{found}");
        assert_eq!(gaussian_epsilon((1_000, 510), 1e-5, 0.05), 0.0);
    }
}
