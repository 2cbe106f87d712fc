#![allow(clippy::unwrap_used)]

use super::*;
use crate::random::SecureRng;

fn rng(stream: u64) -> SecureRng {
    SecureRng::seeded_for_simulation(2020, stream)
}

/// Pearson's statistic of `counts` against `probabilities`, and a bound that it exceeds with probability below 1e-6
/// (Laurent and Massart 2000, Lemma 1, with x = 14 and 10 % for the approximation of counts by normals).
fn chi_square(counts: &[u64], probabilities: &[f64]) -> (f64, f64) {
    let total: u64 = counts.iter().sum();
    let statistic = counts
        .iter()
        .zip(probabilities)
        .map(|(&count, p)| {
            let expected = p * total as f64;
            (count as f64 - expected).powi(2) / expected
        })
        .sum();
    let freedom = counts.len() as f64 - 1.0;
    (statistic, 1.1 * (freedom + 2.0 * (freedom * 14.0).sqrt() + 28.0))
}

/// Bins `-reach..=reach`, the outermost open, with exact probabilities of the discrete Gaussian.
fn exact_bins(sigma: f64, reach: i64) -> Vec<f64> {
    let weight = |x: i64| (-((x * x) as f64) / (2.0 * sigma * sigma)).exp();
    let far = (40.0 * sigma) as i64 + 10;
    let normalizer: f64 = (-far..=far).map(weight).sum();
    let tail: f64 = (reach..=far).map(weight).sum();
    let mut bins: Vec<f64> = (-reach..=reach).map(|x| weight(x) / normalizer).collect();
    bins[0] = tail / normalizer;
    bins[2 * reach as usize] = tail / normalizer;
    bins
}

#[test]
fn small_sigma_matches_the_exact_probabilities() {
    for (stream, sigma, reach) in [(1, 1_u64, 3_i64), (2, 2, 7), (3, 3, 10), (4, 7, 22)] {
        let (gaussian, mut rng) = (DiscreteGaussian { sigma }, rng(stream));
        let mut counts = vec![0_u64; 2 * reach as usize + 1];
        for _ in 0..1_000_000 {
            let value = gaussian.sample(&mut rng).clamp(-reach, reach);
            counts[(value + reach) as usize] += 1;
        }
        let (statistic, bound) = chi_square(&counts, &exact_bins(sigma as f64, reach));
        assert!(statistic < bound, "sigma {sigma}: chi-square {statistic} against {bound}");
    }
}

/// Standardized to `z`, the k-th sample moment has deviation `sqrt((m_2k - m_k²)/n)`; 6 deviations, below 2e-9 each.
#[test]
fn large_sigma_has_the_moments_of_the_normal_distribution() {
    for (stream, multiplier) in [(5, 1.0 / 1024.0), (6, 1.047), (7, 22.0), (8, 4096.0)] {
        let gaussian = DiscreteGaussian::for_multiplier(NoiseMultiplier::new(multiplier).unwrap()).unwrap();
        let (n, mut rng) = (1_000_000, rng(stream));
        let mut moments = [0.0; 4];
        for _ in 0..n {
            let z = gaussian.sample(&mut rng) as f64 / gaussian.sigma as f64;
            for (k, moment) in moments.iter_mut().enumerate() {
                *moment += z.powi(k as i32 + 1) / f64::from(n);
            }
        }
        let expected = [(0.0, 1.0_f64), (1.0, 2.0), (0.0, 15.0), (3.0, 96.0)];
        for (k, (mean, variance)) in expected.into_iter().enumerate() {
            let deviation = (variance / f64::from(n)).sqrt();
            let found = moments[k];
            assert!(
                (found - mean).abs() < 6.0 * deviation,
                "multiplier {multiplier}, moment {}: {found}",
                k + 1
            );
        }
    }
}

/// Frequencies beyond 1 to 4 deviations against the normal tail; 6 deviations of a binomial count each.
#[test]
fn large_sigma_has_the_tails_of_the_normal_distribution() {
    let gaussian = DiscreteGaussian { sigma: 1 << 20 };
    let (n, mut rng) = (2_000_000, rng(9));
    let mut beyond = [0_u32; 4];
    for _ in 0..n {
        let z = gaussian.sample(&mut rng).unsigned_abs() as f64 / gaussian.sigma as f64;
        for (limit, count) in beyond.iter_mut().enumerate() {
            *count += u32::from(z > limit as f64 + 1.0);
        }
    }
    for (limit, count) in beyond.into_iter().enumerate() {
        let p = libm::erfc((limit as f64 + 1.0) / std::f64::consts::SQRT_2);
        let deviation = (f64::from(n) * p * (1.0 - p)).sqrt();
        assert!(
            (f64::from(count) - f64::from(n) * p).abs() < 6.0 * deviation,
            "beyond {}: {count}",
            limit + 1
        );
    }
}

#[test]
fn bernoulli_variables_have_their_exact_probabilities() {
    let n = 1_000_000;
    let check = |name: &str, p: f64, draw: &mut dyn FnMut() -> bool| {
        let count = (0..n).filter(|_| draw()).count() as f64;
        let deviation = (f64::from(n) * p * (1.0 - p)).sqrt();
        assert!((count - f64::from(n) * p).abs() < 6.0 * deviation, "{name}: {count} of {n}, expected {p}");
    };
    let mut rng = rng(10);
    check("exp(-1)", (-1.0_f64).exp(), &mut || exp_one(&mut rng));
    check("exp(-1/2)", (-0.5_f64).exp(), &mut || exp_fraction(1, 2, &mut rng));
    check("exp(-3/7)", (-3.0_f64 / 7.0).exp(), &mut || exp_fraction(3, 7, &mut rng));
    check("exp(-9/50)", (-9.0_f64 / 50.0).exp(), &mut || half_square(3, 5, &mut rng));
    let far = DiscreteGaussian { sigma: 4 };
    check("exp(-81/32)", (-81.0_f64 / 32.0).exp(), &mut || far.accepts(13, &mut rng));
    assert!((0..1000).all(|_| exp_fraction(0, 9, &mut rng)));
}

#[test]
fn uniform_integers_are_even_also_for_huge_bounds() {
    let mut rng = rng(11);
    let mut counts = [0_u64; 3];
    let bound = 3 << 62;
    for _ in 0..300_000 {
        counts[(below(bound, &mut rng) >> 62) as usize] += 1;
    }
    let (statistic, limit) = chi_square(&counts, &[1.0 / 3.0; 3]);
    assert!(statistic < limit, "{counts:?}");
}

#[test]
fn sigma_is_rounded_up() {
    let sigma = |multiplier: f64| {
        DiscreteGaussian::for_multiplier(NoiseMultiplier::new(multiplier).unwrap())
            .map(|gaussian| gaussian.sigma)
    };
    assert_eq!(sigma(1.0).unwrap(), (1 << 28) + 1);
    assert_eq!(sigma(1.0 + f64::EPSILON).unwrap(), (1 << 28) + 2);
    assert_eq!(sigma(1.0 / 1024.0).unwrap(), (1 << 18) + 1);
    assert!(sigma(1.0 / 1025.0).is_err());
    assert_eq!(sigma(4096.0).unwrap(), (1 << 40) + 1);
    assert!(sigma(4096.5).is_err());
}
