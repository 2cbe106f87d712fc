//! Frequencies against exact probabilities. Seeds are fixed, so a test fails always or never.

use super::*;

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

fn samples(sigma: u64, count: usize, stream: u64) -> Vec<i64> {
    let mut samples = vec![0; count];
    DiscreteGaussian::with_sigma(sigma).add_noise(&mut samples, &mut rng(stream));
    samples
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

/// All values with their signs: widths of one and two, decisions in fixed point and exact ones.
#[test]
fn small_sigma_matches_the_exact_probabilities() {
    let settings =
        [(1, 1, 3_i64), (2, 2, 7), (3, 3, 10), (4, 7, 22), (20, 31, 100), (21, 32, 104), (22, 127, 410)];
    for (stream, sigma, reach) in settings {
        let mut counts = vec![0_u64; 2 * reach as usize + 1];
        for value in samples(sigma, 1_000_000, stream) {
            counts[(value.clamp(-reach, reach) + reach) as usize] += 1;
        }
        let (statistic, bound) = chi_square(&counts, &exact_bins(sigma as f64, reach));
        assert!(statistic < bound, "sigma {sigma}: chi-square {statistic} against {bound}");
    }
}

/// Probability of the integers in `[from, to)` for a large sigma: the midpoint rule is off by less than 1e-7 of it.
fn probability(from: i64, to: i64, sigma: u64) -> f64 {
    let cumulated = |x: i64| {
        let z = (x as f64 - 0.5) / sigma as f64;
        0.5 * libm::erfc(-z * std::f64::consts::FRAC_1_SQRT_2)
    };
    cumulated(to) - cumulated(from)
}

/// Bins of the given width from `-reach` to `reach` bins, the outermost open.
fn check_bins(sigma: u64, log2_bin: u32, reach: i64, stream: u64) {
    let mut counts = vec![0_u64; 2 * reach as usize];
    for value in samples(sigma, 4_000_000, stream) {
        counts[((value >> log2_bin).clamp(-reach, reach - 1) + reach) as usize] += 1;
    }
    let far = 40 * sigma as i64;
    let bins = (-reach..reach).map(|bin| {
        let from = if bin == -reach { -far } else { bin << log2_bin };
        let to = if bin == reach - 1 { far } else { (bin + 1) << log2_bin };
        probability(from, to, sigma)
    });
    let (statistic, bound) = chi_square(&counts, &bins.collect::<Vec<_>>());
    assert!(statistic < bound, "sigma {sigma}, bins 2^{log2_bin}: chi-square {statistic} against {bound}");
}

/// Both signs of each strip up to 4 sigma, for the widest and the narrowest strips.
#[test]
fn strips_have_the_probabilities_of_the_normal_distribution() {
    for (stream, sigma) in [(5, 1 << 20), (6, (1 << 21) - 1), (7, 1025), (8, (1 << 40) + 1)] {
        let log2_width = Strips::new(sigma).log2_width;
        check_bins(sigma, log2_width, (4 * sigma as i64) >> log2_width, stream);
    }
}

/// Sixteen bins in each strip up to 3 sigma.
#[test]
fn values_within_a_strip_have_the_probabilities_of_the_normal_distribution() {
    for (stream, sigma) in [(9, 1 << 20), (10, 3 << 33)] {
        let log2_bin = Strips::new(sigma).log2_width - 4;
        check_bins(sigma, log2_bin, (3 * sigma as i64) >> log2_bin, stream);
    }
}

/// The residue of a large sigma's sample modulo 64 is even up to exp(-2 pi² (sigma/64)²).
#[test]
fn the_lowest_bits_are_even() {
    for (stream, sigma) in [(11, 1025), (12, 1 << 20), (13, 1 << 40)] {
        let mut counts = [0_u64; 64];
        for value in samples(sigma, 1_000_000, stream) {
            counts[value.rem_euclid(64) as usize] += 1;
        }
        let (statistic, bound) = chi_square(&counts, &[1.0 / 64.0; 64]);
        assert!(statistic < bound, "sigma {sigma}: chi-square {statistic} against {bound}");
    }
}

/// Values and their opposites are equally frequent; 6 deviations each.
#[test]
fn signs_are_even() {
    for (stream, sigma) in [(14, 1), (15, 40), (16, 1025), (17, 1 << 20)] {
        let samples = samples(sigma, 2_000_000, stream);
        for least in [1, 1 + sigma as i64, 2 * sigma as i64] {
            let above = samples.iter().filter(|&&value| value >= least).count() as f64;
            let below = samples.iter().filter(|&&value| value <= -least).count() as f64;
            assert!((above - below).abs() < 6.0 * (above + below).sqrt(), "sigma {sigma}: {above}, {below}");
        }
    }
}

/// Neighboring samples are uncorrelated, also in magnitude: products of standardized ones at 6 deviations.
#[test]
fn neighbors_are_uncorrelated() {
    let (sigma, n) = (1_u64 << 20, 2_000_000);
    let z: Vec<f64> = samples(sigma, n, 18).iter().map(|&value| value as f64 / sigma as f64).collect();
    let mean = |term: &dyn Fn(f64, f64) -> f64| {
        z.windows(2).map(|pair| term(pair[0], pair[1])).sum::<f64>() / n as f64
    };
    let deviation = 1.0 / (n as f64).sqrt();
    assert!(mean(&|a, b| a * b).abs() < 6.0 * deviation);
    // The variance of z² is 2, so that of the product is 4.
    assert!(mean(&|a, b| (a * a - 1.0) * (b * b - 1.0)).abs() < 12.0 * deviation);
}

/// Standardized to `z`, the k-th sample moment has deviation `sqrt((m_2k - m_k²)/n)`; 6 deviations, below 2e-9 each.
#[test]
fn large_sigma_has_the_moments_of_the_normal_distribution() {
    for (stream, multiplier) in [(5, 1.0 / 1024.0), (6, 1.047), (7, 22.0), (8, 4096.0)] {
        let gaussian = DiscreteGaussian::for_multiplier(NoiseMultiplier::new(multiplier).unwrap()).unwrap();
        let n = 1_000_000;
        let mut moments = [0.0; 4];
        for value in samples(gaussian.sigma, n, stream) {
            let z = value as f64 / gaussian.sigma as f64;
            for (k, moment) in moments.iter_mut().enumerate() {
                *moment += z.powi(k as i32 + 1) / n as f64;
            }
        }
        let expected = [(0.0, 1.0_f64), (1.0, 2.0), (0.0, 15.0), (3.0, 96.0)];
        for (k, (mean, variance)) in expected.into_iter().enumerate() {
            let deviation = (variance / n as f64).sqrt();
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
    let (sigma, n) = (1_u64 << 20, 2_000_000);
    let mut beyond = [0_u32; 4];
    for value in samples(sigma, n, 9) {
        let z = value.unsigned_abs() as f64 / sigma as f64;
        for (limit, count) in beyond.iter_mut().enumerate() {
            *count += u32::from(z > limit as f64 + 1.0);
        }
    }
    for (limit, count) in beyond.into_iter().enumerate() {
        let p = libm::erfc((limit as f64 + 1.0) / std::f64::consts::SQRT_2);
        let deviation = (n as f64 * p * (1.0 - p)).sqrt();
        assert!((f64::from(count) - n as f64 * p).abs() < 6.0 * deviation, "beyond {}: {count}", limit + 1);
    }
}

/// The tail called directly: values of both signs beyond the strips come out as often as the proof says, which is
/// `full_weight f(x) / (2 W)` of the tail's weight each.
#[test]
fn the_tail_has_its_exact_probabilities() {
    let (sigma, draws) = (63, 500_000_u64);
    let gaussian = DiscreteGaussian::with_sigma(sigma);
    let mut rng = rng(19);
    let (begin, reach, length) = (TAIL as i64, 30_usize, 1 << 20);
    let mut counts = vec![0_u64; 2 * reach + 1];
    for draw in 0..draws {
        let sign = -((draw & 1) as i64);
        let place = Place { strip: TAIL, position: rng.next_u64() % length, length };
        let accepted = gaussian.tail_candidate(place, sign, &mut rng).filter(|candidate| {
            let digits = rng.next_u64();
            gaussian.accepts(candidate, digits, &mut rng)
        });
        // The last bin counts what was not accepted.
        let bin = accepted.map_or(2 * reach, |candidate| {
            let distance = (candidate.value.abs() - begin - i64::from(candidate.value < 0)) as usize;
            distance.min(reach - 1) + if candidate.value < 0 { reach } else { 0 }
        });
        counts[bin] += 1;
    }
    let scale = gaussian.strips.full_weight as f64 / (2.0 * gaussian.strips.weights[TAIL] as f64);
    let weight = |x: i64| scale * (-((x * x) as f64) / (2 * sigma * sigma) as f64).exp();
    let side = |first: i64| {
        (0..reach as i64).map(move |bin| match bin + 1 == reach as i64 {
            true => (first + bin..first + 2000).map(weight).sum::<f64>(),
            false => weight(first + bin),
        })
    };
    let mut probabilities: Vec<f64> = side(begin).chain(side(begin + 1)).collect();
    probabilities.push(1.0 - probabilities.iter().sum::<f64>());
    assert!(draws - counts[2 * reach] > 5_000, "{counts:?}");
    let (statistic, bound) = chi_square(&counts, &probabilities);
    assert!(statistic < bound, "chi-square {statistic} against {bound}: {counts:?}");
}
