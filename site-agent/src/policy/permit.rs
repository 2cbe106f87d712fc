//! Permissions as values. None can be made outside this module, none is `Clone`, and each is consumed by what it permits.

use std::ops::RangeInclusive;

use fusiondp_dp::{ChargeRequest, Digest, Protection, UpdateId};
use fusiondp_protocol::plan::PlannedRelease;

/// Permission to charge and release the noised parts of one task, or one table of counts.
///
/// It cannot be made without the policy:
///
/// ```compile_fail
/// let permit = fusiondp_site_agent::policy::ReleasePermit(());
/// ```
///
/// and pays once:
///
/// ```compile_fail
/// fn twice(permit: fusiondp_site_agent::policy::ReleasePermit) {
///     let _copies = (permit.clone(), permit);
/// }
/// ```
pub struct ReleasePermit(ReleaseTerms);

/// What exactly is permitted.
pub(super) struct ReleaseTerms {
    pub(super) data_set: Digest,
    pub(super) study: String,
    pub(super) study_digest: Digest,
    pub(super) round: u32,
    /// Local steps of a task, from 1; step 0 alone for a table of counts, which belongs to none.
    pub(super) steps: RangeInclusive<u32>,
    /// What each of them releases.
    pub(super) releases: Vec<PlannedRelease>,
    pub(super) protects: Protection,
    pub(super) unit: String,
    pub(super) units: u64,
    pub(super) model_digest: Digest,
    pub(super) charges_before: usize,
}

impl ReleasePermit {
    pub(super) fn new(terms: ReleaseTerms) -> Self {
        Self(terms)
    }

    /// Number of ledger entries on which the permission was given; it is void once there are more.
    pub(crate) fn charges_before(&self) -> usize {
        self.0.charges_before
    }

    /// The charges that are permitted: those of each local step, from step 1, or the one of a table, which belongs to no step.
    pub(crate) fn into_charges(self, time_ms: u64, update_id: UpdateId) -> Vec<ChargeRequest> {
        let terms = self.0;
        let charge = |local_step, release: &PlannedRelease| ChargeRequest {
            time_ms,
            data_set: terms.data_set,
            study: terms.study.clone(),
            study_digest: terms.study_digest,
            round: terms.round,
            local_step,
            event: release.event,
            clip_norm: release.clip_norm,
            unit: terms.unit.clone(),
            units: terms.units,
            model_digest: terms.model_digest,
            update_id,
            released: release.released.clone(),
            protects: terms.protects,
        };
        let of_step = |step| terms.releases.iter().map(move |release| (step, release));
        terms.steps.flat_map(of_step).map(|(step, release)| charge(step, release)).collect()
    }
}

/// Permission to send a gradient of the hybrid view without noise.
pub struct PublicPermit(());

impl PublicPermit {
    pub(super) fn new() -> Self {
        Self(())
    }

    /// Uses the permission up.
    pub(crate) fn consume(self) {}
}

/// Permission to send metrics in the clear.
pub struct MetricsPermit(());

impl MetricsPermit {
    pub(super) fn new() -> Self {
        Self(())
    }

    /// Uses the permission up.
    pub(crate) fn consume(self) {}
}
