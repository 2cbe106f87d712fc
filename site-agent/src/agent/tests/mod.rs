#![allow(clippy::unwrap_used)]
mod counts;
mod fake;
mod key;

use std::path::Path;

use fusiondp_dp::{LedgerKey, SignedEntry};
use fusiondp_protocol::chunks::encode_f32;
use fusiondp_protocol::messages::{
    DeclineKind, EnrolmentOffer, EvaluationTask, ReleasedMetrics, TrainingTask,
};
use fusiondp_protocol::problem::ProblemType;
use fusiondp_protocol::study::StudyDocument;
use fusiondp_runtime::TlsFiles;
use tempfile::TempDir;

use super::*;
use crate::policy::meter::StepCounts;
use crate::store::EnrolledStudy;
use crate::store::journal::default_path;
use crate::store::repair::Decision;
use crate::testing::{
    DP_SGD, NOW_MS, clock, closed, document, limits, provider, sources, task, write_records,
};
use crate::train::Session;
use fake::{Fake, Fault};

/// A site with its folder, a study, and a coordinator that follows a script.
struct Bench {
    folder: TempDir,
    fake: Fake,
    document: StudyDocument,
    session: Session,
    policy: PolicyLimits,
    cohort_identities: BTreeMap<CohortName, DeclaredIdentity>,
    /// What the agent connects with, though its connection needs none.
    certificate: Option<TlsFiles>,
}

impl Bench {
    fn new(edits: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        write_records(folder.path(), 40, 1, false);
        let document = document(edits);
        let session = Session::prepare(document.clone(), &sources(folder.path())).unwrap();
        let fake = Fake::default();
        encode_f32(&session.model().initialise::<f32>(1), &mut fake.kept().model);
        let (policy, cohort_identities) = (limits(), BTreeMap::new());
        Self { folder, fake, document, session, policy, cohort_identities, certificate: None }
    }

    fn state(&self) -> std::path::PathBuf {
        self.folder.path().join("state")
    }

    fn offer(&self) -> Assignment {
        Assignment::Enrolment(EnrolmentOffer::new(&self.document, NOW_MS + 60_000))
    }

    fn task(&self, round: u32) -> TrainingTask {
        let model_digest = Digest::of(&self.fake.kept().model);
        TrainingTask { model_digest, ..task(&self.session, round) }
    }

    fn training(&self, round: u32) -> Assignment {
        Assignment::Training(self.task(round))
    }

    fn evaluation(&self, cohort: &str) -> Assignment {
        Assignment::Evaluation(EvaluationTask {
            study_id: self.document.id().clone(),
            study_digest: self.document.digest(),
            model_version: 3,
            model_digest: Digest::of(&self.fake.kept().model),
            cohort: cohort.parse().unwrap(),
            deadline_ms: NOW_MS + 60_000,
        })
    }

    async fn agent(&self, shutdown: &Shutdown) -> SiteAgent {
        let sources = sources(self.folder.path());
        let parts = SiteParts {
            settings: SiteSettings {
                cohort_identities: self.cohort_identities.clone(),
                ..SiteSettings::new(self.policy.clone(), None)
            },
            source: sources.source,
            imputers: Arc::new(provider(self.folder.path())),
            store: Arc::new(Store::open(&self.state()).await.unwrap()),
            connector: Arc::new(key::Certified {
                connector: self.fake.serve(shutdown),
                files: self.certificate.clone(),
            }),
            random: RandomSource::Os,
            meter: Arc::default(),
            workers: Workers::per_core(),
            shutdown: shutdown.clone(),
            clock: clock(),
        };
        SiteAgent::new(parts).await.unwrap()
    }

    /// Runs an agent on a script until all of it is answered.
    async fn answer(&self, script: impl IntoIterator<Item = Assignment>) {
        self.fake.hand_out(script);
        let shutdown = Shutdown::new();
        let agent = self.agent(&shutdown).await;
        let running = tokio::spawn(agent.run());
        self.fake.done().await;
        shutdown.trigger();
        running.await.unwrap().unwrap();
    }

    /// Runs an agent until the coordinator has seen something, and drops it there as a crash would.
    async fn crash_when(&self, seen: impl Fn(&fake::Kept) -> bool) {
        let shutdown = Shutdown::new();
        let running = tokio::spawn(self.agent(&shutdown).await.run());
        while !seen(&self.fake.kept()) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        running.abort();
        assert!(running.await.unwrap_err().is_cancelled());
        shutdown.trigger();
    }

    /// Keeps a copy of state folder and journal.
    async fn back_up(&self) {
        let (held, backup) = (self.state(), self.folder.path().join("backup"));
        std::fs::create_dir(&backup).unwrap();
        closed(&held).await;
        for file in ["site.sqlite", "ledger.key"] {
            std::fs::copy(held.join(file), backup.join(file)).unwrap();
        }
        std::fs::copy(default_path(&held), backup.join("journal")).unwrap();
    }

    /// Restores both from it.
    async fn roll_back(&self) {
        let (held, backup) = (self.state(), self.folder.path().join("backup"));
        closed(&held).await;
        std::fs::remove_dir_all(&held).unwrap();
        std::fs::create_dir(&held).unwrap();
        for file in ["site.sqlite", "ledger.key"] {
            std::fs::copy(backup.join(file), held.join(file)).unwrap();
        }
        std::fs::copy(backup.join("journal"), default_path(&held)).unwrap();
    }

    async fn charges(&self) -> usize {
        Store::open_read_only(&self.state()).await.unwrap().ledger_entries().await.unwrap().len()
    }

    /// Kind, problem and detail of the only decline.
    fn declined(&self) -> (DeclineKind, ProblemType, String) {
        let kept = self.fake.kept();
        assert_eq!(kept.declines.len(), 1);
        let decline = &kept.declines[0];
        (decline.kind, decline.problem.kind, decline.problem.detail.clone())
    }
}

#[tokio::test]
async fn a_study_from_enrolment_to_metrics() {
    let bench = Bench::new(&[]);
    let script =
        [bench.offer(), bench.training(1), bench.training(2), bench.training(3), bench.evaluation("test")];
    bench.answer(script).await;
    check_whole_study(&bench);
    assert_eq!(bench.charges().await, 2);
}

fn check_whole_study(bench: &Bench) {
    let plan = bench.task(3).plan;
    let kept = bench.fake.kept();
    assert!(kept.declines.is_empty(), "{:?}", kept.declines);
    assert_eq!((kept.enrolments[0].units, kept.enrolments[0].records), (40, 40));
    let parameters = bench.session.model().parameters() as u64;
    let sizes: Vec<_> = kept.updates.iter().map(|(h, _)| (h.public_values, h.private_values)).collect();
    assert_eq!(sizes, [(parameters, 0), (parameters, parameters), (parameters, parameters)]);
    let receipts: Vec<_> = kept.updates.iter().map(|(header, _)| &header.receipt).collect();
    let key = kept.enrolments[0].ledger_key;
    receipts.iter().for_each(|receipt| receipt.verify(&key).unwrap());
    assert!(receipts[0].receipt.charges.is_empty(), "a warm-up round charges nothing");
    let receipt = &receipts[2].receipt;
    let meter = EpsilonMeter::default();
    let spent = meter.spent(&StepCounts::of(&plan.events_until(3)), plan.delta).unwrap();
    assert_eq!((receipt.epsilon.replace, receipt.epsilon.zero_out), (spent.replace, spent.zero_out));
    // The charge of round 2 is in the receipt of round 2, which arrived.
    assert_eq!((receipt.charges.len(), receipt.study_charges), (1, 2));
    assert_eq!(receipt.ledger_head, receipt.charges[0].entry.hash());
    assert_eq!(receipt.charges[0].entry.charge().update_id, kept.updates[2].0.update_id);
    assert_eq!((receipt.site.as_str(), receipt.delta), ("here", plan.delta));
    assert_eq!(receipt.imputer, bench.document.study().imputer);
    let report = &kept.reports[0];
    let ReleasedMetrics::Summary(summary) = &report.metrics else { panic!("{report:?}") };
    assert_eq!(summary.records, 40);
    assert_eq!(summary.positive_counts.iter().sum::<u64>(), summary.positives);
}

#[tokio::test]
async fn a_broken_connection_is_answered_with_the_same_bytes_and_no_second_charge() {
    let bench = Bench::new(&[]);
    bench.fake.kept().faults.extend([Fault::Lost, Fault::Unheard]);
    bench.answer([bench.offer(), bench.training(2)]).await;
    let updates = &bench.fake.kept().updates.clone();
    assert_eq!(updates.len(), 2);
    assert_eq!(updates[0], updates[1]);
    assert_eq!(bench.charges().await, 1);
}

#[tokio::test]
async fn a_restarted_agent_sends_its_unsent_update() {
    let bench = Bench::new(&[]);
    bench.fake.kept().faults.push_back(Fault::Unheard);
    bench.fake.hand_out([bench.offer(), bench.training(2)]);
    bench.crash_when(|kept| !kept.updates.is_empty()).await;

    bench.answer([]).await;
    let updates = &bench.fake.kept().updates.clone();
    assert_eq!((updates.len(), &updates[0]), (2, &updates[1]));
    assert_eq!(bench.charges().await, 1);
}

#[tokio::test]
async fn a_crash_after_the_charge_costs_a_charge_and_new_noise() {
    let bench = Bench::new(&[]);
    let task = bench.task(2);
    let lost = {
        let store = Arc::new(Store::open(&bench.state()).await.unwrap());
        let document = bench.document.text().as_bytes().to_vec();
        let kept =
            EnrolledStudy { study: bench.document.id().clone(), digest: bench.document.digest(), document };
        store.keep_study(&kept, NOW_MS).await.unwrap();
        let identity_key = store.identity_key().await.unwrap();
        let sources = SessionSources { identity_key, ..sources(bench.folder.path()) };
        let session = Session::prepare(bench.document.clone(), &sources).unwrap();
        crate::testing::charges(&session, &task, &store).await[0].entry().clone()
    };
    bench.answer([Assignment::Training(task)]).await;
    let (header, _) = bench.fake.kept().updates[0].clone();
    let receipt = header.receipt.receipt;
    assert_ne!(header.update_id, lost.charge().update_id);
    // The receipt tells of the lost charge too.
    assert_eq!((receipt.charges.len(), receipt.study_charges), (2, 2));
    assert_eq!((&receipt.charges[0].entry, receipt.own_charges().len()), (&lost, 1));
    let delta = bench.task(2).plan.delta;
    let event = receipt.charges[1].entry.charge().event;
    let both = EpsilonMeter::default().spent(&StepCounts::of(&[event, event]), delta).unwrap();
    assert_eq!(receipt.epsilon.replace, both.replace);
    assert_eq!(bench.charges().await, 2);
}

#[tokio::test]
async fn a_task_handed_out_again_after_success_gets_the_stored_bytes() {
    let bench = Bench::new(&[]);
    bench.answer([bench.offer(), bench.training(2), bench.training(2)]).await;
    bench.answer([bench.training(2)]).await;
    let updates = bench.fake.kept().updates.clone();
    assert_eq!(updates.len(), 3);
    assert!(updates.iter().all(|update| *update == updates[0]));
    assert_eq!(bench.charges().await, 1);
}

#[tokio::test]
async fn a_new_attempt_of_a_round_gets_what_was_charged_already() {
    let bench = Bench::new(&[]);
    let again = TrainingTask { attempt: 2, ..bench.task(2) };
    bench.fake.kept().faults.push_back(Fault::Lost);
    bench.fake.hand_out([bench.offer(), bench.training(2)]);
    bench.crash_when(|kept| kept.faults.is_empty()).await;
    // The coordinator has not heard of the first attempt's update and asks anew.
    bench.fake.kept().script.clear();
    bench.answer([Assignment::Training(again)]).await;
    let updates = bench.fake.kept().updates.clone();
    assert_eq!((updates.len(), updates[0].0.attempt), (1, 1));
    assert_eq!(bench.charges().await, 1);
}

#[tokio::test]
async fn an_attempt_that_the_coordinator_does_not_know_gives_way_to_a_new_charge() {
    let bench = Bench::new(&[]);
    bench.fake.kept().faults.extend([Fault::Unheard, Fault::Unknown]);
    bench.fake.hand_out([bench.offer(), bench.training(2)]);
    bench.crash_when(|kept| !kept.updates.is_empty()).await;
    bench.fake.kept().script.clear();
    bench.answer([Assignment::Training(TrainingTask { attempt: 2, ..bench.task(2) })]).await;
    let updates = bench.fake.kept().updates.clone();
    assert_eq!(updates.len(), 2);
    assert_ne!(updates[0].0.update_id, updates[1].0.update_id);
    assert_eq!((updates[1].0.attempt, bench.charges().await), (2, 2));
}

#[tokio::test]
async fn another_model_under_the_same_version_costs_no_second_charge() {
    let bench = Bench::new(&[]);
    let other = TrainingTask { model_digest: Digest::of(b"another"), ..bench.task(2) };
    bench.answer([bench.offer(), bench.training(2), Assignment::Training(other)]).await;
    let (kind, problem, detail) = bench.declined();
    assert_eq!((kind, problem), (DeclineKind::Failure, ProblemType::DigestMismatch));
    assert!(detail.contains("store replaced"), "{detail}");
    assert_eq!(bench.charges().await, 1);
}

#[tokio::test]
async fn a_policy_tightened_since_holds_back_what_has_not_left() {
    let mut bench = Bench::new(&[]);
    bench.fake.kept().faults.push_back(Fault::Lost);
    bench.fake.hand_out([bench.offer(), bench.training(2)]);
    bench.crash_when(|kept| kept.faults.is_empty()).await;
    bench.fake.kept().script.clear();
    bench.policy.allow_public_gradient = false;
    bench.answer([bench.training(2)]).await;
    let (kind, _, detail) = bench.declined();
    assert_eq!(kind, DeclineKind::Refusal);
    assert!(detail.contains("allow_public_gradient"), "{detail}");
    assert!(bench.fake.kept().updates.is_empty());
}

#[tokio::test]
async fn a_plan_that_understates_epsilon_is_refused() {
    let bench = Bench::new(&[]);
    let mut task = bench.task(2);
    let lower = task.plan.epsilon_replace.get() * 0.9;
    task.plan.epsilon_replace = fusiondp_dp::Epsilon::new(lower).unwrap();
    bench.answer([bench.offer(), Assignment::Training(task)]).await;
    let (kind, problem, detail) = bench.declined();
    assert_eq!((kind, problem), (DeclineKind::Refusal, ProblemType::PlanMismatch));
    assert!(detail.contains("epsilon_replace"), "{detail}");
    assert_eq!(bench.charges().await, 0);
}

#[tokio::test]
async fn a_budget_ends_training_and_says_so() {
    let mut bench = Bench::new(&[]);
    let plan = bench.task(2).plan;
    let meter = EpsilonMeter::default();
    let two = meter.spent(&StepCounts::of(&plan.events_until(3)), plan.delta).unwrap();
    bench.policy.max_epsilon_replace = two.replace.get().try_into().unwrap();
    let script = [bench.offer(), bench.training(2), bench.training(3), bench.training(4)];
    bench.answer(script).await;
    let (kind, problem, detail) = bench.declined();
    assert_eq!((kind, problem), (DeclineKind::Refusal, ProblemType::BudgetExceeded));
    assert!(detail.contains("max_epsilon_replace"), "{detail}");
    assert_eq!((bench.charges().await, bench.fake.kept().updates.len()), (2, 2));
}

#[tokio::test]
async fn an_earlier_round_is_stale() {
    let bench = Bench::new(&[]);
    bench.answer([bench.offer(), bench.training(3), bench.training(2)]).await;
    let (kind, problem, _) = bench.declined();
    assert_eq!((kind, problem), (DeclineKind::Failure, ProblemType::StaleTask));
    assert_eq!(bench.charges().await, 1);
}

#[tokio::test]
async fn a_model_that_is_not_the_tasks_costs_no_charge() {
    let bench = Bench::new(&[]);
    let task = TrainingTask { model_digest: Digest::of(b"another"), ..bench.task(2) };
    bench.answer([bench.offer(), Assignment::Training(task)]).await;
    let (kind, problem, _) = bench.declined();
    assert_eq!((kind, problem), (DeclineKind::Failure, ProblemType::DigestMismatch));
    assert_eq!(bench.charges().await, 0);
}

#[tokio::test]
async fn a_task_of_an_unknown_study_is_declined() {
    let bench = Bench::new(&[]);
    bench.answer([bench.training(2)]).await;
    assert_eq!(bench.declined().1, ProblemType::NotEnrolled);
}

#[tokio::test]
async fn enrolment_is_declined_by_policy_data_and_imputer() {
    let mut bench = Bench::new(&[]);
    bench.policy.allow_public_gradient = false;
    bench.answer([bench.offer()]).await;
    let (kind, problem, detail) = bench.declined();
    assert_eq!((kind, problem), (DeclineKind::Refusal, ProblemType::PolicyRefusal));
    assert!(detail.contains("allow_public_gradient"), "{detail}");

    for (edit, expected, named) in [
        (spoil_cell as fn(&Path), ProblemType::DataError, "line 2"),
        (spoil_header, ProblemType::SchemaMismatch, "\"s\""),
        (spoil_imputed, ProblemType::DataError, "imputed values"),
    ] {
        let bench = Bench::new(&[]);
        edit(bench.folder.path());
        bench.answer([bench.offer()]).await;
        let (kind, problem, detail) = bench.declined();
        assert_eq!((kind, problem), (DeclineKind::Failure, expected));
        assert!(detail.contains(named) && !detail.contains("77777"), "{detail}");
    }
}

#[tokio::test]
async fn whether_a_site_takes_part_depends_on_no_sensitive_value() {
    // A schema that asks "is the value below 60?" of every patient gets the same answer whatever they are.
    let narrow = [("range = [0, 100]", "range = [60, 100]"), ("center = 50", "center = 80")];
    let bench = Bench::new(&[DP_SGD, &narrow].concat());
    spoil(&bench.folder.path().join("train.csv"), "red,0,0,yes", "red,nonsense,7,yes");
    bench.answer([bench.offer()]).await;
    assert!(bench.fake.kept().declines.is_empty(), "{:?}", bench.fake.kept().declines);
    assert_eq!(bench.fake.kept().enrolments.len(), 1);
}

fn spoil(path: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "{from:?} is not in the file");
    std::fs::write(path, text.replacen(from, to, 1)).unwrap();
}

fn spoil_cell(folder: &Path) {
    spoil(&folder.join("train.csv"), "\nu0,0,", "\nu0,77777,");
}

fn spoil_header(folder: &Path) {
    spoil(&folder.join("train.csv"), "id,a,c,s", "id,a,c,sss");
}

fn spoil_imputed(folder: &Path) {
    spoil(&folder.join("imputed.csv"), "\nu0,", "\nu77777,");
}

#[tokio::test]
async fn metrics_stay_at_a_site_that_does_not_permit_them() {
    let mut bench = Bench::new(&[]);
    bench.policy.allow_metrics = false;
    bench.answer([bench.offer(), bench.evaluation("test")]).await;
    let (kind, problem, detail) = bench.declined();
    assert_eq!((kind, problem), (DeclineKind::Refusal, ProblemType::PolicyRefusal));
    assert!(detail.contains("allow_metrics"), "{detail}");
    assert!(bench.fake.kept().reports.is_empty());
}

#[tokio::test]
async fn a_cohort_that_the_study_does_not_name_is_refused() {
    let bench = Bench::new(&[]);
    bench.answer([bench.offer(), bench.evaluation("val")]).await;
    let (kind, problem, detail) = bench.declined();
    assert_eq!((kind, problem), (DeclineKind::Refusal, ProblemType::PolicyRefusal));
    assert!(detail.contains("\"val\""), "{detail}");
}

#[tokio::test]
async fn an_unknown_cohort_is_a_failure_with_a_remedy() {
    let bench = Bench::new(&[("final_cohort = \"test\"", "final_cohort = \"val\"")]);
    bench.answer([bench.offer(), bench.evaluation("val")]).await;
    let (kind, problem, detail) = bench.declined();
    assert_eq!((kind, problem), (DeclineKind::Failure, ProblemType::DataError));
    assert!(detail.contains("[data.cohorts]"), "{detail}");
}

#[tokio::test]
async fn a_second_study_on_the_same_patients_adds_up() {
    let mut bench = Bench::new(&[]);
    bench.answer([bench.offer(), bench.training(2)]).await;
    bench.document = document(&[("name = \"small\"", "name = \"other\"")]);
    bench.session = Session::prepare(bench.document.clone(), &sources(bench.folder.path())).unwrap();
    bench.answer([bench.offer(), bench.training(2)]).await;
    let updates = bench.fake.kept().updates.clone();
    let stated: Vec<_> = updates.iter().map(|(header, _)| header.receipt.receipt.epsilon).collect();
    assert_eq!(stated[0].data_replace, stated[0].replace);
    assert_eq!(stated[1].replace, stated[0].replace);
    assert!(stated[1].data_replace > stated[1].replace);
    let receipt = &updates[1].0.receipt.receipt;
    assert_eq!(
        (receipt.charges.len(), receipt.study_charges),
        (1, 1),
        "a receipt lists its own study's charges"
    );
}

/// Runs an agent that is shown an entry when it registers, until it ends by itself or has answered.
async fn shown(bench: &Bench, entry: SignedEntry) -> Result<(), String> {
    bench.fake.kept().newest_entry = Some(entry);
    let shutdown = Shutdown::new();
    let running = bench.agent(&shutdown).await.run();
    tokio::select! {
        ended = running => ended.map_err(|error| error.to_string()),
        () = tokio::time::sleep(Duration::from_millis(300)) => Ok(()),
    }
}

#[tokio::test]
async fn an_entry_that_the_coordinator_has_and_the_ledger_lacks_stops_the_agent() {
    let bench = Bench::new(&[]);
    bench.answer([bench.offer(), bench.training(2)]).await;
    let held = bench.state();
    bench.back_up().await;
    bench.answer([bench.training(3)]).await;
    let newest = Store::open_read_only(&held).await.unwrap().signed_entries().await.unwrap().remove(1);
    shown(&bench, newest.clone()).await.unwrap();

    // Folder and journal are both restored from the same backup: nothing at the site can tell, the coordinator can.
    bench.roll_back().await;
    let error = shown(&bench, newest.clone()).await.unwrap_err();
    assert!(error.contains("entry 1") && error.contains("ledger restore"), "{error}");
    let stranger = LedgerKey::from_seed([9; LedgerKey::SEED_BYTES]).sign_entry(newest.entry.clone());
    let error = shown(&bench, stranger).await.unwrap_err();
    assert!(error.contains("another key"), "{error}");

    // An administrator gives it up, or has it back: then the agent goes on.
    let store = Arc::new(Store::open(&held).await.unwrap());
    let decision = Decision { reason: "lost for good", decided_by: "it", now_ms: NOW_MS };
    assert_eq!(store.accept_lost_entries(&decision).await.unwrap(), [1]);
    assert!(store.accept_lost_entries(&decision).await.is_err(), "there is nothing more to decide");
    drop(store);
    shown(&bench, newest).await.unwrap();
}

#[tokio::test]
async fn another_set_of_patients_needs_a_declared_identity() {
    let mut bench = Bench::new(&[]);
    bench.answer([bench.offer(), bench.training(2)]).await;
    write_records(bench.folder.path(), 41, 1, false);
    bench.document = document(&[("name = \"small\"", "name = \"other\"")]);
    bench.answer([bench.offer()]).await;
    let (kind, problem, detail) = bench.declined();
    assert_eq!((kind, problem), (DeclineKind::Refusal, ProblemType::PolicyRefusal));
    assert!(detail.contains("[data] identity"), "{detail}");
}

#[tokio::test]
async fn an_agent_ends_promptly_when_told_to() {
    let bench = Bench::new(&[]);
    let shutdown = Shutdown::new();
    let running = tokio::spawn(bench.agent(&shutdown).await.run());
    tokio::time::sleep(Duration::from_millis(20)).await;
    shutdown.trigger();
    tokio::time::timeout(Duration::from_secs(5), running).await.unwrap().unwrap().unwrap();
    // Its state folder is free again.
    Store::open(&bench.state()).await.unwrap();
}

mod approval;
