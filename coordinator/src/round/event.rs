//! What happens in a round, as log lines: constant messages, values in fields, nothing of any record.

use fusiondp_protocol::{SiteId, StudyId};

use super::selection::Waiting;
use super::{Abandoned, Aggregation, Configuration, RoundKey};

/// An edge or a wait of a round.
pub(crate) enum RoundEvent<'a> {
    /// Not enough sites are connected.
    Waiting(RoundKey, &'a Waiting),
    /// Sites are chosen.
    Selected(&'a Configuration),
    /// The task is out.
    Configured(RoundKey, u64),
    /// No more updates are waited for.
    Reported(&'a Aggregation),
    /// An enrolled site begins to be absent.
    Without(RoundKey, &'a SiteId),
    /// A site that was absent takes part again.
    Again(RoundKey, &'a SiteId),
    /// The step is stored.
    Finished(RoundKey, Option<f64>),
    /// Given up.
    Abandoned(&'a Abandoned),
}

impl RoundEvent<'_> {
    /// Writes the event to the log.
    pub(crate) fn log(&self, study: &StudyId) {
        match self {
            RoundEvent::Waiting(key, waiting) => {
                tracing::info!(%study, round = key.round, attempt = key.attempt, %waiting, "round waits for sites");
            }
            RoundEvent::Selected(chosen) => {
                let (key, sites) = (chosen.key(), chosen.selected().len());
                tracing::debug!(%study, round = key.round, attempt = key.attempt, sites, "sites selected");
            }
            RoundEvent::Configured(key, deadline_ms) => {
                tracing::debug!(%study, round = key.round, attempt = key.attempt, deadline_ms, "task handed out");
            }
            RoundEvent::Reported(aggregation) => {
                let (key, updates) = (aggregation.key(), aggregation.reported().len());
                tracing::debug!(%study, round = key.round, attempt = key.attempt, updates, "updates are in");
            }
            RoundEvent::Without(key, site) => {
                tracing::warn!(%study, round = key.round, attempt = key.attempt, %site, "round goes on without a site");
            }
            RoundEvent::Again(key, site) => {
                tracing::info!(%study, round = key.round, attempt = key.attempt, %site, "site takes part again");
            }
            RoundEvent::Finished(key, public_loss) => {
                tracing::debug!(%study, round = key.round, attempt = key.attempt, public_loss, "round applied");
            }
            RoundEvent::Abandoned(abandoned) => {
                let (key, reason) = (abandoned.key(), abandoned.reason());
                tracing::warn!(%study, round = key.round, attempt = key.attempt, reason, "round abandoned");
            }
        }
    }
}
