//! What the coordinator hears of a refusal.

use fusiondp_dp::{ClipNorm, Digest, Epsilon};

use super::*;

/// A figure and a name that are the site's own.
const FIGURE: u64 = 48_211;
const NAME: &str = "own_mrn";

fn epsilon(value: f64) -> Epsilon {
    Epsilon::new(value).unwrap()
}

/// Every refusal that knows something of the site, with what it knows.
fn private() -> Vec<(Refusal, String)> {
    let relation = NeighboringRelation::Replace;
    let budget =
        |scope| Refusal::BudgetExceeded { scope, relation, needed: epsilon(7.1234), limit: epsilon(2.0) };
    let digest = Digest::of(b"data");
    let name = || NAME.to_owned();
    let mut all = Scope::ALL.map(|scope| (budget(scope), "7.1234".to_owned())).to_vec();
    all.extend([
        (Refusal::TooFewUnits { units: FIGURE, limit: 50_000 }, FIGURE.to_string()),
        (Refusal::TooFewUnits { units: 3, limit: FIGURE }, FIGURE.to_string()),
        (Refusal::CohortTooSmall { cohort: "test".parse().unwrap(), limit: FIGURE }, FIGURE.to_string()),
        (Refusal::CohortShared { cohort: "test".parse().unwrap(), units: 48_211 }, FIGURE.to_string()),
        (Refusal::Unit { asked: "record".to_owned(), required: name() }, name()),
        (Refusal::DataSetUnknown { data_set: digest }, digest.to_string()),
        (Refusal::UnitChanged { charged: name(), asked: "record".to_owned() }, name()),
        (Refusal::Unaccountable { reason: name() }, name()),
        (Refusal::Rejected { reason: name() }, name()),
    ]);
    all
}

#[test]
fn what_is_the_sites_own_stays_there() {
    for (refusal, own) in private() {
        let problem = Problem::from(&refusal);
        assert!(refusal.to_string().contains(&own), "the site reads it: {refusal}");
        assert!(!problem.detail.contains(&own), "the coordinator hears it: {problem}");
        assert!(problem.detail.len() > 20, "{problem}");
    }
}

#[test]
fn the_coordinator_hears_which_limit_and_what_to_do() {
    let of = |scope| {
        let relation = NeighboringRelation::ZeroOut;
        Problem::from(&Refusal::BudgetExceeded { scope, relation, needed: epsilon(9.0), limit: epsilon(2.5) })
    };
    for (scope, section) in [
        (Scope::DataSet, "policy.max_epsilon_zero_out = 2.5"),
        (Scope::Study, "policy.per_study.max_epsilon_zero_out = 2.5"),
        (Scope::Year, "policy.per_year.max_epsilon_zero_out = 2.5"),
    ] {
        let problem = of(scope);
        assert_eq!(problem.kind, ProblemType::BudgetExceeded);
        assert!(problem.detail.contains(section) && problem.detail.contains("fewer rounds"), "{problem}");
    }
    let clip = Refusal::ClipNorm { value: ClipNorm::new(2.0).unwrap(), limit: ClipNorm::new(1.0).unwrap() };
    assert_eq!(clip.told(), clip.to_string());
    assert_eq!(Problem::from(&Refusal::ApprovalPending).kind, ProblemType::ApprovalPending);
}

#[test]
fn imputers_are_allowed_by_digest_and_those_without_a_file_always() {
    let digest = Digest::of(b"a file");
    let listed = |digests: &[Digest]| {
        let list = digests.iter().map(|digest| format!("sha256:{digest}").try_into().unwrap()).collect();
        policy(|limits| limits.allowed_imputers = Some(list))
    };
    let with = |kind: &str| document(&[("kind = \"precomputed\"", kind)]);
    let pinned = with(&format!("kind = \"onnx\"\nsha256 = \"{digest}\""));
    assert_eq!(listed(&[Digest::of(b"other"), digest]).check_document(pinned.study()), Ok(()));
    let refusal = listed(&[Digest::of(b"other")]).check_document(pinned.study()).unwrap_err();
    assert_eq!(refusal, Refusal::ImputerNotAllowed { digest });
    let unpinned = listed(&[digest]).check_document(document(&[]).study()).unwrap_err();
    assert_eq!(unpinned, Refusal::ImputerNotPinned { kind: "precomputed" });
    assert_eq!(
        listed(&[]).permit_public(pinned.study(), 40).err(),
        Some(Refusal::ImputerNotAllowed { digest })
    );
    for kind in ["kind = \"declared-noise\"", "kind = \"redacted\""] {
        assert_eq!(listed(&[]).check_document(with(kind).study()), Ok(()), "{kind}");
    }
    assert_eq!(listed(&[]).check_document(document(DP_SGD).study()), Ok(()));
}

#[test]
fn a_site_may_demand_to_see_whom_an_imputer_was_fitted_on() {
    let (demanding, study) = (policy(|limits| limits.require_support_ids = true), document(&[]));
    assert_eq!(demanding.check_support(study.study(), false), Err(Refusal::SupportNotListed));
    assert_eq!(demanding.check_support(study.study(), true), Ok(()));
    assert_eq!(demanding.check_support(document(DP_SGD).study(), false), Ok(()));
    assert_eq!(policy(|_| {}).check_support(study.study(), false), Ok(()));
}

#[test]
fn a_delta_above_one_over_the_sites_own_units_is_above_one_over_all() {
    let study = document(&[("delta = 1e-5", "delta = 0.05")]);
    let policy = policy(|limits| limits.delta = Delta::new(0.05).unwrap());
    assert_eq!(policy.check_study(study.study(), 20), Ok(()));
    assert!(matches!(policy.check_study(study.study(), 21), Err(Refusal::DeltaAboveUnits { .. })));
}

#[test]
fn a_decision_counts_for_offers_and_for_tasks() {
    let by_hand = policy(|limits| limits.approval = Approval::ByHand);
    let automatic = policy(|_| {});
    let rejected = Verdict::Rejected { reason: "no".to_owned() };
    for policy in [&by_hand, &automatic] {
        assert_eq!(policy.check_offer(Some(&Verdict::Approved)), Ok(()));
        assert_eq!(policy.check_task(Some(&Verdict::Approved)), Ok(()));
        for refused in [policy.check_offer(Some(&rejected)), policy.check_task(Some(&rejected))] {
            assert!(matches!(refused, Err(Refusal::Rejected { .. })));
        }
    }
    assert_eq!((automatic.check_offer(None), automatic.check_task(None)), (Ok(()), Ok(())));
    assert_eq!(by_hand.check_offer(None), Err(Refusal::ApprovalPending));
    assert_eq!(by_hand.check_task(None), Err(Refusal::NotApproved));
}
