//! Committing charges before anything is released.

use std::future::Future;

use serde::{Deserialize, Serialize};

use super::{
    Ledger,
    entry::LedgerEntry,
    error::{ChargeError, LedgerError},
    update_id::UpdateId,
};
use crate::{
    event::DpEvent,
    params::{ClipNorm, Digest},
};

/// Longest text field in bytes.
const TEXT_LIMIT: usize = 1024;

/// What a site wants to release, and from what.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChargeRequest {
    /// When the charge is made, Unix milliseconds.
    pub time_ms: u64,
    /// Digest of the data set; charges on the same one compose across studies.
    pub data_set: Digest,
    /// Name or id of the study, at most 1,024 bytes.
    pub study: String,
    /// Digest of the study document.
    pub study_digest: Digest,
    /// Round of the study, from 1.
    pub round: u32,
    /// Local step within the round.
    pub local_step: u32,
    /// The release that is paid for.
    pub event: DpEvent,
    /// Largest norm of one unit's contribution, in units of the gradient.
    pub clip_norm: ClipNorm,
    /// What a privacy unit is, for example the name of the patient id column; at most 1,024 bytes.
    pub unit: String,
    /// Number of privacy units that are sampled from; public.
    pub units: u64,
    /// Digest of the model that the contributions are computed at.
    pub model_digest: Digest,
    /// The update, or the report of metrics, that will carry the release.
    pub update_id: UpdateId,
    /// What the noise is added to. Left out where it is a private sum.
    #[serde(default, skip_serializing_if = "Released::is_private_sum")]
    pub released: Released,
    /// What of a unit is protected in everything that the study lets out. Left out where it is the sensitive values.
    #[serde(default, skip_serializing_if = "Protection::is_of_sensitive_values")]
    pub protects: Protection,
}

/// What the noise is added to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Released {
    /// A sum of what each unit's true values make. It costs the sensitive values and, so, whole records.
    #[default]
    PrivateSum,
    /// A sum of gradients of the hybrid view, which holds no sensitive value. It costs whole records alone.
    PublicSum,
    /// A table of counts over a cohort; costs both.
    Counts {
        /// Name of the cohort, at most 1,024 bytes.
        cohort: String,
    },
}

impl Released {
    fn is_private_sum(&self) -> bool {
        *self == Self::PrivateSum
    }
}

/// What of a unit is protected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protection {
    /// Its sensitive values. What else is computed from its records may leave without noise.
    #[default]
    SensitiveValues,
    /// Its records, labels and public columns included: nothing that is computed from them leaves without noise and a
    /// charge. How many units and records there are is public.
    WholeRecords,
}

impl Protection {
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde lends the field")]
    fn is_of_sensitive_values(&self) -> bool {
        *self == Self::SensitiveValues
    }
}

impl ChargeRequest {
    /// Whether both charge the same release: they differ in nothing but the time.
    #[must_use]
    pub fn is_same_release(&self, other: &Self) -> bool {
        Self { time_ms: other.time_ms, ..self.clone() } == *other
    }

    /// Name of the cohort whose counts are released; empty for a sum.
    pub(super) fn cohort(&self) -> &str {
        match &self.released {
            Released::Counts { cohort } => cohort,
            Released::PrivateSum | Released::PublicSum => "",
        }
    }

    /// Checks the lengths of the text fields.
    pub(super) fn check_lengths(&self) -> Result<(), LedgerError> {
        let texts = [("study", self.study.as_str()), ("unit", &self.unit), ("cohort", self.cohort())];
        for (field, text) in texts {
            if text.len() > TEXT_LIMIT {
                return Err(LedgerError::TextTooLong { field, length: text.len(), limit: TEXT_LIMIT });
            }
        }
        Ok(())
    }
}

/// Where a site keeps its ledger.
pub trait LedgerStore {
    /// What can go wrong.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Appends all entries in one transaction, and answers `Ok` only when they would survive a loss of power.
    ///
    /// An entry whose sequence number is already stored must be refused. After an error the entries may be stored or not;
    /// the ledger is opened again before it charges anything.
    fn append(&mut self, entries: &[LedgerEntry]) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

/// Permission for one release, already paid for.
///
/// Only [`Ledger::charge`] makes one, and [`PrivateStep::begin`](crate::PrivateStep::begin) consumes it. Dropping it
/// refunds nothing.
///
/// It cannot be copied:
///
/// ```compile_fail
/// fn twice(charge: fusiondp_dp::CommittedCharge) -> (fusiondp_dp::CommittedCharge, fusiondp_dp::CommittedCharge) {
///     (charge.clone(), charge)
/// }
/// ```
///
/// It cannot be made from an entry:
///
/// ```compile_fail
/// fn forge(entry: fusiondp_dp::LedgerEntry) -> fusiondp_dp::CommittedCharge {
///     fusiondp_dp::CommittedCharge { entry }
/// }
/// ```
///
/// It cannot be read from a file:
///
/// ```compile_fail
/// fn read(text: &str) -> fusiondp_dp::CommittedCharge {
///     serde_json::from_str(text).unwrap()
/// }
/// ```
#[derive(Debug)]
#[must_use = "the charge is spent whether or not it is used"]
pub struct CommittedCharge {
    entry: LedgerEntry,
}

impl CommittedCharge {
    /// The entry that records the charge.
    #[must_use]
    pub fn entry(&self) -> &LedgerEntry {
        &self.entry
    }

    /// The release that was paid for.
    #[must_use]
    pub fn event(&self) -> DpEvent {
        self.entry.charge().event
    }

    /// Largest norm of one unit's contribution.
    #[must_use]
    pub fn clip_norm(&self) -> ClipNorm {
        self.entry.charge().clip_norm
    }

    /// Gives up the permission for the record of it.
    pub(crate) fn into_entry(self) -> LedgerEntry {
        self.entry
    }
}

impl Ledger {
    /// Records `requests` in order, all or none, and returns one permission for each.
    ///
    /// Memory advances only after the store has confirmed. If the store fails, or the returned future is dropped while it
    /// is writing, nobody knows whether the entries are stored: the ledger then refuses further charges until it is
    /// opened again from its store. An empty list of requests touches nothing.
    ///
    /// # Errors
    /// [`ChargeError`]; no permission exists then, and in memory nothing has changed.
    pub async fn charge<S: LedgerStore>(
        &mut self,
        requests: Vec<ChargeRequest>,
        store: &mut S,
    ) -> Result<Vec<CommittedCharge>, ChargeError<S::Error>> {
        if self.in_doubt {
            return Err(ChargeError::InDoubt);
        }
        let entries = self.entries_for(requests).map_err(ChargeError::Refused)?;
        if entries.is_empty() {
            return Ok(Vec::new());
        }
        self.in_doubt = true;
        store.append(&entries).await.map_err(ChargeError::Store)?;
        self.in_doubt = false;
        self.entries.extend_from_slice(&entries);
        Ok(entries.into_iter().map(|entry| CommittedCharge { entry }).collect())
    }

    /// The entries that would record `requests`.
    fn entries_for(&self, requests: Vec<ChargeRequest>) -> Result<Vec<LedgerEntry>, LedgerError> {
        let mut entries: Vec<LedgerEntry> = Vec::with_capacity(requests.len());
        for request in requests {
            request.check_lengths()?;
            let last = entries.last().or(self.entries.last());
            let entry = LedgerEntry::following(last, request)?;
            entries.push(entry);
        }
        Ok(entries)
    }
}
