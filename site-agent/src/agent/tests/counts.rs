//! Metrics with noise: charged before they exist, released once, sent again as they were.

use fusiondp_dp::{HistogramStep, Released};
use fusiondp_protocol::messages::NoisyCounts;
use fusiondp_protocol::receipt::ReceiptsFile;
use sqlx::Connection as _;

use super::*;
use crate::cli::ledger::export;
use crate::config::SiteConfig;
use crate::store::ledger_file::LedgerFile;
use crate::testing::NOISY;

/// A bench whose site permits noise of 5, and nothing in the clear.
fn bench(edits: &[(&str, &str)]) -> Bench {
    let mut bench = Bench::new(&[&[NOISY], edits].concat());
    bench.policy.allow_metrics = false;
    bench.policy.min_metrics_noise = Some(fusiondp_dp::NoiseMultiplier::new(5.0).unwrap());
    bench
}

impl Bench {
    /// The counts of every report, in the order of arrival.
    fn counts(&self) -> Vec<NoisyCounts> {
        let kept = self.fake.kept();
        let counts = kept.reports.iter().map(|report| match &report.metrics {
            ReleasedMetrics::Noisy(counts) => (**counts).clone(),
            ReleasedMetrics::Summary(_) => panic!("exact metrics have left"),
        });
        counts.collect()
    }

    /// Whether each ledger entry was released.
    async fn released(&self) -> Vec<bool> {
        let rows = Store::open_read_only(&self.state()).await.unwrap().ledger_rows().await.unwrap();
        rows.iter().map(|row| row.released).collect()
    }

    async fn sql(&self, statement: &'static str) {
        let url = format!("sqlite://{}", self.state().join("site.sqlite").display());
        let mut connection = sqlx::SqliteConnection::connect(&url).await.unwrap();
        sqlx::query(statement).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }
}

#[tokio::test]
async fn counts_leave_with_their_charge_which_stands() {
    let bench = bench(&[]);
    bench.answer([bench.offer(), bench.evaluation("test")]).await;
    let (counts, key) = (bench.counts().remove(0), bench.fake.kept().enrolments[0].ledger_key);
    counts.charge.verify(&key).unwrap();
    let charge = counts.charge.entry.charge();
    assert_eq!((counts.units, charge.units, counts.counts.len()), (40, 40, 8));
    assert_eq!(charge.released, Released::Counts { cohort: "test".to_owned() });
    assert_eq!((charge.study_digest, charge.round, charge.local_step), (bench.document.digest(), 0, 0));
    assert_eq!(charge.model_digest, Digest::of(&bench.fake.kept().model));
    assert_eq!((charge.event.noise_multiplier().get(), charge.clip_norm.get()), (5.0, 1.0));
    assert_eq!(bench.released().await, [true]);
}

/// What the hospital compares with the coordinator's file, also where nothing but counts has left.
#[tokio::test]
async fn a_site_that_only_sent_counts_exports_their_charges() {
    let (pki, mut bench) = (key::Pki::new(), bench(&[]));
    pki.certify(&mut bench, NOW_MS - 60_000);
    bench.answer([bench.offer(), bench.evaluation("test")]).await;
    closed(&bench.state()).await;
    let (path, out) = (bench.folder.path().join("site.toml"), bench.folder.path().join("own.jsonl"));
    std::fs::write(&path, SITE).unwrap();
    let config = SiteConfig::load(&path).unwrap();
    export(&config, Some(bench.document.id()), &out).await.unwrap();
    let file = ReceiptsFile::parse(&std::fs::read_to_string(&out).unwrap()).unwrap();
    assert_eq!((file.header.site.as_str(), &file.header.study), ("here", bench.document.id()));
    assert_eq!((file.receipts.len(), file.header.key_statements.len()), (0, 1));
    assert_eq!(file.counts, [bench.counts().remove(0).charge]);
    let other = export(&config, Some(&"other-1".parse().unwrap()), &out).await.unwrap_err();
    assert!(other.to_string().contains("no update of study other-1"), "{other:#}");
}

/// A site.toml beside the state and the certificate.
const SITE: &str = r#"
coordinator = "https://localhost:7443"
coordinator_id = "coordinator"
state_dir = "state"
[tls]
ca = "ca.pem"
certificate = "site.pem"
key = "site.key"
[data]
train = "train.csv"
[policy]
max_epsilon_replace = 3.0
max_epsilon_zero_out = 3.0
allow_public_gradient = true
public_columns = ["a"]
unit_column = "id"
allow_metrics = false
"#;

#[tokio::test]
async fn whoever_asks_again_gets_the_same_bytes_and_nothing_is_charged_again() {
    let bench = bench(&[]);
    bench.fake.kept().faults.push_back(Fault::Unheard);
    bench.answer([bench.offer(), bench.evaluation("test")]).await;
    // And after a restart.
    closed(&bench.state()).await;
    bench.answer([bench.evaluation("test")]).await;
    let counts = bench.counts();
    assert_eq!(counts.len(), 3);
    assert!(counts.iter().all(|one| *one == counts[0]));
    assert_eq!(bench.charges().await, 1);
}

#[tokio::test]
async fn what_is_lost_between_charge_and_release_is_charged_anew() {
    let bench = bench(&[]);
    bench.answer([bench.offer()]).await;
    bench
        .sql("CREATE TRIGGER crash BEFORE INSERT ON noisy_counts BEGIN SELECT RAISE(ABORT, 'crash'); END")
        .await;
    bench.answer([bench.evaluation("test")]).await;
    assert_eq!(bench.declined().1, ProblemType::LedgerError);
    assert!(bench.counts().is_empty(), "what was not stored has not left");
    assert_eq!(bench.released().await, [false], "the charge stays");
    bench.sql("DROP TRIGGER crash").await;
    bench.answer([bench.evaluation("test")]).await;
    assert_eq!(bench.released().await, [false, true]);
    assert_eq!(bench.counts()[0].charge.entry.sequence(), 1, "other noise under another charge");
}

#[tokio::test]
async fn another_model_under_the_same_version_gets_nothing() {
    let bench = bench(&[]);
    bench.answer([bench.offer(), bench.evaluation("test")]).await;
    bench.fake.kept().model[0] ^= 1;
    bench.answer([bench.evaluation("test")]).await;
    let (kind, problem, _) = bench.declined();
    assert_eq!((kind, problem), (DeclineKind::Failure, ProblemType::DigestMismatch));
    assert_eq!((bench.counts().len(), bench.charges().await), (1, 1));
}

#[tokio::test]
async fn a_cohort_that_is_declared_to_be_other_data_must_be() {
    let mut bench = bench(&[]);
    let identity: DeclaredIdentity = "test-2026".to_owned().try_into().unwrap();
    bench.cohort_identities.insert("test".parse().unwrap(), identity.clone());
    bench.answer([bench.offer(), bench.evaluation("test")]).await;
    let (kind, problem, detail) = bench.declined();
    assert_eq!((kind, problem), (DeclineKind::Refusal, ProblemType::PolicyRefusal));
    assert!(detail.contains("shares patients") && !detail.contains("40"), "{detail}");
    assert_eq!(bench.charges().await, 0);
    let file = bench.folder.path().join("test.csv");
    let others = std::fs::read_to_string(&file).unwrap().replace("\nu", "\nv");
    std::fs::write(&file, others).unwrap();
    bench.answer([bench.evaluation("test")]).await;
    assert_eq!(bench.counts()[0].charge.entry.charge().data_set, identity.data().digest);
}

#[tokio::test]
async fn counts_stay_at_a_site_that_wants_more_noise() {
    let mut bench = bench(&[]);
    bench.policy.min_metrics_noise = Some(fusiondp_dp::NoiseMultiplier::new(5.5).unwrap());
    bench.answer([bench.offer(), bench.evaluation("test")]).await;
    assert!(bench.declined().2.contains("min_metrics_noise = 5.5"));
    assert_eq!(bench.charges().await, 0);
}

#[tokio::test]
async fn receipts_are_of_training_and_the_data_set_counts_both() {
    let bench = bench(&[]);
    let script =
        [bench.offer(), bench.training(1), bench.training(2), bench.evaluation("test"), bench.training(3)];
    bench.answer(script).await;
    assert!(bench.fake.kept().declines.is_empty());
    assert_eq!(bench.charges().await, 3);
    let plan = bench.task(3).plan;
    let kept = bench.fake.kept();
    let receipt = &kept.updates[2].0.receipt;
    receipt.verify(&kept.enrolments[0].ledger_key).unwrap();
    let receipt = &receipt.receipt;
    assert_eq!((receipt.charges.len(), receipt.study_charges), (1, 2));
    let training = receipt.charges[0].entry.charge();
    let ReleasedMetrics::Noisy(counts) = &kept.reports[0].metrics else { panic!("exact metrics") };
    assert_eq!(counts.charge.entry.charge().data_set, training.data_set);
    let mut steps = StepCounts::of(&plan.events_until(3));
    let meter = EpsilonMeter::default();
    assert_eq!(receipt.epsilon.replace, meter.spent(&steps, plan.delta).unwrap().replace);
    steps.add(&crate::policy::counts::counts_event(bench.document.study()).unwrap(), 1);
    assert_eq!(receipt.epsilon.data_replace, meter.spent(&steps, plan.delta).unwrap().replace);
}

/// With hardly any noise the counts are those of the patients: each once, however many records there are.
#[tokio::test]
async fn a_patient_counts_once() {
    let mut bench = bench(&[("noise_multiplier = 5.0", "noise_multiplier = 0.05")]);
    bench.policy.min_metrics_noise = Some(fusiondp_dp::NoiseMultiplier::new(0.05).unwrap());
    let others = tempfile::tempdir().unwrap();
    write_records(others.path(), 25, 3, true);
    std::fs::copy(others.path().join("test.csv"), bench.folder.path().join("test.csv")).unwrap();
    bench.answer([bench.offer(), bench.evaluation("test")]).await;
    let counts = bench.counts().remove(0);
    let sum: f64 = counts.in_units().iter().sum();
    assert_eq!(counts.units, 25);
    assert!((sum - 25.0).abs() < 0.75, "{sum}");
    assert!(counts.counts.iter().any(|count| count.abs() > HistogramStep::UNIT));
}

/// Folder and journal are restored together from before a table was charged: nothing at the site can tell, the mirror can.
#[tokio::test]
async fn a_rollback_past_a_charge_of_counts_stops_the_agent() {
    let bench = bench(&[]);
    bench.answer([bench.offer(), bench.training(2)]).await;
    bench.back_up().await;
    bench.answer([bench.evaluation("test")]).await;
    let charge = bench.counts().remove(0).charge;
    shown(&bench, charge.clone()).await.unwrap();
    bench.roll_back().await;
    let said = shown(&bench, charge.clone()).await.unwrap_err();
    assert!(said.contains("the coordinator holds entry 1"), "{said}");

    // A report's file brings it back, as it does charges of training.
    let (study, key) = (bench.document.id().clone(), bench.fake.kept().enrolments[0].ledger_key);
    let file =
        ReceiptsFile::new("here".parse().unwrap(), study, key, Vec::new()).with_counts(vec![charge.clone()]);
    let path = bench.folder.path().join(ReceiptsFile::name(&file.header.site));
    std::fs::write(&path, file.to_text()).unwrap();
    assert_eq!(LedgerFile::read(&path).unwrap().entries, [charge]);
}
