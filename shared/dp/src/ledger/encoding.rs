//! The canonical byte encoding under an entry's hash; the table in the module documentation is its specification.

use sha2::{Digest as _, Sha256};

use super::charge::{ChargeRequest, Protection, Released};
use crate::{event::DpEvent, params::Digest};

const ENTRY_DOMAIN: &[u8] = b"fusiondp/ledger-entry/v1";
const GENESIS_DOMAIN: &[u8] = b"fusiondp/ledger-genesis/v1";

/// What the first entry links to.
pub(super) fn genesis() -> Digest {
    Digest::of(GENESIS_DOMAIN)
}

/// Hash of the entry that records `charge` at place `sequence` after `previous`.
pub(super) fn entry_hash(sequence: u64, previous: Digest, charge: &ChargeRequest) -> Digest {
    let mut fields = Fields(Sha256::new());
    fields.put(ENTRY_DOMAIN);
    fields.put(&sequence.to_le_bytes());
    fields.put(previous.as_bytes());
    fields.put(&charge.time_ms.to_le_bytes());
    fields.put(charge.data_set.as_bytes());
    fields.put(charge.study.as_bytes());
    fields.put(charge.study_digest.as_bytes());
    fields.put(&charge.round.to_le_bytes());
    fields.put(&charge.local_step.to_le_bytes());
    put_event(&mut fields, &charge.event);
    fields.put(&charge.clip_norm.get().to_le_bytes());
    fields.put(charge.unit.as_bytes());
    fields.put(&charge.units.to_le_bytes());
    fields.put(charge.model_digest.as_bytes());
    fields.put(charge.update_id.as_bytes());
    put_kind(&mut fields, charge);
    Digest::from_bytes(fields.0.finalize().into())
}

fn put_event(fields: &mut Fields, event: &DpEvent) {
    let kind: &[u8] = match event {
        DpEvent::PoissonSampledGaussian { .. } => b"poisson_sampled_gaussian",
        DpEvent::GaussianHistogram { .. } => b"gaussian_histogram",
    };
    fields.put(kind);
    fields.put(&event.noise_multiplier().get().to_le_bytes());
    fields.put(&event.sampling_probability().get().to_le_bytes());
    fields.put(&event.steps().get().to_le_bytes());
}

/// Fields 19 to 21, which only entries have that are no private sum of a study that protects sensitive values.
fn put_kind(fields: &mut Fields, charge: &ChargeRequest) {
    if (&charge.released, charge.protects) == (&Released::PrivateSum, Protection::SensitiveValues) {
        return;
    }
    let released: &[u8] = match &charge.released {
        Released::PrivateSum => b"private_sum",
        Released::PublicSum => b"public_sum",
        Released::Counts { .. } => b"counts",
    };
    let protects: &[u8] = match charge.protects {
        Protection::SensitiveValues => b"sensitive_values",
        Protection::WholeRecords => b"whole_records",
    };
    fields.put(released);
    fields.put(charge.cohort().as_bytes());
    fields.put(protects);
}

/// A hash over length-prefixed fields, so that no two sequences of fields share an encoding.
struct Fields(Sha256);

impl Fields {
    fn put(&mut self, bytes: &[u8]) {
        // Texts are limited to 1,024 bytes before they are hashed; a longer one read from elsewhere saturates here and
        // fails its own length check.
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.0.update(length.to_le_bytes());
        self.0.update(bytes);
    }
}
