//! The random stream of one synthetic patient: keyed by what it is for, identical on every platform.

use chacha20::ChaCha20Rng;
use rand::{Rng, SeedableRng};
use sha2::{Digest, Sha256};

/// Uniform and normal draws from ChaCha20 under a key derived from labels. Not for privacy noise.
#[derive(Debug)]
pub struct Draw(ChaCha20Rng);

impl Draw {
    /// The stream of `patient` (counted from 0) of `hospital` (counted from 0) under `seed`.
    #[must_use]
    pub fn of_patient(seed: u64, hospital: u32, patient: u64) -> Self {
        let mut key = Sha256::new();
        key.update(b"fusiondp synthetic cohort 1");
        key.update(seed.to_le_bytes());
        key.update(hospital.to_le_bytes());
        key.update(patient.to_le_bytes());
        Self(ChaCha20Rng::from_seed(key.finalize().into()))
    }

    /// Uniform in (0, 1), 53 bits, never 0.
    pub fn uniform(&mut self) -> f64 {
        const STEP: f64 = 1.0 / (1u64 << 53) as f64;
        ((self.0.next_u64() >> 11) as f64 + 0.5) * STEP
    }

    /// True with probability `p`.
    pub fn chance(&mut self, p: f64) -> bool {
        self.uniform() < p
    }

    /// Standard normal by Box and Muller (1958); one of the pair is thrown away to keep the stream simple.
    pub fn normal(&mut self) -> f64 {
        let radius = libm::sqrt(-2.0 * libm::log(self.uniform()));
        radius * libm::cos(std::f64::consts::TAU * self.uniform())
    }
}

/// Standard normal distribution function.
#[must_use]
pub fn normal_cdf(x: f64) -> f64 {
    0.5 * libm::erfc(-x * std::f64::consts::FRAC_1_SQRT_2)
}

/// Logistic function.
#[must_use]
pub fn logistic(x: f64) -> f64 {
    1.0 / (1.0 + libm::exp(-x))
}
