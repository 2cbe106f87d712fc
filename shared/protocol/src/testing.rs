//! Values that tests of several modules use.
#![allow(clippy::unwrap_used)]

use fusiondp_dp::{ChargeRequest, Digest, Ledger, LedgerEntry, LedgerStore, UpdateId};

use crate::ids::SiteId;
use crate::plan::{Plan, SiteSize};
use crate::study::{Study, StudyDocument, StudyError};

/// A small study whose every model-independent section is valid.
pub(crate) const MLP: &str = r#"
[study]
name = "small"
[model]
kind = "mlp"
widths = [8]
[imputer]
kind = "onnx"
[fusion]
mode = "fusiondp"
consistency_weight = 0.5
warmup_rounds = 2
[privacy]
unit_column = "id"
clip_norm = 1.0
delta = 1e-5
target = { epsilon = 1.0, relation = "replace" }
[training]
rounds = 10
expected_batch_size = 16
public_batch_size = 32
optimizer = { kind = "sgd", learning_rate = 0.1 }
[federation]
min_sites = 2
[evaluation]
release = "summary"
final_cohort = "test"
[schema]
columns = [
  { name = "id", role = "unit-id" },
  { name = "y", role = "label", kind = { type = "binary" } },
  { name = "a", role = "public", kind = { type = "continuous", range = [0, 1] } },
  { name = "s", role = "sensitive", kind = { type = "continuous", range = [0, 1] }, transform = { type = "bins", edges = [0.5] } },
]
"#;

/// Replaces a text that occurs once.
pub(crate) fn edit(text: &str, from: &str, to: &str) -> String {
    assert_eq!(text.matches(from).count(), 1, "{from:?} must occur once");
    text.replace(from, to)
}

/// Reads a study after edits.
pub(crate) fn parse_edited(text: &str, edits: &[(&str, &str)]) -> Result<Study, StudyError> {
    let text = edits.iter().fold(text.to_owned(), |text, (from, to)| edit(&text, from, to));
    Study::parse(&text)
}

/// The document of [`MLP`] after edits.
pub(crate) fn document(edits: &[(&str, &str)]) -> StudyDocument {
    let text = edits.iter().fold(MLP.to_owned(), |text, (from, to)| edit(&text, from, to));
    StudyDocument::from_bytes(text.as_bytes()).unwrap()
}

/// Sizes of sites `site-0`, `site-1`, …, with two records per unit.
pub(crate) fn sizes(units: &[u64]) -> Vec<SiteSize> {
    let size = |(index, &units)| SiteSize {
        site: SiteId::new(format!("site-{index}")).unwrap(),
        units,
        records: 2 * units,
    };
    units.iter().enumerate().map(size).collect()
}

/// The plan of [`MLP`] for two sites.
pub(crate) fn plan() -> Plan {
    Plan::derive(&document(&[]), &sizes(&[1000, 600])).unwrap()
}

/// Entries of a site's ledger that charge for the steps of `plan`'s first private round.
pub(crate) fn ledger_entries(plan: &Plan, count: u32) -> Vec<LedgerEntry> {
    let charge = |local_step| ChargeRequest {
        time_ms: 1_700_000_000_000,
        data_set: Digest::of(b"data"),
        study: plan.study_id.to_string(),
        study_digest: plan.study_digest,
        round: plan.warmup_rounds + 1,
        local_step,
        event: plan.step_event().unwrap(),
        clip_norm: plan.clip_norm,
        unit: "id".to_owned(),
        units: 600,
        model_digest: Digest::of(b"model"),
        update_id: UpdateId::from_bytes([7; 16]),
    };
    let mut ledger = Ledger::open(Vec::new()).unwrap();
    ready(ledger.charge((0..count).map(charge).collect(), &mut Accepting)).unwrap();
    ledger.entries().to_vec()
}

struct Accepting;

impl LedgerStore for Accepting {
    type Error = std::convert::Infallible;

    async fn append(&mut self, _: &[LedgerEntry]) -> Result<(), Self::Error> {
        Ok(())
    }
}

/// The value of a future that never waits.
fn ready<T>(future: impl Future<Output = T>) -> T {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::pin!(future).poll(&mut context) {
        std::task::Poll::Ready(value) => value,
        std::task::Poll::Pending => panic!("the store of this test answers at once"),
    }
}
