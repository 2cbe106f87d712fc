//! Cryptographically secure randomness, always an argument.

use std::{convert::Infallible, fmt};

use chacha20::ChaCha20Rng;
use rand::{
    SeedableRng as _, TryCryptoRng, TryRng,
    rngs::{SysError, SysRng},
};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

/// Why no generator could be made.
#[derive(Debug, Error)]
#[error("the operating system gave no random seed; nothing is released without one, so retry when it does")]
pub struct SeedError {
    #[from]
    source: SysError,
}

/// The ChaCha20 stream (20 rounds) under a 256-bit key.
///
/// It is neither `Clone` nor printable: two copies would draw the same noise twice, and a printed state would undo it.
pub struct SecureRng(ChaCha20Rng);

impl SecureRng {
    /// A generator under a fresh key from the operating system.
    ///
    /// # Errors
    /// [`SeedError`] if the operating system has no randomness to give.
    pub fn from_os() -> Result<Self, SeedError> {
        let mut seed = [0_u8; 32];
        SysRng.try_fill_bytes(&mut seed)?;
        Ok(Self(ChaCha20Rng::from_seed(seed)))
    }

    /// A reproducible generator, **for simulation and tests only**: whoever knows the seed can take the noise off.
    ///
    /// Different pairs of `seed` and `stream` give unrelated sequences.
    #[must_use]
    pub fn seeded_for_simulation(seed: u64, stream: u64) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(b"fusiondp/simulation-seed/v1");
        hasher.update(seed.to_le_bytes());
        hasher.update(stream.to_le_bytes());
        Self(ChaCha20Rng::from_seed(hasher.finalize().into()))
    }
}

impl fmt::Debug for SecureRng {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecureRng(..)")
    }
}

impl TryRng for SecureRng {
    type Error = Infallible;

    #[inline]
    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        self.0.try_next_u32()
    }

    #[inline]
    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        self.0.try_next_u64()
    }

    #[inline]
    fn try_fill_bytes(&mut self, destination: &mut [u8]) -> Result<(), Infallible> {
        self.0.try_fill_bytes(destination)
    }
}

impl TryCryptoRng for SecureRng {}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use rand::Rng as _;

    use super::*;

    #[test]
    fn seeded_sequences_repeat_and_differ_by_seed_and_stream() {
        let first = |seed, stream| SecureRng::seeded_for_simulation(seed, stream).next_u64();
        assert_eq!(first(1, 2), first(1, 2));
        assert_ne!(first(1, 2), first(2, 2));
        assert_ne!(first(1, 2), first(1, 3));
        assert_ne!(first(1, 2), first(2, 1));
    }

    #[test]
    fn generators_from_the_operating_system_differ() {
        let (mut one, mut two) = (SecureRng::from_os().unwrap(), SecureRng::from_os().unwrap());
        assert_ne!((one.next_u64(), one.next_u64()), (two.next_u64(), two.next_u64()));
    }

    #[test]
    fn debug_shows_no_state() {
        assert_eq!(format!("{:?}", SecureRng::seeded_for_simulation(1, 1)), "SecureRng(..)");
    }
}
