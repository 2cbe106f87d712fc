//! Where randomness comes from, as an argument.

use fusiondp_dp::{Digest, SecureRng, SeedError, UpdateId};
use fusiondp_protocol::ids::CohortName;
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::policy::Purpose;

/// Source of secret samples, noise and public batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RandomSource {
    /// The operating system. The only source that `fusiondp-site run` can construct.
    Os,
    /// Reproducible, and therefore without any privacy: whoever knows the seed can take the noise off. For simulations
    /// and tests. Sites of one simulation need different seeds.
    Simulation {
        /// Seed of one site.
        seed: u64,
    },
}

/// What a generator is for. Different draws get unrelated generators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Draw {
    /// Digest of the study document.
    pub study: Digest,
    /// The round, from 1.
    pub round: u32,
    /// The attempt, from 1.
    pub attempt: u32,
    /// The local step, from 1.
    pub local_step: u32,
}

impl RandomSource {
    /// Whether what is drawn protects anybody.
    pub fn purpose(self) -> Purpose {
        match self {
            RandomSource::Os => Purpose::Production,
            RandomSource::Simulation { .. } => Purpose::Simulation,
        }
    }

    /// Generator of the secret sample and the noise of one private step.
    ///
    /// # Errors
    /// The operating system gives no randomness.
    pub fn private(self, draw: Draw) -> Result<SecureRng, SeedError> {
        match self {
            RandomSource::Os => SecureRng::from_os(),
            RandomSource::Simulation { seed } => {
                Ok(SecureRng::seeded_for_simulation(seed, draw.stream("private")))
            }
        }
    }

    /// Generator of the secret sample and the noise of one public part that protects whole records.
    ///
    /// # Errors
    /// The operating system gives no randomness.
    pub fn records(self, draw: Draw) -> Result<SecureRng, SeedError> {
        match self {
            RandomSource::Os => SecureRng::from_os(),
            RandomSource::Simulation { seed } => {
                Ok(SecureRng::seeded_for_simulation(seed, draw.stream("records")))
            }
        }
    }

    /// Generator of the noise of a table of counts.
    ///
    /// # Errors
    /// The operating system gives no randomness.
    pub fn counts(self, study: Digest, model: Digest, cohort: &CohortName) -> Result<SecureRng, SeedError> {
        match self {
            RandomSource::Os => SecureRng::from_os(),
            RandomSource::Simulation { seed } => {
                let bytes =
                    [b"counts\0", &study.as_bytes()[..], model.as_bytes(), cohort.as_str().as_bytes()];
                Ok(SecureRng::seeded_for_simulation(seed, first_word(&bytes.concat())))
            }
        }
    }

    /// Generator of the public batch and the dropout mask of one step; nothing it draws is secret.
    ///
    /// # Errors
    /// The operating system gives no randomness.
    pub fn public(self, draw: Draw) -> Result<StdRng, SeedError> {
        let mut seeder = match self {
            RandomSource::Os => SecureRng::from_os()?,
            RandomSource::Simulation { seed } => {
                SecureRng::seeded_for_simulation(seed, draw.stream("public"))
            }
        };
        Ok(StdRng::from_rng(&mut seeder))
    }

    /// A fresh update id, from the operating system also in a simulation: a restarted one must not repeat an id.
    ///
    /// # Errors
    /// The operating system gives no randomness.
    pub fn update_id(self) -> Result<UpdateId, SeedError> {
        Ok(UpdateId::random(&mut SecureRng::from_os()?))
    }
}

impl Draw {
    fn stream(&self, what: &str) -> u64 {
        let mut bytes = what.as_bytes().to_vec();
        bytes.push(0);
        bytes.extend(self.study.as_bytes());
        for number in [self.round, self.attempt, self.local_step] {
            bytes.extend(number.to_le_bytes());
        }
        first_word(&bytes)
    }
}

/// The digest's first eight bytes.
fn first_word(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&Digest::of(bytes).as_bytes()[..8]);
    u64::from_le_bytes(word)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use rand::Rng;

    use super::*;

    #[test]
    fn a_simulation_repeats_and_every_draw_is_its_own() {
        let draw = |round, local_step| Draw { study: Digest::of(b"s"), round, attempt: 1, local_step };
        let first = |seed, draw| RandomSource::Simulation { seed }.private(draw).unwrap().next_u64();
        assert_eq!(first(1, draw(1, 1)), first(1, draw(1, 1)));
        assert_ne!(first(1, draw(1, 1)), first(2, draw(1, 1)));
        assert_ne!(first(1, draw(1, 1)), first(1, draw(2, 1)));
        assert_ne!(first(1, draw(1, 1)), first(1, draw(1, 2)));
        let source = RandomSource::Simulation { seed: 1 };
        assert_ne!(source.public(draw(1, 1)).unwrap().next_u64(), first(1, draw(1, 1)));
        assert_ne!(source.records(draw(1, 1)).unwrap().next_u64(), first(1, draw(1, 1)));
        let counts = |cohort: &str, model: &[u8]| {
            let cohort = cohort.parse().unwrap();
            source.counts(Digest::of(b"s"), Digest::of(model), &cohort).unwrap().next_u64()
        };
        assert_eq!(counts("test", b"m"), counts("test", b"m"));
        assert_ne!(counts("test", b"m"), counts("val", b"m"));
        assert_ne!(counts("test", b"m"), counts("test", b"n"));
        assert_ne!(source.update_id().unwrap(), source.update_id().unwrap());
    }
}
