//! Reporting: the task is out, updates come in.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use fusiondp_protocol::SiteId;

use super::{Abandoned, Aggregation, RoundKey};

/// Waits for the selected sites.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reporting {
    key: RoundKey,
    deadline_ms: u64,
    sites: BTreeMap<SiteId, SiteOutcome>,
}

/// How far one site is in one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SiteOutcome {
    /// Has the task.
    Working,
    /// Its update is stored and counts.
    Reported,
    /// Its update came when the round had gone on.
    Late,
    /// Nothing came.
    Missing,
    /// It could not; it may be asked again in the next round.
    Failed,
    /// It will not; it has left the study.
    Refused,
}

/// Where reporting stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReportingStep {
    /// Updates are still expected.
    Waiting(Reporting),
    /// Enough updates are in, and no more are waited for.
    Complete(Aggregation),
    /// Too few updates and no hope of more.
    Short(Abandoned),
}

/// A site outcome that no version wrote.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown site outcome {0:?}; the state was written by a newer coordinator, run that version")]
pub struct UnknownOutcome(String);

impl Reporting {
    /// A task that is out, with what its sites have answered so far.
    pub fn new(key: RoundKey, deadline_ms: u64, sites: BTreeMap<SiteId, SiteOutcome>) -> Self {
        Self { key, deadline_ms, sites }
    }

    /// The attempt.
    pub fn key(&self) -> RoundKey {
        self.key
    }

    /// Last moment for an update, Unix milliseconds.
    pub fn deadline_ms(&self) -> u64 {
        self.deadline_ms
    }

    /// The sites that still have to answer.
    pub fn working(&self) -> impl Iterator<Item = &SiteId> {
        self.with(SiteOutcome::Working)
    }

    /// Whether the site still has to answer.
    pub fn waits_for(&self, site: &SiteId) -> bool {
        self.sites.get(site) == Some(&SiteOutcome::Working)
    }

    /// Decides: goes on when everybody has answered or the deadline has passed.
    pub fn step(self, min_sites: u32, now_ms: u64) -> ReportingStep {
        let open = self.working().count();
        if open > 0 && now_ms < self.deadline_ms {
            return ReportingStep::Waiting(self);
        }
        let reported: Vec<SiteId> = self.with(SiteOutcome::Reported).cloned().collect();
        if reported.len() < min_sites as usize || reported.is_empty() {
            let reason = self.shortfall(reported.len(), min_sites);
            return ReportingStep::Short(Abandoned::new(self.key, reason));
        }
        ReportingStep::Complete(Aggregation::new(self.key, reported.into_iter().collect()))
    }

    fn with(&self, wanted: SiteOutcome) -> impl Iterator<Item = &SiteId> {
        self.sites.iter().filter(move |(_, outcome)| **outcome == wanted).map(|(site, _)| site)
    }

    fn shortfall(&self, reported: usize, min_sites: u32) -> String {
        let names = |outcome| self.with(outcome).map(SiteId::as_str).collect::<Vec<_>>().join(", ");
        let mut reason = format!("{reported} updates, {min_sites} needed");
        let kinds = [
            ("no answer by the deadline", SiteOutcome::Working),
            ("failed", SiteOutcome::Failed),
            ("refused", SiteOutcome::Refused),
        ];
        for (label, outcome) in kinds {
            let sites = names(outcome);
            if !sites.is_empty() {
                reason.push_str(&format!("; {label}: {sites}"));
            }
        }
        reason
    }
}

impl SiteOutcome {
    const ALL: [SiteOutcome; 6] = [
        SiteOutcome::Working,
        SiteOutcome::Reported,
        SiteOutcome::Late,
        SiteOutcome::Missing,
        SiteOutcome::Failed,
        SiteOutcome::Refused,
    ];

    /// Name in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            SiteOutcome::Working => "working",
            SiteOutcome::Reported => "reported",
            SiteOutcome::Late => "late",
            SiteOutcome::Missing => "missing",
            SiteOutcome::Failed => "failed",
            SiteOutcome::Refused => "refused",
        }
    }
}

impl fmt::Display for SiteOutcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

impl FromStr for SiteOutcome {
    type Err = UnknownOutcome;

    fn from_str(text: &str) -> Result<Self, UnknownOutcome> {
        Self::ALL.into_iter().find(|one| one.as_str() == text).ok_or_else(|| UnknownOutcome(text.to_owned()))
    }
}
