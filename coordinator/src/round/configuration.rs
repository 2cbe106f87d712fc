//! Configuration: the task of the chosen sites.

use std::collections::BTreeSet;

use fusiondp_protocol::{Digest, Plan, SiteId, TrainingTask};

use super::reporting::SiteOutcome;
use super::{Reporting, RoundKey};

/// Sites are chosen; their task is not out yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Configuration {
    key: RoundKey,
    selected: BTreeSet<SiteId>,
}

/// What a task is made from besides the attempt.
#[derive(Debug, Clone)]
pub struct TaskInput<'a> {
    /// The plan that every site has checked.
    pub plan: &'a Plan,
    /// Newest stored model version.
    pub newest_version: u64,
    /// Digest of its parameters.
    pub model_digest: Digest,
    /// Last moment for an update, Unix milliseconds.
    pub deadline_ms: u64,
}

/// Why no task can be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigurationError {
    /// The plan has fewer rounds.
    #[error(
        "round {round} is not part of a plan of {rounds} rounds; the stored state is damaged, restore a backup"
    )]
    RoundBeyondPlan {
        /// Round of the attempt.
        round: u32,
        /// Rounds of the plan.
        rounds: u32,
    },
    /// The attempt trains on another version than the newest.
    #[error(
        "round {round} trains on model version {expected}, the newest stored one is {newest}; \
         the stored state is damaged, restore a backup"
    )]
    WrongVersion {
        /// Round of the attempt.
        round: u32,
        /// Version of the attempt.
        expected: u64,
        /// Version in the store.
        newest: u64,
    },
}

impl Configuration {
    /// Sites chosen for an attempt.
    pub fn new(key: RoundKey, selected: BTreeSet<SiteId>) -> Self {
        Self { key, selected }
    }

    /// The attempt.
    pub fn key(&self) -> RoundKey {
        self.key
    }

    /// The chosen sites.
    pub fn selected(&self) -> &BTreeSet<SiteId> {
        &self.selected
    }

    /// The phase that waits for the answers to the one [`training_task`] that all chosen sites get.
    ///
    /// # Errors
    /// [`ConfigurationError`] when plan, model and attempt do not belong together.
    pub fn configure(self, input: &TaskInput<'_>) -> Result<Reporting, ConfigurationError> {
        let RoundKey { round, model_version, .. } = self.key;
        let rounds = input.plan.rounds;
        if round == 0 || round > rounds {
            return Err(ConfigurationError::RoundBeyondPlan { round, rounds });
        }
        if model_version != input.newest_version {
            let (expected, newest) = (model_version, input.newest_version);
            return Err(ConfigurationError::WrongVersion { round, expected, newest });
        }
        let sites = self.selected.into_iter().map(|site| (site, SiteOutcome::Working)).collect();
        Ok(Reporting::new(self.key, input.deadline_ms, sites))
    }
}

/// The task of an attempt: a function of what is stored, so that a restart hands out the same one.
pub fn training_task(key: RoundKey, input: &TaskInput<'_>) -> TrainingTask {
    TrainingTask {
        plan: input.plan.clone(),
        round: key.round,
        model_version: key.model_version,
        model_digest: input.model_digest,
        attempt: key.attempt,
        private_part: key.round > input.plan.warmup_rounds,
        deadline_ms: input.deadline_ms,
    }
}
