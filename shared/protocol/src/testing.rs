//! Values that tests of several modules use.
#![allow(clippy::unwrap_used)]

use fusiondp_dp::{
    ChargeRequest, Digest, Epsilon, Ledger, LedgerEntry, LedgerKey, LedgerStore, Protection, Released,
    SignedEntry, UpdateId,
};

use crate::ids::SiteId;
use crate::key_statement::{
    CertificateProof, HexBytes, KeyStatement, KeyStatementFormat, SignedKeyStatement,
};
use crate::plan::{Plan, SiteSize};
use crate::receipt::{Receipt, ReceiptEpsilons, ReceiptFormat};
use crate::study::{ImputerSpec, Study, StudyDocument, StudyError};

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

/// Edits that make [`MLP`] protect whole records too.
pub(crate) const RECORDS: &[(&str, &str)] = &[
    ("public_batch_size = 32\n", ""),
    (
        "[training]",
        "[privacy.records]\nclip_norm = 0.5\nexpected_batch_size = 24\ntarget = { epsilon = 4.0, relation = \"replace\" }\n[training]",
    ),
    ("release = \"summary\"\nfinal_cohort = \"test\"", "release = \"none\""),
];

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

/// The key that signs the receipts of these tests.
pub(crate) fn ledger_key() -> LedgerKey {
    LedgerKey::from_seed([5; LedgerKey::SEED_BYTES])
}

/// What a site says of [`ledger_key`]; the certificate and its signature are invented.
pub(crate) fn key_statement() -> SignedKeyStatement {
    let certificate = b"a certificate".to_vec();
    let statement = KeyStatement {
        format: KeyStatementFormat::V1,
        site: SiteId::new("site-1").unwrap(),
        ledger_key: ledger_key().public(),
        certificate: Digest::of(&certificate),
        made_ms: 5,
    };
    let proof = CertificateProof {
        scheme: "ed25519".to_owned(),
        signature: HexBytes(vec![1, 2]),
        chain: vec![HexBytes(certificate)],
    };
    statement.signed(&ledger_key(), proof)
}

/// Signed charges for `count` steps each of updates 6 and 7, in one chain.
fn signed_charges(plan: &Plan, counts: [u32; 2]) -> Vec<SignedEntry> {
    let charge = |update, local_step| ChargeRequest {
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
        update_id: UpdateId::from_bytes([update; 16]),
        released: Released::PrivateSum,
        protects: Protection::SensitiveValues,
    };
    let requests = [(6, counts[0]), (7, counts[1])]
        .into_iter()
        .flat_map(|(update, count)| (1..=count).map(move |step| charge(update, step)));
    let mut ledger = Ledger::open(Vec::new()).unwrap();
    ready(ledger.charge(requests.collect(), &mut Accepting)).unwrap();
    ledger.entries().iter().map(|entry| ledger_key().sign_entry(entry.clone())).collect()
}

/// The receipt of update 7 with `own` charges, after `lost` ones of an update that never arrived.
pub(crate) fn receipt(plan: &Plan, lost: u32, own: u32) -> Receipt {
    let epsilon = |value| Epsilon::new(value).unwrap();
    let charges = signed_charges(plan, [lost, own]);
    Receipt {
        format: ReceiptFormat::V1,
        site: SiteId::new("site-1").unwrap(),
        study: plan.study_id.clone(),
        study_digest: plan.study_digest,
        round: plan.warmup_rounds + 1,
        attempt: 1,
        update_id: UpdateId::from_bytes([7; 16]),
        model_version: 2,
        model_digest: Digest::of(b"model"),
        imputer: ImputerSpec::Onnx { sha256: Some(Digest::of(b"imputer")) },
        public_values: 100,
        private_values: 40,
        payload_digest: Digest::of(b"p"),
        study_charges: charges.len() as u64,
        ledger_head: charges.last().map_or(Digest::of(b"head"), |last| last.entry.hash()),
        charges,
        delta: plan.delta,
        epsilon: ReceiptEpsilons {
            replace: epsilon(0.3),
            zero_out: epsilon(0.2),
            data_replace: epsilon(1.3),
            data_zero_out: epsilon(1.2),
        },
        epsilon_records: None,
    }
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
