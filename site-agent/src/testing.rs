//! Studies, records and charges that tests of several modules use.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use fusiondp_dp::{CommittedCharge, Digest};
use fusiondp_protocol::ids::SiteId;
use fusiondp_protocol::messages::TrainingTask;
use fusiondp_protocol::plan::{Plan, SiteSize};
use fusiondp_protocol::study::StudyDocument;
use fusiondp_runtime::clock::ManualClock;

use crate::data::FileSource;
use crate::data::identity::IdentityKey;
use crate::imputer::{ImputerProvider, ProviderSettings};
use crate::policy::{Budget, EpsilonMeter, Past, Policy, PolicyLimits, Purpose, ReleaseRequest};
use crate::store::{SiteLedger, Store};
use crate::train::Session;
use crate::train::session::SessionSources;

/// Time at which tests begin, Unix milliseconds.
pub(crate) const NOW_MS: u64 = 1_790_000_000_000;

/// A study of two public and two sensitive columns whose imputed values come from a file.
pub(crate) const STUDY: &str = r#"
[study]
name = "small"
[model]
kind = "mlp"
widths = [6]
[imputer]
kind = "precomputed"
[fusion]
mode = "fusiondp"
warmup_rounds = 1
[privacy]
unit_column = "id"
clip_norm = 0.5
delta = 1e-5
target = { noise_multiplier = 1.5 }
[training]
rounds = 10
expected_batch_size = 12
public_batch_size = 20
optimizer = { kind = "sgd", learning_rate = 0.1 }
[federation]
min_sites = 1
[evaluation]
release = "summary"
final_cohort = "test"
[schema]
columns = [
  { name = "id", role = "unit-id" },
  { name = "y", role = "label", kind = { type = "categorical", vocabulary = ["no", "yes"] }, positive = "yes" },
  { name = "a", role = "public", kind = { type = "continuous", range = [0, 10] } },
  { name = "c", role = "public", kind = { type = "categorical", vocabulary = ["red", "green"] } },
  { name = "s", role = "sensitive", kind = { type = "continuous", range = [0, 100] }, transform = { type = "scale", center = 50, scale = 25 } },
  { name = "t", role = "sensitive", kind = { type = "binary" } },
]
"#;

/// Limits that permit everything these tests plan.
pub(crate) fn limits() -> PolicyLimits {
    PolicyLimits {
        max_epsilon_replace: 1000.0.try_into().unwrap(),
        max_epsilon_zero_out: 1000.0.try_into().unwrap(),
        delta: fusiondp_dp::Delta::new(1e-5).unwrap(),
        min_noise_multiplier: None,
        max_clip_norm: None,
        max_sampling_probability: None,
        min_units: 1,
        allow_public_gradient: true,
        allow_metrics: true,
        min_metrics_noise: None,
        per_study: Default::default(),
        per_year: Default::default(),
        records: None,
        public_columns: ["a", "c", "y"].map(str::to_owned).to_vec(),
        unit_column: crate::policy::UnitColumn::EveryRecord,
        allowed_imputers: None,
        require_support_ids: false,
        approval: crate::policy::Approval::Automatic,
    }
}

/// [`STUDY`] after edits, each of a text that occurs once.
pub(crate) fn document(edits: &[(&str, &str)]) -> StudyDocument {
    let edit = |text: String, (from, to): &(&str, &str)| {
        assert_eq!(text.matches(from).count(), 1, "{from:?} must occur once");
        text.replace(from, to)
    };
    let text = edits.iter().fold(STUDY.to_owned(), edit);
    StudyDocument::from_bytes(text.as_bytes()).unwrap()
}

/// Edits that make [`STUDY`] need no file of imputed values.
pub(crate) const DP_SGD: &[(&str, &str)] = &[
    ("mode = \"fusiondp\"\nwarmup_rounds = 1", "mode = \"dp-sgd\""),
    ("kind = \"precomputed\"", "kind = \"none\""),
    ("public_batch_size = 20\n", ""),
];

/// Edits that make [`STUDY`] protect whole records too.
pub(crate) const RECORDS: &[(&str, &str)] = &[
    ("public_batch_size = 20\n", ""),
    (
        "[training]",
        "[privacy.records]\nclip_norm = 0.25\nexpected_batch_size = 20\ntarget = { noise_multiplier = 2.0 }\n[training]",
    ),
    ("release = \"summary\"\nfinal_cohort = \"test\"", "release = \"none\""),
];

/// Writes `train.csv`, `test.csv` and `imputed.csv` of `units` units with `rows` records each. Values follow from the row;
/// imputed ones are true ones where `exact`.
pub(crate) fn write_records(folder: &Path, units: usize, rows: usize, exact: bool) {
    let mut train = "id,a,c,s,t,y\n".to_owned();
    let mut imputed = "id,s,t\n".to_owned();
    for row in 0..units * rows {
        let unit = row / rows;
        let (a, c) = ((row * 7 % 100) as f64 / 10.0, ["red", "green", ""][row % 3]);
        let (s, t) = (row * 13 % 101, row % 2);
        let y = if (row * 5 + s) % 3 == 0 { "yes" } else { "no" };
        writeln!(train, "u{unit},{a},{c},{s},{t},{y}").unwrap();
        let (s, t) = if exact { (s, t) } else { ((s + 30) % 101, 1 - t) };
        writeln!(imputed, "u{unit},{s},{t}").unwrap();
    }
    std::fs::write(folder.join("train.csv"), &train).unwrap();
    std::fs::write(folder.join("test.csv"), &train).unwrap();
    std::fs::write(folder.join("imputed.csv"), imputed).unwrap();
}

/// Waits until the database of a dropped store is closed, which its own thread does.
pub(crate) async fn closed(state: &Path) {
    while state.join("site.sqlite-wal").exists() {
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
}

/// A clock of these tests.
pub(crate) fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(NOW_MS))
}

/// Records and imputers of a folder that [`write_records`] filled.
pub(crate) fn sources(folder: &Path) -> SessionSources {
    let cohorts = BTreeMap::from([("test".parse().unwrap(), folder.join("test.csv"))]);
    SessionSources {
        source: Arc::new(FileSource::csv(folder.join("train.csv"), cohorts, clock())),
        imputers: Arc::new(provider(folder)),
        cache: None,
        identity: None,
        identity_key: IdentityKey::from_bytes([7; IdentityKey::BYTES]),
    }
}

/// Imputers of a folder that [`write_records`] filled.
pub(crate) fn provider(folder: &Path) -> ImputerProvider {
    let precomputed = BTreeMap::from([("*".to_owned(), folder.join("imputed.csv"))]);
    let settings = ProviderSettings { precomputed, ..ProviderSettings::default() };
    ImputerProvider::new(settings, Purpose::Production, clock())
}

/// The plan for one site of this session's size.
pub(crate) fn plan(session: &Session) -> Plan {
    let size = SiteSize {
        site: SiteId::new("here").unwrap(),
        units: session.units().count() as u64,
        records: session.records() as u64,
    };
    Plan::derive(session.document(), &[size]).unwrap()
}

/// The task of a round on initial parameters.
pub(crate) fn task(session: &Session, round: u32) -> TrainingTask {
    let plan = plan(session);
    TrainingTask {
        private_part: plan.is_private_round(round),
        plan,
        round,
        model_version: u64::from(round - 1),
        model_digest: Digest::of(b"model"),
        attempt: 1,
        deadline_ms: NOW_MS + 60_000,
    }
}

/// Charges of a task, by way of policy and ledger.
pub(crate) async fn charges(
    session: &Session,
    task: &TrainingTask,
    store: &Arc<Store>,
) -> Vec<CommittedCharge> {
    let mut ledger = SiteLedger::open(Arc::clone(store)).await.unwrap();
    let request = ReleaseRequest {
        document: session.document(),
        task,
        data: session.identity(),
        units: session.units().count() as u64,
    };
    let policy = Policy::new(limits(), Purpose::Production);
    let mut budget = Budget::new(Arc::new(EpsilonMeter::default()));
    let past = Past::of(ledger.entries(), request.data.digest, session.document().id().as_str(), NOW_MS);
    let permit = policy.permit_release(&request, ledger.entries(), &past, &mut budget).unwrap();
    let update_id = crate::RandomSource::Os.update_id().unwrap();
    ledger.charge(permit, update_id, NOW_MS).await.unwrap()
}

/// An edit that makes [`STUDY`] release its metrics with noise.
pub(crate) const NOISY: (&str, &str) =
    ("release = \"summary\"", "release = \"noisy\"\nnoise_multiplier = 5.0\nedges = [-0.5, 0.0, 0.5]");
