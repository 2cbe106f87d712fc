//! The two ends of an attempt, and what follows.

use super::{RoundKey, Selection};

/// The attempt was applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    key: RoundKey,
}

/// The attempt was given up and never applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Abandoned {
    key: RoundKey,
    reason: String,
}

/// What follows an applied round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// The first attempt of the next round.
    Round(Selection),
    /// It was the last one.
    Done,
}

/// Why there is no further attempt.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "round {round} was abandoned {attempts} times, the last time because of {reason}; \
     look at the sites named, raise federation.round_timeout_s or lower federation.min_sites, and submit again"
)]
pub struct GivenUp {
    round: u32,
    attempts: u32,
    reason: String,
}

impl Finished {
    /// The end of an applied attempt.
    pub fn new(key: RoundKey) -> Self {
        Self { key }
    }

    /// The attempt.
    pub fn key(&self) -> RoundKey {
        self.key
    }

    /// Version of the model that the round made.
    pub fn new_version(&self) -> u64 {
        self.key.model_version + 1
    }

    /// Opens the next round of a study of `rounds` rounds.
    pub fn next(self, rounds: u32) -> Next {
        if self.key.round >= rounds {
            return Next::Done;
        }
        Next::Round(Selection::new(RoundKey::first_attempt(self.key.round + 1, self.new_version())))
    }
}

impl Abandoned {
    /// The end of an attempt that failed.
    pub fn new(key: RoundKey, reason: String) -> Self {
        Self { key, reason }
    }

    /// The attempt.
    pub fn key(&self) -> RoundKey {
        self.key
    }

    /// Why, in one line that names the sites.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// Opens the next attempt on the same model.
    ///
    /// # Errors
    /// [`GivenUp`] after `max_attempts`.
    pub fn next(self, max_attempts: u32) -> Result<Selection, GivenUp> {
        let RoundKey { round, attempt, .. } = self.key;
        if attempt >= max_attempts {
            return Err(GivenUp { round, attempts: attempt, reason: self.reason });
        }
        Ok(Selection::new(RoundKey { attempt: attempt + 1, ..self.key }))
    }
}
