//! Which sites are there, in memory.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fusiondp_protocol::{Limits, SiteId};
use fusiondp_runtime::Clock;
use tokio::sync::Notify;

/// A site counts as connected this long after its last call, in milliseconds: between two polls it computes.
const PRESENCE_MS: u64 = 15_000;

/// Sites by id.
pub(crate) struct Presence {
    clock: Arc<dyn Clock>,
    sites: Mutex<HashMap<SiteId, Seen>>,
    arrived: Notify,
}

#[derive(Default)]
struct Seen {
    last_ms: u64,
    polls: u32,
    lost: bool,
    limits: Option<Limits>,
    uploads: Arc<tokio::sync::Mutex<()>>,
}

/// One poll under way. A poll that is dropped before it is answered means that the connection broke.
pub(crate) struct PollGuard<'a> {
    presence: &'a Presence,
    site: SiteId,
    answered: bool,
}

impl Presence {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, sites: Mutex::default(), arrived: Notify::new() }
    }

    fn sites(&self) -> MutexGuard<'_, HashMap<SiteId, Seen>> {
        // No code panics while it holds the lock.
        self.sites.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a call of the site.
    pub(crate) fn seen(&self, site: &SiteId) {
        self.touch(site, |_| ());
    }

    /// Notes a registration with the limits in force from now on.
    pub(crate) fn registered(&self, site: &SiteId, limits: Limits) {
        self.touch(site, |seen| seen.limits = Some(limits));
    }

    /// Limits in force with the site; those of the coordinator if it has not registered with this process.
    pub(crate) fn limits(&self, site: &SiteId, own: Limits) -> Limits {
        self.sites().get(site).and_then(|seen| seen.limits).unwrap_or(own)
    }

    /// Held by the one upload of the site that is under way: what is on its way is memory.
    pub(crate) fn uploads(&self, site: &SiteId) -> Arc<tokio::sync::Mutex<()>> {
        self.sites().entry(site.clone()).or_default().uploads.clone()
    }

    /// Begins a poll.
    pub(crate) fn poll(&self, site: &SiteId) -> PollGuard<'_> {
        self.touch(site, |seen| seen.polls += 1);
        PollGuard { presence: self, site: site.clone(), answered: false }
    }

    /// Whether the site polls now, or did so just now.
    pub(crate) fn is_connected(&self, site: &SiteId) -> bool {
        let now_ms = self.clock.now_ms();
        self.sites().get(site).is_some_and(|seen| {
            seen.polls > 0 || (!seen.lost && now_ms.saturating_sub(seen.last_ms) < PRESENCE_MS)
        })
    }

    /// Its last call, Unix milliseconds; `None` if this process has not seen it.
    pub(crate) fn last_seen_ms(&self, site: &SiteId) -> Option<u64> {
        let now_ms = self.clock.now_ms();
        self.sites().get(site).map(|seen| if seen.polls > 0 { now_ms } else { seen.last_ms })
    }

    /// Resolves when a site that was not connected calls.
    pub(crate) async fn arrival(&self) {
        self.arrived.notified().await;
    }

    fn touch(&self, site: &SiteId, change: impl FnOnce(&mut Seen)) {
        let was_connected = self.is_connected(site);
        let now_ms = self.clock.now_ms();
        let mut sites = self.sites();
        let seen = sites.entry(site.clone()).or_default();
        seen.last_ms = now_ms;
        seen.lost = false;
        change(seen);
        drop(sites);
        if !was_connected {
            self.arrived.notify_waiters();
        }
    }
}

impl PollGuard<'_> {
    /// The answer is on its way.
    pub(crate) fn answered(mut self) {
        self.answered = true;
    }
}

impl Drop for PollGuard<'_> {
    fn drop(&mut self) {
        let now_ms = self.presence.clock.now_ms();
        if let Some(seen) = self.presence.sites().get_mut(&self.site) {
            seen.polls = seen.polls.saturating_sub(1);
            seen.last_ms = now_ms;
            seen.lost = !self.answered;
        }
    }
}
