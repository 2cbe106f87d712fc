//! Permissions as values. None can be made outside this module, none is `Clone`, and each is consumed by what it permits.

use fusiondp_dp::{ChargeRequest, ClipNorm, Digest, DpEvent, Protection, Released, UpdateId};

/// Permission to charge and release the private part of one task, or one table of counts.
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
    pub(super) local_steps: u32,
    pub(super) event: DpEvent,
    pub(super) clip_norm: ClipNorm,
    pub(super) unit: String,
    pub(super) units: u64,
    pub(super) model_digest: Digest,
    pub(super) released: Released,
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

    /// The charges that are permitted: one per local step, from step 1, or the one of a table, which belongs to no step.
    pub(crate) fn into_charges(self, time_ms: u64, update_id: UpdateId) -> Vec<ChargeRequest> {
        let terms = self.0;
        let steps = match terms.released {
            Released::Counts { .. } => 0..=0,
            Released::PrivateSum | Released::PublicSum => 1..=terms.local_steps,
        };
        let charge = |local_step| ChargeRequest {
            time_ms,
            data_set: terms.data_set,
            study: terms.study.clone(),
            study_digest: terms.study_digest,
            round: terms.round,
            local_step,
            event: terms.event,
            clip_norm: terms.clip_norm,
            unit: terms.unit.clone(),
            units: terms.units,
            model_digest: terms.model_digest,
            update_id,
            released: terms.released.clone(),
            protects: Protection::SensitiveValues,
        };
        steps.map(charge).collect()
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
