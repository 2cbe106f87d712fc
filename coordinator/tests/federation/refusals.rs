//! Who may call what, and studies that are not taken.

use fusiondp_proto::v1;
use fusiondp_proto::v1::administration_client::AdministrationClient;
use fusiondp_proto::v1::federation_client::FederationClient;
use fusiondp_protocol::{Problem, ProblemType, StudyState};
use fusiondp_runtime::Role;
use tonic::Status;

use crate::fake::{Behavior, register};
use crate::setup::{Federation, STUDY, channel, document};

fn problem(status: Status) -> Problem {
    Problem::from_status(&status).unwrap_or_else(|| panic!("{status:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_and_the_list_of_members_decide_who_may_call() {
    let folder = tempfile::tempdir().unwrap();
    let federation = Federation::start(folder.path(), &["a"]).await;
    let connector = federation.connector.clone();

    let mut stranger = FederationClient::new(channel(&connector, "mallory", Role::Site));
    let refused = problem(register(&mut stranger).await.unwrap_err());
    assert_eq!(refused.kind, ProblemType::UnknownSite);
    assert!(refused.detail.contains("mallory") && refused.detail.contains("tests"), "{refused}");

    let mut admin_as_site = FederationClient::new(channel(&connector, "admin", Role::Admin));
    let refused = problem(register(&mut admin_as_site).await.unwrap_err());
    assert_eq!(refused.kind, ProblemType::WrongRole);

    let mut site_as_admin = AdministrationClient::new(channel(&connector, "a", Role::Site));
    let calls = [
        site_as_admin.list_studies(v1::ListStudiesRequest {}).await.map(drop),
        site_as_admin.list_sites(v1::ListSitesRequest {}).await.map(drop),
        site_as_admin
            .submit_study(v1::SubmitStudyRequest { study_toml: STUDY.clone().into() })
            .await
            .map(drop),
        site_as_admin.stop_study(v1::StopStudyRequest { study_id: "x".into() }).await.map(drop),
        site_as_admin.export_study(v1::ExportStudyRequest { study_id: "x".into() }).await.map(drop),
        site_as_admin.watch_study(v1::WatchStudyRequest { study_id: "x".into() }).await.map(drop),
        site_as_admin.get_study_status(v1::GetStudyStatusRequest { study_id: "x".into() }).await.map(drop),
    ];
    for call in calls {
        assert_eq!(problem(call.unwrap_err()).kind, ProblemType::WrongRole);
    }
    federation.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_protocol_version_is_refused_with_both_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let federation = Federation::start(folder.path(), &["a"]).await;
    let mut client = FederationClient::new(channel(&federation.connector, "a", Role::Site));
    let limits = v1::Limits { max_chunk_bytes: 65_536, max_model_bytes: 1 << 20 };
    let request = v1::RegisterRequest {
        protocol_version: 2,
        agent_version: "x".into(),
        limits: Some(limits),
        ..v1::RegisterRequest::default()
    };
    let refused = problem(client.register(request).await.unwrap_err());
    assert_eq!(refused.kind, ProblemType::ProtocolVersionMismatch);
    assert!(refused.detail.contains("version 2") && refused.detail.contains("speaks 1"), "{refused}");
    federation.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn registration_negotiates_limits_and_sites_are_listed() {
    let folder = tempfile::tempdir().unwrap();
    let mut federation = Federation::start(folder.path(), &["a", "b"]).await;
    let mut client = FederationClient::new(channel(&federation.connector, "a", Role::Site));
    let registered = register(&mut client).await.unwrap();
    assert_eq!((registered.site_id.as_str(), registered.consortium.as_str()), ("a", "tests"));
    assert_eq!((registered.limits.max_chunk_bytes, registered.limits.max_model_bytes), (4096, 1 << 20));
    let sites = federation.admin.list_sites(v1::ListSitesRequest {}).await.unwrap().into_inner().sites;
    let seen: Vec<_> = sites.iter().map(|site| (site.site_id.as_str(), site.connected)).collect();
    assert_eq!(seen, [("a", true), ("b", false)]);
    assert_eq!((sites[0].agent_version.as_str(), sites[0].peer_address.as_str()), ("fake 1", "in-process"));
    federation.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn studies_that_cannot_run_are_refused_at_submission() {
    let folder = tempfile::tempdir().unwrap();
    let mut federation = Federation::start(folder.path(), &["a", "b"]).await;
    let documents = [
        ("nonsense".to_owned(), "line 1: key with no value"),
        (STUDY.replace("min_sites = 2", "min_sites = 3"), "min_sites"),
        (STUDY.replace("min_sites = 2", "min_sites = 1\nsites = [\"a\", \"zoe\"]"), "zoe"),
        (
            STUDY.replace("feature-dp", "non-private").replace("warmup_rounds = 1", "warmup_rounds = 0"),
            "non-private",
        ),
        (STUDY.replace("kind = \"linear\"", "kind = \"mlp\"\nwidths = [12000, 12000]"), "max_model_mib"),
        (
            STUDY.replace("kind = \"linear\"", "kind = \"mlp\"\nwidths = [6000, 9000]"),
            "a database value holds",
        ),
    ];
    for (text, part) in documents {
        let request = v1::SubmitStudyRequest { study_toml: text.into() };
        let refused = problem(federation.admin.submit_study(request).await.unwrap_err());
        assert_eq!(refused.kind, ProblemType::StudyInvalid, "{refused}");
        assert!(refused.detail.contains(part), "{refused}");
    }
    let unknown = v1::GetStudyStatusRequest { study_id: "no-such-study".into() };
    let refused = problem(federation.admin.get_study_status(unknown).await.unwrap_err());
    assert_eq!(refused.kind, ProblemType::UnknownStudy);
    federation.stop().await;
}

/// Each misuse of docs/PRIVACY_OPERATIONS.md that a study document can hold, and what the refusal has to say.
#[tokio::test(flavor = "multi_thread")]
async fn no_misuse_passes_submission() {
    let folder = tempfile::tempdir().unwrap();
    let mut federation = Federation::start(folder.path(), &["a", "b"]).await;
    let table: toml::Table = include_str!("../data/misuse.toml").parse().unwrap();
    for misuse in table["misuse"].as_array().unwrap() {
        let part = |key: &str| misuse[key].as_str().unwrap();
        assert_eq!(STUDY.matches(part("from")).count(), 1, "{misuse}");
        let text = STUDY.replace(part("from"), part("to"));
        let request = v1::SubmitStudyRequest { study_toml: text.into() };
        let refused = problem(federation.admin.submit_study(request).await.unwrap_err());
        assert_eq!(refused.kind, ProblemType::StudyInvalid, "{misuse}: {refused}");
        for said in ["named", "remedy"].map(part) {
            assert!(refused.detail.contains(said), "{misuse} without {said:?}: {refused}");
        }
    }
    federation.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_has_to_ask_somebody_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let mut federation = Federation::start(folder.path(), &["a", "b"]).await;
    federation.join("a", Behavior::Works);
    federation.join("b", Behavior::AsksFirst);
    let id = federation.submit(&document(&[("enrolment_timeout_s = 2", "enrolment_timeout_s = 30")])).await;
    let waits = |status: &fusiondp_protocol::StudyStatus| {
        status.sites.iter().any(|site| site.detail.contains("waits for approval by the site"))
    };
    let status = federation.wait(&id, "site that waits", waits).await;
    assert_eq!(status.state, StudyState::Enrolling);
    let status = federation.wait_end(&id).await;
    assert_eq!(status.state, StudyState::Finished, "{}", status.detail);
    assert!(!waits(&status), "{status:#?}");
    federation.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_study_that_was_not_approved_in_time_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let mut federation = Federation::start(folder.path(), &["a", "b"]).await;
    federation.join("a", Behavior::Works);
    federation.join("b", Behavior::AsksFirst);
    // Over before the second offer.
    let id = federation.submit(&document(&[("enrolment_timeout_s = 2", "enrolment_timeout_s = 1")])).await;
    let status = federation.wait_end(&id).await;
    assert_eq!(status.state, StudyState::Failed);
    assert!(status.detail.contains("b: approval-pending"), "{}", status.detail);
    federation.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn enrollment_without_enough_sites_fails_and_names_what_each_said() {
    let folder = tempfile::tempdir().unwrap();
    let mut federation = Federation::start(folder.path(), &["a", "b", "c"]).await;
    federation.join("a", Behavior::Works);
    federation.join("b", Behavior::RefusesStudy);
    let id = federation.submit(&document(&[])).await;
    let status = federation.wait_end(&id).await;
    assert_eq!(status.state, StudyState::Failed);
    for part in ["2 sites must enroll and 1 did", "b: policy-refusal: not with <us>", "c: no answer"] {
        assert!(status.detail.contains(part), "{}", status.detail);
    }
    let html = federation.export(&id).await.remove("report.html").unwrap();
    let html = String::from_utf8(html).unwrap();
    assert!(html.contains("not with &lt;us&gt;") && !html.contains("<us>"));
    federation.stop().await;
}
