//! Waiting longer and longer between attempts, at random moments.
//!
//! Full jitter: the n-th wait is uniform in `[0, min(cap, base * 2^n)]`. When a coordinator returns after an outage its
//! sites come back spread over the window instead of all at once.

use std::time::Duration;

use rand::rngs::{StdRng, SysRng};
use rand::{RngExt, SeedableRng};

/// Endless iterator of waits between attempts.
#[derive(Debug)]
pub struct Backoff {
    base: Duration,
    cap: Duration,
    attempt: u32,
    generator: StdRng,
}

impl Backoff {
    /// Waits that grow from `base` to at most `cap`, jittered from the operating system's randomness.
    ///
    /// A `cap` below `base` bounds the first wait too. Should the operating system have no randomness to give, the process
    /// id seeds the jitter: it protects no secret, and differs from peer to peer most of the time.
    #[must_use]
    pub fn new(base: Duration, cap: Duration) -> Self {
        let generator = StdRng::try_from_rng(&mut SysRng)
            .unwrap_or_else(|_| StdRng::seed_from_u64(u64::from(std::process::id())));
        Self { base, cap, attempt: 0, generator }
    }

    /// Like [`new`](Self::new) with a fixed seed, for simulations and tests.
    #[must_use]
    pub fn seeded(base: Duration, cap: Duration, seed: u64) -> Self {
        Self { base, cap, attempt: 0, generator: StdRng::seed_from_u64(seed) }
    }

    /// Starts again from the base: call it after a success.
    pub fn reset(&mut self) {
        self.attempt = 0;
    }

    /// The next wait, and one attempt more.
    pub fn next_wait(&mut self) -> Duration {
        let ceiling = self.ceiling();
        self.attempt = self.attempt.saturating_add(1);
        ceiling.mul_f64(self.generator.random_range(0.0..=1.0))
    }

    /// Longest possible next wait.
    #[must_use]
    pub fn ceiling(&self) -> Duration {
        let factor = 2_u32.checked_pow(self.attempt).unwrap_or(u32::MAX);
        self.base.saturating_mul(factor).min(self.cap)
    }
}

impl Iterator for Backoff {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(self.next_wait())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: Duration = Duration::from_millis(100);
    const CAP: Duration = Duration::from_secs(5);

    #[test]
    fn waits_stay_under_a_doubling_ceiling_and_the_cap() {
        for seed in 0..200 {
            for (attempt, wait) in Backoff::seeded(BASE, CAP, seed).take(80).enumerate() {
                let doubled = BASE.saturating_mul(2_u32.saturating_pow(attempt as u32));
                assert!(wait <= doubled.min(CAP), "attempt {attempt} of seed {seed} waits {wait:?}");
            }
        }
    }

    #[test]
    fn the_jitter_uses_the_whole_range() {
        let mut backoff = Backoff::seeded(BASE, BASE, 1);
        let waits: Vec<f64> =
            (0..10_000).map(|_| backoff.next_wait().as_secs_f64() / BASE.as_secs_f64()).collect();
        let mean = waits.iter().sum::<f64>() / waits.len() as f64;
        // Standard error of the mean of 10,000 uniforms is 0.0029; the seed is fixed.
        assert!((mean - 0.5).abs() < 0.015, "mean {mean}");
        assert!(waits.iter().any(|w| *w < 0.01) && waits.iter().any(|w| *w > 0.99));
    }

    #[test]
    fn reset_returns_to_the_base() {
        let mut backoff = Backoff::new(BASE, CAP);
        for _ in 0..10 {
            backoff.next_wait();
        }
        assert_eq!(backoff.ceiling(), CAP);
        backoff.reset();
        assert_eq!(backoff.ceiling(), BASE);
    }

    #[test]
    fn two_processes_do_not_wait_in_step() {
        let waits = |mut backoff: Backoff| (0..8).map(|_| backoff.next_wait()).collect::<Vec<_>>();
        assert_ne!(waits(Backoff::new(BASE, CAP)), waits(Backoff::new(BASE, CAP)));
    }
}
