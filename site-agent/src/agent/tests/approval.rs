//! Approval by hand, withdrawn approvals, and what is kept of refusals.

use super::*;
use crate::policy::limits::Approval;
use crate::policy::{Scope, Verdict};
use crate::store::{Decision, Look};

impl Bench {
    fn by_hand(edits: &[(&str, &str)]) -> Self {
        let mut bench = Bench::new(edits);
        bench.policy.approval = Approval::ByHand;
        bench
    }

    /// Decides as the command line does: beside the agent, without its lock.
    async fn decide(&self, verdict: Verdict) {
        let store = Store::open_for_decisions(&self.state()).await.unwrap();
        let decision = Decision {
            study: self.document.id().clone(),
            digest: self.document.digest(),
            verdict,
            decided_by: "tester".to_owned(),
            decided_ms: NOW_MS,
        };
        store.record_decision(&decision).await.unwrap();
    }

    async fn store(&self) -> Store {
        Store::open_read_only(&self.state()).await.unwrap()
    }
}

fn rejected() -> Verdict {
    Verdict::Rejected { reason: "no ethics vote".to_owned() }
}

#[tokio::test]
async fn a_study_waits_for_approval_and_joins_without_a_restart() {
    let bench = Bench::by_hand(&[]);
    let shutdown = Shutdown::new();
    let running = tokio::spawn(bench.agent(&shutdown).await.run());
    bench.fake.hand_out([bench.offer()]);
    bench.fake.done().await;
    let (kind, problem, detail) = bench.declined();
    assert_eq!((kind, problem), (DeclineKind::Failure, ProblemType::ApprovalPending));
    assert_eq!(detail, "the study waits for approval by the site");
    assert!(bench.fake.kept().enrolments.is_empty());
    // The site has looked at its data for whoever decides, and told nobody.
    let offered = bench.store().await.offered().await.unwrap().remove(0);
    assert!(matches!(offered.look, Some((Look::Ready { units: 40, records: 40, .. }, _))));
    assert_eq!((offered.asked_by.as_str(), offered.digest), ("test", bench.document.digest()));

    bench.decide(Verdict::Approved).await;
    bench.fake.hand_out([bench.offer(), bench.training(2)]);
    bench.fake.done().await;
    assert_eq!(bench.fake.kept().enrolments.len(), 1);
    assert_eq!(bench.fake.kept().updates.len(), 1);
    shutdown.trigger();
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn an_approval_is_of_one_document() {
    let mut bench = Bench::by_hand(&[]);
    bench.answer([bench.offer()]).await;
    bench.decide(Verdict::Approved).await;
    let commented = format!("{}# one comment more\n", bench.document.text());
    bench.document = StudyDocument::from_bytes(commented.as_bytes()).unwrap();
    bench.answer([bench.offer()]).await;
    let kinds: Vec<_> = bench.fake.kept().declines.iter().map(|decline| decline.problem.kind).collect();
    assert_eq!(kinds, [ProblemType::ApprovalPending; 2]);
    assert!(bench.fake.kept().enrolments.is_empty());
}

#[tokio::test]
async fn a_withdrawn_approval_ends_training_evaluation_and_what_was_not_sent_yet() {
    let bench = Bench::by_hand(&[]);
    bench.answer([bench.offer()]).await;
    bench.decide(Verdict::Approved).await;
    bench.fake.kept().declines.clear();
    bench.fake.kept().faults.push_back(Fault::Lost);
    bench.fake.hand_out([bench.offer(), bench.training(2)]);
    bench.crash_when(|kept| kept.faults.is_empty()).await;
    bench.fake.kept().script.clear();
    bench.decide(rejected()).await;
    // The update of round 2 lies in the outbox, paid for.
    bench.answer([bench.training(2), bench.training(3), bench.evaluation("test")]).await;
    let kept = bench.fake.kept().declines.clone();
    assert_eq!(kept.len(), 3);
    for decline in kept {
        assert_eq!((decline.kind, decline.problem.kind), (DeclineKind::Refusal, ProblemType::PolicyRefusal));
        assert!(decline.problem.detail.contains("rejected"), "{}", decline.problem);
        assert!(!decline.problem.detail.contains("ethics"), "the site's reason: {}", decline.problem);
    }
    assert!(bench.fake.kept().updates.is_empty() && bench.fake.kept().reports.is_empty());
    assert_eq!(bench.charges().await, 1);
}

#[tokio::test]
async fn a_rejected_study_is_refused_though_studies_need_no_approval() {
    let bench = Bench::new(&[]);
    Store::open(&bench.state()).await.unwrap();
    bench.decide(rejected()).await;
    bench.answer([bench.offer()]).await;
    assert_eq!(bench.declined().0, DeclineKind::Refusal);
    assert!(bench.fake.kept().enrolments.is_empty());
}

#[tokio::test]
async fn tasks_stop_where_a_site_comes_to_demand_approval() {
    let mut bench = Bench::new(&[]);
    bench.answer([bench.offer()]).await;
    bench.policy.approval = Approval::ByHand;
    bench.answer([bench.training(2)]).await;
    let (kind, _, detail) = bench.declined();
    assert_eq!(kind, DeclineKind::Refusal);
    assert!(detail.contains("not approved"), "{detail}");
}

#[tokio::test]
async fn what_the_policy_refuses_waits_for_nobody() {
    let mut bench = Bench::by_hand(&[]);
    bench.policy.allow_public_gradient = false;
    bench.answer([bench.offer()]).await;
    assert_eq!(bench.declined().1, ProblemType::PolicyRefusal);
}

#[tokio::test]
async fn data_that_does_not_serve_is_told_to_the_site_before_and_to_the_coordinator_after_approval() {
    let bench = Bench::by_hand(&[]);
    spoil_cell(bench.folder.path());
    bench.answer([bench.offer()]).await;
    assert_eq!(bench.declined().1, ProblemType::ApprovalPending);
    let offered = bench.store().await.offered().await.unwrap().remove(0);
    assert!(matches!(offered.look, Some((Look::Problem(text), _)) if text.contains("line 2")));
    bench.decide(Verdict::Approved).await;
    bench.answer([bench.offer()]).await;
    assert_eq!(bench.fake.kept().declines[1].problem.kind, ProblemType::DataError);
}

#[tokio::test]
async fn refusals_are_kept_with_what_the_coordinator_does_not_hear_and_counted() {
    let mut bench = Bench::new(&[]);
    bench.policy.min_units = 41;
    bench.answer([bench.offer(), bench.offer()]).await;
    let declines = bench.fake.kept().declines.clone();
    assert!(declines.iter().all(|decline| !decline.problem.detail.contains("40")), "{declines:?}");
    let rows = bench.store().await.newest_refusals(9).await.unwrap();
    assert_eq!(rows.len(), 1, "{rows:?}");
    let row = &rows[0];
    assert_eq!((row.stage.as_str(), row.decline.as_str(), row.times), ("enrolment", "refusal", 2));
    assert_eq!(row.problem, "policy-refusal");
    assert!(row.text.contains("40 privacy units"), "{}", row.text);
}

#[tokio::test]
async fn the_coordinator_hears_that_the_year_is_spent_and_not_by_how_much() {
    let mut bench = Bench::new(&[]);
    let plan = bench.task(2).plan;
    let one = EpsilonMeter::default().spent(&StepCounts::of(&plan.events_until(2)), plan.delta).unwrap();
    bench.policy.per_year.max_epsilon_replace = Some(one.replace.get().try_into().unwrap());
    bench.answer([bench.offer(), bench.training(2), bench.training(3)]).await;
    let (_, problem, detail) = bench.declined();
    assert_eq!(problem, ProblemType::BudgetExceeded);
    assert!(
        detail.contains("policy.per_year.max_epsilon_replace") && !detail.contains("would be"),
        "{detail}"
    );
    let row = bench.store().await.newest_refusals(1).await.unwrap().remove(0);
    assert!(row.text.contains(&Scope::Year.to_string()) && row.text.contains("would be"), "{}", row.text);
    assert_eq!(bench.charges().await, 1);
}

/// The coordinator's own tests submit the same documents; here it took them all the same.
#[tokio::test]
async fn no_misuse_passes_the_site() {
    let base = include_str!("../../../../coordinator/tests/data/study.toml");
    let table: toml::Table = include_str!("../../../../coordinator/tests/data/misuse.toml").parse().unwrap();
    let bench = Bench::new(&[]);
    for misuse in table["misuse"].as_array().unwrap() {
        let part = |key: &str| misuse[key].as_str().unwrap();
        let text = base.replace(part("from"), part("to"));
        let offer = EnrolmentOffer {
            study_id: bench.document.id().clone(),
            study_digest: Digest::of(text.as_bytes()),
            study_toml: text.into(),
            deadline_ms: NOW_MS + 60_000,
        };
        bench.fake.kept().declines.clear();
        bench.answer([Assignment::Enrolment(offer)]).await;
        let (kind, problem, detail) = bench.declined();
        assert_eq!((kind, problem), (DeclineKind::Refusal, ProblemType::StudyInvalid), "{misuse}: {detail}");
        for said in ["named", "remedy"].map(part) {
            assert!(detail.contains(said), "{misuse} without {said:?}: {detail}");
        }
    }
}

#[tokio::test]
async fn a_plan_with_less_noise_and_a_delta_above_one_over_the_sites_units_are_refused_by_the_site() {
    let bench = Bench::new(&[]);
    let mut quiet = bench.task(2);
    quiet.plan.noise_multiplier = Some(fusiondp_dp::NoiseMultiplier::new(1e-9).unwrap());
    bench.answer([bench.offer(), Assignment::Training(quiet)]).await;
    let (kind, problem, detail) = bench.declined();
    assert_eq!((kind, problem), (DeclineKind::Refusal, ProblemType::PlanMismatch));
    assert!(detail.contains("noise_multiplier"), "{detail}");

    let loose = Bench::new(&[("delta = 1e-5", "delta = 0.03")]);
    let mut bench = loose;
    bench.policy.delta = fusiondp_dp::Delta::new(0.05).unwrap();
    bench.answer([bench.offer()]).await;
    let (kind, _, detail) = bench.declined();
    assert_eq!(kind, DeclineKind::Refusal);
    assert!(detail.contains("delta = 0.03") && detail.contains("lower privacy.delta"), "{detail}");
}

#[tokio::test]
async fn noise_with_a_seed_does_not_leave_the_process() {
    struct Outside;
    impl crate::transport::Connector for Outside {
        fn connect(&self) -> crate::transport::Connecting<'_> {
            unreachable!("an agent with a seed must not connect")
        }
    }
    let bench = Bench::new(&[]);
    let sources = sources(bench.folder.path());
    let parts = SiteParts {
        settings: SiteSettings::new(bench.policy.clone(), None),
        source: sources.source,
        imputers: sources.imputers,
        store: Arc::new(Store::in_memory().await.unwrap()),
        connector: Arc::new(Outside),
        random: RandomSource::Simulation { seed: 1 },
        meter: Arc::default(),
        workers: Workers::per_core(),
        shutdown: Shutdown::new(),
        clock: clock(),
    };
    let error = SiteAgent::new(parts).await.err().unwrap();
    assert!(matches!(error, AgentError::SeedInProduction));
    assert!(error.to_string().contains("RandomSource::Os"), "{error}");
}
