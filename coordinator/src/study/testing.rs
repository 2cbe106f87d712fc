//! What unit tests of several modules use.
#![allow(clippy::unwrap_used)]

use fusiondp_dp::{
    ChargeRequest, ClipNorm, Digest, DpEvent, Ledger, LedgerEntry, LedgerKey, LedgerStore, NoiseMultiplier,
    Protection, Released, UpdateId,
};
use fusiondp_protocol::{NoisyCounts, StudyDocument};

/// A small study with one public and one sensitive column, a linear model, and a warm-up round.
pub(crate) const STUDY: &str = include_str!("../../tests/data/study.toml");

struct Nowhere;

impl LedgerStore for Nowhere {
    type Error = std::convert::Infallible;

    async fn append(&mut self, _: &[LedgerEntry]) -> Result<(), Self::Error> {
        Ok(())
    }
}

/// Charges in a ledger that is kept in memory only.
pub(crate) fn charge(ledger: &mut Ledger, requests: Vec<ChargeRequest>) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    drop(runtime.block_on(ledger.charge(requests, &mut Nowhere)).unwrap());
}

/// [`STUDY`] with metrics that leave with noise of 5, in two intervals.
pub(crate) fn noisy_document() -> StudyDocument {
    let evaluation =
        "[evaluation]\nrelease = \"noisy\"\nnoise_multiplier = 5.0\nedges = [0]\nfinal_cohort = \"test\"\n";
    StudyDocument::from_bytes(STUDY.replace("[schema]", &format!("{evaluation}[schema]")).as_bytes()).unwrap()
}

/// The key that signs [`noisy_counts`].
pub(crate) fn counts_key() -> LedgerKey {
    LedgerKey::from_seed([3; LedgerKey::SEED_BYTES])
}

/// What pays for a table of a cohort of 500 units, of model `m`.
pub(crate) fn counts_charge(document: &StudyDocument, cohort: &str) -> ChargeRequest {
    ChargeRequest {
        time_ms: 1,
        data_set: Digest::of(b"data"),
        study: document.id().to_string(),
        study_digest: document.digest(),
        round: 0,
        local_step: 0,
        event: DpEvent::GaussianHistogram {
            noise_multiplier: NoiseMultiplier::new(5.0).unwrap(),
            steps: std::num::NonZeroU32::MIN,
        },
        clip_norm: ClipNorm::new(1.0).unwrap(),
        unit: "id".to_owned(),
        units: 500,
        model_digest: Digest::of(b"m"),
        update_id: UpdateId::from_bytes([1; 16]),
        released: Released::Counts { cohort: cohort.to_owned() },
        protects: Protection::SensitiveValues,
    }
}

/// Counts in units: negatives below and above the edge, then positives. Paid for by this charge.
pub(crate) fn noisy_counts(cells: &[i64], request: ChargeRequest) -> NoisyCounts {
    let mut ledger = Ledger::open(Vec::new()).unwrap();
    let units = request.units;
    charge(&mut ledger, vec![request]);
    let charge = counts_key().sign_entry(ledger.entries()[0].clone());
    NoisyCounts { units, counts: cells.iter().map(|count| count << 28).collect(), charge }
}
