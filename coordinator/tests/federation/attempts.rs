//! Answers that come in another attempt than they were asked for, or after an outage.

use std::path::Path;
use std::time::Duration;

use fusiondp_proto::v1;
use fusiondp_proto::v1::federation_client::FederationClient;
use fusiondp_protocol::{
    Assignment, Decline, DeclineKind, DeclinedTask, Poll, Problem, ProblemType, RoundPhase, StudyId,
    StudyState, TrainingTask, UpdateOutcome,
};
use fusiondp_runtime::Role;
use tonic::transport::Channel;

use crate::fake::{Behavior, FakeSite, ledger_key, register, submit};
use crate::setup::{Federation, channel, document};

const QUIET: (&str, &str) = ("every_rounds = 2", "every_rounds = 0");

/// A site that the test plays by hand.
pub(crate) struct Hand {
    pub(crate) client: FederationClient<Channel>,
    pub(crate) site: FakeSite,
}

impl Hand {
    async fn enrol(federation: &Federation, id: &str) -> Self {
        let mut client = FederationClient::new(channel(&federation.connector, id, Role::Site));
        register(&mut client).await.unwrap();
        let mut hand = Self { client, site: FakeSite::new(id, Behavior::Works) };
        loop {
            if let Assignment::Enrolment(offer) = hand.poll(5_000).await {
                let document = offer.document().unwrap();
                let enrolment = v1::EnrolRequest {
                    study_id: document.id().to_string(),
                    study_digest: document.digest().as_bytes().to_vec().into(),
                    units: hand.site.units,
                    records: hand.site.units * 2,
                    ledger_head: hand.site.ledger.head().as_bytes().to_vec().into(),
                    ledger_key: ledger_key().public().as_bytes().to_vec().into(),
                };
                hand.client.enrol(enrolment).await.unwrap();
                return hand;
            }
        }
    }

    async fn poll(&mut self, wait_ms: u32) -> Assignment {
        let poll = v1::NextAssignmentRequest::from(Poll { wait_ms });
        Assignment::try_from(self.client.next_assignment(poll).await.unwrap().into_inner()).unwrap()
    }

    pub(crate) async fn task(&mut self) -> TrainingTask {
        loop {
            if let Assignment::Training(task) = self.poll(5_000).await {
                return task;
            }
        }
    }

    async fn decline(&mut self, task: &TrainingTask, kind: DeclineKind, problem: ProblemType) {
        let decline = Decline {
            study_id: task.plan.study_id.clone(),
            task: DeclinedTask::Training { round: task.round, attempt: task.attempt },
            kind,
            problem: Problem::new(problem, "train.csv is locked"),
        };
        self.client.decline(v1::DeclineRequest::from(decline)).await.unwrap();
    }
}

async fn wait_attempt(federation: &Federation, id: &StudyId, attempt: u32, phase: RoundPhase) {
    loop {
        let row = federation.store.current_round(id).await.unwrap().unwrap();
        if row.key.attempt == attempt && row.phase == phase {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub(crate) async fn two_hands(folder: &Path, timeout: &str) -> (Federation, StudyId, Hand, Hand) {
    let mut federation = Federation::start(folder, &["a", "b", "c"]).await;
    federation.join("a", Behavior::Works);
    let id = federation
        .submit(&document(&[QUIET, ("rounds = 6", "rounds = 2"), ("round_timeout_s = 2", timeout)]))
        .await;
    let (b, c) = tokio::join!(Hand::enrol(&federation, "b"), Hand::enrol(&federation, "c"));
    (federation, id, b, c)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_of_an_abandoned_attempt_counts_although_its_site_is_not_in_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let (mut federation, id, mut b, mut c) = two_hands(folder.path(), "round_timeout_s = 17").await;
    let (first, second) = tokio::join!(b.task(), c.task());
    let (header, payload) = b.site.update(&mut b.client, &first).await.unwrap();
    // b computes for longer than a site counts as connected; c only answers polls.
    for _ in 0..8 {
        tokio::time::sleep(Duration::from_millis(2_000)).await;
        c.poll(1).await;
    }
    wait_attempt(&federation, &id, 2, RoundPhase::Reporting).await;
    assert_eq!(submit(&mut b.client, &header, &payload).await.unwrap(), UpdateOutcome::Accepted);
    let (header, payload) = c.site.update(&mut c.client, &second).await.unwrap();
    assert_eq!(submit(&mut c.client, &header, &payload).await.unwrap(), UpdateOutcome::Accepted);
    let done = |status: &fusiondp_protocol::StudyStatus| status.round >= 1 || status.state.has_ended();
    let status = federation.wait(&id, "first round", done).await;
    assert_ne!(status.state, StudyState::Failed, "{}", status.detail);
    let b = status.sites.iter().find(|site| site.site_id.as_str() == "b").unwrap();
    assert_eq!(b.rounds_contributed, 1);
    federation.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_of_an_abandoned_attempt_leaves_the_next_task_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (federation, id, mut b, mut c) = two_hands(folder.path(), "round_timeout_s = 2").await;
    let (first, _) = tokio::join!(b.task(), c.task());
    wait_attempt(&federation, &id, 2, RoundPhase::Reporting).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    // A round that was never given out takes nobody out of the study, nor does it take the task away.
    let never = TrainingTask { round: 2, ..first.clone() };
    b.decline(&never, DeclineKind::Refusal, ProblemType::BudgetExceeded).await;
    b.decline(&first, DeclineKind::Failure, ProblemType::DataError).await;
    let Assignment::Training(task) = b.poll(500).await else { panic!("the task of attempt 2 is gone") };
    assert_eq!(task.attempt, 2);
    federation.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_of_an_abandoned_attempt_is_not_waited_for_in_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let (federation, id, mut b, mut c) = two_hands(folder.path(), "round_timeout_s = 4").await;
    let (first, _) = tokio::join!(b.task(), c.task());
    wait_attempt(&federation, &id, 2, RoundPhase::Reporting).await;
    b.decline(&first, DeclineKind::Refusal, ProblemType::BudgetExceeded).await;
    let task = c.task().await;
    let (header, payload) = c.site.update(&mut c.client, &task).await.unwrap();
    assert_eq!(submit(&mut c.client, &header, &payload).await.unwrap(), UpdateOutcome::Accepted);
    let begun = std::time::Instant::now();
    while federation.store.current_round(&id).await.unwrap().unwrap().key.round == 1 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(
        begun.elapsed() < Duration::from_secs(1),
        "waited {:?} for a site that has left",
        begun.elapsed()
    );
    federation.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_cannot_weigh_more_than_its_records() {
    let folder = tempfile::tempdir().unwrap();
    let (federation, _, mut b, mut c) = two_hands(folder.path(), "round_timeout_s = 60").await;
    let (task, _) = tokio::join!(b.task(), c.task());
    let (mut header, payload) = b.site.update(&mut b.client, &task).await.unwrap();
    header.records = u64::from(u32::MAX);
    let refused = submit(&mut b.client, &header, &payload).await.unwrap_err();
    let refused = Problem::from_status(&refused).unwrap();
    assert_eq!(refused.kind, ProblemType::MalformedMessage);
    assert!(refused.detail.contains("weighs 4294967295 records, enrolled with 200"), "{refused}");
    federation.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_during_the_final_evaluation_is_no_fault_of_the_sites() {
    let folder = tempfile::tempdir().unwrap();
    let mut federation = Federation::start(folder.path(), &["a", "b"]).await;
    federation.join("a", Behavior::Works);
    let id = federation.submit(&document(&[QUIET, ("rounds = 6", "rounds = 2")])).await;
    let mut b = Hand::enrol(&federation, "b").await;
    for _ in 0..2 {
        let task = b.task().await;
        let (header, payload) = b.site.update(&mut b.client, &task).await.unwrap();
        submit(&mut b.client, &header, &payload).await.unwrap();
    }
    federation.wait(&id, "evaluation", |status| status.state == StudyState::Evaluating).await;
    while federation.store.open_evaluations(&id).await.unwrap().len() < 2 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let Hand { client, site } = b;
    drop(client);
    let sites = federation.stop().await;
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    let mut federation = Federation::start(folder.path(), &["a", "b"]).await;
    for site in sites {
        federation.rejoin(site);
    }
    // A site reconnects with a back-off, not in the same millisecond.
    tokio::time::sleep(Duration::from_millis(700)).await;
    federation.rejoin(site);
    let status = federation.wait_end(&id).await;
    assert_eq!(status.state, StudyState::Finished);
    let of_b =
        status.metrics.iter().any(|metric| metric.site_id.as_ref().is_some_and(|site| site.as_str() == "b"));
    assert!(of_b, "{:?}", federation.store.warnings(&id).await.unwrap());
    federation.stop().await;
}
