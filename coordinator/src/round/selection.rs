//! Selection: which sites take part in this attempt.

use std::collections::BTreeSet;
use std::fmt;

use fusiondp_protocol::SiteId;

use super::{Configuration, RoundKey};

/// Chooses sites for an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    key: RoundKey,
}

/// A site that is still part of the study.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The site.
    pub site: SiteId,
    /// It has been heard of just now.
    pub connected: bool,
    /// An earlier attempt of this round holds its update.
    pub reported: bool,
}

/// When a selection may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SelectionRule {
    /// Fewest sites of a round.
    pub min_sites: u32,
    /// Until then it waits for every site, so that a restarted coordinator does not leave out those that reconnect a
    /// second later. Unix milliseconds.
    pub settle_until_ms: u64,
}

/// What a selection led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SelectionStep {
    /// Sites are chosen.
    Selected(Configuration),
    /// Not enough sites are connected.
    Waiting(Selection, Waiting),
}

/// Whom a selection waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    connected: usize,
    needed: usize,
    absent: Vec<SiteId>,
}

/// Why a round can never start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectionError {
    /// Too many sites have left the study.
    #[error(
        "round {round} needs {min_sites} sites and only {left} are left in the study; \
         settle the refusals named in the site list, or submit a study with a smaller federation.min_sites"
    )]
    TooFewSites {
        /// Round.
        round: u32,
        /// Sites still in the study.
        left: usize,
        /// Sites needed.
        min_sites: u32,
    },
}

impl Selection {
    /// Opens the selection of an attempt.
    pub fn new(key: RoundKey) -> Self {
        Self { key }
    }

    /// The attempt.
    pub fn key(&self) -> RoundKey {
        self.key
    }

    /// Chooses every candidate that is connected or has reported, once there are enough.
    ///
    /// # Errors
    /// [`SelectionError::TooFewSites`] when not even all candidates together are enough.
    pub fn choose(
        self,
        candidates: &[Candidate],
        rule: SelectionRule,
        now_ms: u64,
    ) -> Result<SelectionStep, SelectionError> {
        let needed = rule.min_sites as usize;
        if candidates.len() < needed {
            let (round, left) = (self.key.round, candidates.len());
            return Err(SelectionError::TooFewSites { round, left, min_sites: rule.min_sites });
        }
        let usable = |candidate: &&Candidate| candidate.connected || candidate.reported;
        let chosen: BTreeSet<SiteId> = candidates.iter().filter(usable).map(|one| one.site.clone()).collect();
        let absent: Vec<SiteId> =
            candidates.iter().filter(|one| !usable(one)).map(|one| one.site.clone()).collect();
        if chosen.len() < needed || (!absent.is_empty() && now_ms < rule.settle_until_ms) {
            let waiting = Waiting { connected: chosen.len(), needed, absent };
            return Ok(SelectionStep::Waiting(self, waiting));
        }
        Ok(SelectionStep::Selected(Configuration::new(self.key, chosen)))
    }
}

impl fmt::Display for Waiting {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let absent: Vec<&str> = self.absent.iter().map(SiteId::as_str).collect();
        write!(
            formatter,
            "waiting for sites: {} connected, {} needed, absent: {}",
            self.connected,
            self.needed,
            absent.join(", ")
        )
    }
}
