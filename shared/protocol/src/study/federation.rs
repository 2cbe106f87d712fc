//! Sites, deadlines and overlap.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::StudyError;
use super::range::{Check, out_of_range, within};
use crate::ids::SiteId;

/// The `[federation]` section.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Federation {
    /// Fewest sites that must enroll, and report in every round; 1 to 10,000.
    pub min_sites: u32,
    /// The sites that are invited; all of the consortium if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sites: Option<Vec<SiteId>>,
    /// How long enrollment stays open, in seconds, 1 to 2,592,000 (30 days); default 86,400.
    #[serde(default = "one_day")]
    pub enrolment_timeout_s: u32,
    /// Deadline of one attempt of a round, in seconds, 1 to 2,592,000; default 600.
    #[serde(default = "ten_minutes")]
    pub round_timeout_s: u32,
    /// Attempts of one round before the study fails, 1 to 1,000; default 5.
    #[serde(default = "five")]
    pub max_round_attempts: u32,
    /// Sites that may hold the same patient (m), 1 to 1,000; default 1. The guarantee composes the charges of m sites.
    #[serde(default = "one")]
    pub max_overlap: u32,
}

impl Federation {
    /// Most sites of a study.
    pub const MAX_SITES: u32 = 10_000;
    /// Longest timeout, in seconds: 30 days.
    pub const MAX_TIMEOUT_S: u32 = 30 * 24 * 3600;
    /// Most attempts of a round.
    pub const MAX_ATTEMPTS: u32 = 1_000;
    /// Largest declared overlap.
    pub const MAX_OVERLAP: u32 = 1_000;
}

impl Federation {
    pub(super) fn validate(&self) -> Check {
        within("federation.min_sites", self.min_sites, 1..=Self::MAX_SITES, "1 to 10,000")?;
        let timeouts = [
            ("federation.enrolment_timeout_s", self.enrolment_timeout_s),
            ("federation.round_timeout_s", self.round_timeout_s),
        ];
        for (field, seconds) in timeouts {
            within(field, seconds, 1..=Self::MAX_TIMEOUT_S, "1 to 2,592,000 seconds (30 days)")?;
        }
        let attempts = self.max_round_attempts;
        within("federation.max_round_attempts", attempts, 1..=Self::MAX_ATTEMPTS, "1 to 1,000")?;
        within("federation.max_overlap", self.max_overlap, 1..=Self::MAX_OVERLAP, "1 to 1,000")?;
        self.validate_sites()
    }

    fn validate_sites(&self) -> Check {
        let Some(sites) = &self.sites else { return Ok(()) };
        let (listed, needed) = (sites.len(), self.min_sites);
        if listed < needed as usize {
            return Err(StudyError::FewerSitesThanNeeded { listed, needed });
        }
        if listed > Self::MAX_SITES as usize {
            return Err(out_of_range("federation.sites", format!("{listed} sites"), "at most 10,000 sites"));
        }
        let mut seen = BTreeSet::new();
        match sites.iter().find(|site| !seen.insert(*site)) {
            Some(site) => Err(StudyError::DuplicateSite { site: site.clone() }),
            None => Ok(()),
        }
    }
}

fn one_day() -> u32 {
    24 * 3600
}

fn ten_minutes() -> u32 {
    600
}

fn five() -> u32 {
    5
}

fn one() -> u32 {
    1
}
