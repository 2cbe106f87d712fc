//! Rounds in which not everything goes well.

use fusiondp_dp::{ChargeRequest, Delta, Digest, Ledger, LedgerEntry, LedgerKey, UpdateId};
use fusiondp_proto::v1;
use fusiondp_proto::v1::federation_client::FederationClient;
use fusiondp_protocol::study::ImputerSpec;
use fusiondp_protocol::{
    Assignment, Poll, Problem, ProblemType, SiteState, StudyState, TrainingTask, UpdateHeader, UpdateOutcome,
};
use fusiondp_runtime::Role;
use tonic::transport::Channel;

use crate::fake::{Behavior, FakeSite, Nowhere, ledger_key, register, restated, submit};
use crate::setup::{Federation, channel, document};

/// A study whose only evaluations are at the end, so that polls of these tests see rounds alone.
const QUIET: (&str, &str) = ("every_rounds = 2", "every_rounds = 0");

#[tokio::test(flavor = "multi_thread")]
async fn an_abandoned_attempt_is_repeated_and_nobody_pays_twice() {
    let folder = tempfile::tempdir().unwrap();
    let mut federation = Federation::start(folder.path(), &["a", "b"]).await;
    federation.join("a", Behavior::Works);
    federation.join("b", Behavior::FailsOnce(3));
    let id = federation.submit(&document(&[QUIET])).await;
    let status = federation.wait_end(&id).await;
    assert_eq!((status.state, status.round), (StudyState::Finished, 6), "{}", status.detail);
    assert_eq!(status.sites[1].rounds_missed, 1);
    let history = federation.store.rounds(&id).await.unwrap();
    let third: Vec<_> = history.iter().filter(|row| row.key.round == 3).collect();
    assert_eq!(third.len(), 2);
    assert!(third[0].detail.contains("failed: b"), "{}", third[0].detail);
    assert_eq!(
        third[0].key.model_version, third[1].key.model_version,
        "both attempts train on the same model"
    );
    let sites = federation.stop().await;
    let a = sites.iter().find(|site| site.id.as_str() == "a").unwrap();
    // Its update of the abandoned attempt counted in the next one.
    assert_eq!(a.ledger.entries().len(), 5);
    assert_eq!(a.receipts.len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_round_goes_on_at_its_deadline_and_the_late_update_is_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let mut federation = Federation::start(folder.path(), &["a", "b", "c"]).await;
    federation.join("a", Behavior::Works);
    federation.join("b", Behavior::Works);
    federation.join("c", Behavior::SleepsThrough(2));
    let id = federation.submit(&document(&[QUIET])).await;
    let status = federation.wait_end(&id).await;
    assert_eq!((status.state, status.round), (StudyState::Finished, 6), "{}", status.detail);
    let updates = federation.store.updates(&id).await.unwrap();
    let late: Vec<_> = updates.iter().filter(|update| update.late).collect();
    assert!(late.iter().any(|update| update.site.as_str() == "c" && update.round == 2), "{updates:?}");
    let warnings = federation.store.warnings(&id).await.unwrap();
    let said: Vec<&str> = warnings.iter().map(|warning| warning.message.as_str()).collect();
    assert!(
        said.contains(&"an update of round 2 came too late to count; what it was charged stays spent"),
        "{said:?}"
    );
    assert!(said.contains(&"took part in 5 of 6 rounds"), "{said:?}");
    // The charge of the late update stays in the mirror.
    let claims = federation.store.claims(&id).await.unwrap();
    let claims: Vec<_> = claims.into_iter().map(|claim| claim.read().unwrap()).collect();
    let c = claims.iter().find(|claim| claim.site.as_str() == "c").unwrap();
    let sites = federation.stop().await;
    let ledger = &sites.iter().find(|site| site.id.as_str() == "c").unwrap().ledger;
    assert_eq!(c.events.len(), ledger.entries().len());
    assert!(c.complete);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_round_that_never_gets_enough_updates_fails_the_study_with_names() {
    let folder = tempfile::tempdir().unwrap();
    let mut federation = Federation::start(folder.path(), &["a", "b"]).await;
    federation.join("a", Behavior::Works);
    federation.join("b", Behavior::FailsOnce(2));
    let id =
        federation.submit(&document(&[QUIET, ("max_round_attempts = 3", "max_round_attempts = 1")])).await;
    let status = federation.wait_end(&id).await;
    assert_eq!(status.state, StudyState::Failed);
    assert!(status.detail.contains("round 2") && status.detail.contains("failed: b"), "{}", status.detail);
    assert_eq!(status.round, 1);
    federation.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_takes_a_site_out_and_the_others_go_on_while_they_are_enough() {
    let folder = tempfile::tempdir().unwrap();
    let mut federation = Federation::start(folder.path(), &["a", "b", "c"]).await;
    federation.join("a", Behavior::Works);
    federation.join("b", Behavior::Works);
    federation.join("c", Behavior::RefusesRound(4));
    let id = federation.submit(&document(&[QUIET])).await;
    let status = federation.wait_end(&id).await;
    assert_eq!((status.state, status.round), (StudyState::Finished, 6), "{}", status.detail);
    let c = status.sites.iter().find(|site| site.site_id.as_str() == "c").unwrap();
    assert_eq!((c.state, c.rounds_contributed), (SiteState::Declined, 3));
    assert!(c.detail.contains("budget-exceeded: epsilon 1.5"), "{}", c.detail);
    federation.stop().await;

    let folder = tempfile::tempdir().unwrap();
    let mut federation = Federation::start(folder.path(), &["a", "b"]).await;
    federation.join("a", Behavior::Works);
    federation.join("b", Behavior::RefusesRound(4));
    let id = federation.submit(&document(&[QUIET])).await;
    let status = federation.wait_end(&id).await;
    assert_eq!(status.state, StudyState::Failed);
    assert!(status.detail.contains("only 1 are left"), "{}", status.detail);
    federation.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_understates_its_epsilon_stops_the_study() {
    let folder = tempfile::tempdir().unwrap();
    let mut federation = Federation::start(folder.path(), &["a", "b"]).await;
    federation.join("a", Behavior::Works);
    federation.join("b", Behavior::Understates);
    let id = federation.submit(&document(&[])).await;
    let status = federation.wait_end(&id).await;
    assert_eq!(status.state, StudyState::Failed);
    for part in ["epsilon-disagreement", "site b claims", "the coordinator computes"] {
        assert!(status.detail.contains(part), "{}", status.detail);
    }
    federation.stop().await;
}

/// A study in its first round, and the task of site `b`, which the test plays by hand.
async fn by_hand(
    folder: &std::path::Path,
) -> (Federation, FederationClient<Channel>, FakeSite, TrainingTask) {
    let mut federation = Federation::start(folder, &["a", "b", "c"]).await;
    federation.join("a", Behavior::Works);
    let timeouts = ("round_timeout_s = 2", "round_timeout_s = 600");
    let private = ("warmup_rounds = 1", "warmup_rounds = 0");
    federation.submit(&document(&[QUIET, timeouts, private])).await;
    let mut client = FederationClient::new(channel(&federation.connector, "b", Role::Site));
    register(&mut client).await.unwrap();
    let site = FakeSite::new("b", Behavior::Works);
    loop {
        let poll = v1::NextAssignmentRequest::from(Poll { wait_ms: 5_000 });
        match Assignment::try_from(client.next_assignment(poll).await.unwrap().into_inner()).unwrap() {
            Assignment::Enrolment(offer) => {
                let document = offer.document().unwrap();
                let enrolment = v1::EnrolRequest {
                    study_id: document.id().to_string(),
                    study_digest: document.digest().as_bytes().to_vec().into(),
                    units: site.units,
                    records: site.units * 2,
                    ledger_head: site.ledger.head().as_bytes().to_vec().into(),
                    ledger_key: ledger_key().public().as_bytes().to_vec().into(),
                };
                client.enrol(enrolment.clone()).await.unwrap();
                client.enrol(enrolment).await.unwrap();
            }
            Assignment::Training(task) => return (federation, client, site, task),
            other => assert_eq!(other, Assignment::Idle),
        }
    }
}

fn kind(status: &tonic::Status) -> ProblemType {
    Problem::from_status(status).unwrap_or_else(|| panic!("{status:?}")).kind
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_and_repeated_updates_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let (federation, mut client, mut site, task) = by_hand(folder.path()).await;
    let (header, payload) = site.update(&mut client, &task).await.unwrap();

    // A site that was not selected: same bytes, other certificate.
    let mut stranger = FederationClient::new(channel(&federation.connector, "c", Role::Site));
    let refused = submit(&mut stranger, &header, &payload).await.unwrap_err();
    assert_eq!(kind(&refused), ProblemType::NotEnrolled);
    assert!(refused.message().contains('c'), "{refused:?}");

    let longer = restated(&header, |receipt| receipt.public_values += 1);
    let refused = submit(&mut client, &longer, &payload).await.unwrap_err();
    assert_eq!(kind(&refused), ProblemType::MalformedMessage);
    assert!(refused.message().contains("public_values is 4, the model and the round need 3"), "{refused:?}");

    let mut bytes = payload.clone();
    bytes[..4].copy_from_slice(&f32::NAN.to_le_bytes());
    let poisoned = restated(&header, |receipt| receipt.payload_digest = Digest::of(&bytes));
    let refused = submit(&mut client, &poisoned, &bytes).await.unwrap_err();
    assert_eq!(kind(&refused), ProblemType::MalformedMessage);
    assert!(refused.message().contains("not finite"), "{refused:?}");

    assert!(refused.message().contains("value 0 of the public gradient"), "{refused:?}");

    let refused = submit(&mut client, &header, &bytes).await.unwrap_err();
    assert_eq!(kind(&refused), ProblemType::DigestMismatch);

    bytes[..4].copy_from_slice(&1e30_f32.to_le_bytes());
    let poisoned = restated(&header, |receipt| receipt.payload_digest = Digest::of(&bytes));
    let refused = submit(&mut client, &poisoned, &bytes).await.unwrap_err();
    assert_eq!(kind(&refused), ProblemType::MalformedMessage);
    assert!(refused.message().contains("too large for any step"), "{refused:?}");

    let mut wanted = v1::FetchModelRequest { study_id: task.plan.study_id.to_string(), model_version: 1 };
    let refused = stranger.fetch_model(wanted.clone()).await.err().unwrap();
    assert_eq!(kind(&refused), ProblemType::NotEnrolled, "an invitation is no licence to fetch models");
    wanted.model_version = 99;
    let refused = client.fetch_model(wanted).await.err().unwrap();
    assert_eq!(kind(&refused), ProblemType::UnknownModelVersion);

    let other_model = restated(&header, |receipt| receipt.model_version += 1);
    let refused = submit(&mut client, &other_model, &payload).await.unwrap_err();
    assert_eq!(kind(&refused), ProblemType::StaleTask);

    let later_attempt = restated(&header, |receipt| receipt.attempt += 1);
    assert_eq!(
        kind(&submit(&mut client, &later_attempt, &payload).await.unwrap_err()),
        ProblemType::StaleTask
    );

    let uncharged = restated(&header, |receipt| receipt.update_id = UpdateId::from_bytes([9; 16]));
    let refused = submit(&mut client, &uncharged, &payload).await.unwrap_err();
    assert_eq!(kind(&refused), ProblemType::MalformedMessage);
    assert!(refused.message().contains("no charge"), "{refused:?}");
    refuse_altered_receipts(&mut client, &header, &payload).await;

    refuse_altered_entries(&mut client, &header, &payload).await;

    // None of that has spoiled the true update, and sending it again changes nothing.
    assert_eq!(submit(&mut client, &header, &payload).await.unwrap(), UpdateOutcome::Accepted);
    assert_eq!(submit(&mut client, &header, &payload).await.unwrap(), UpdateOutcome::Duplicate);
    let id = &task.plan.study_id;
    let applied =
        |row: Option<fusiondp_coordinator::store::RoundRow>| row.is_some_and(|row| row.key.round == 2);
    while !applied(federation.store.current_round(id).await.unwrap()) {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    // A second update for a round that has gone on: charged, so recorded, and not counted.
    let (second, payload) = site.update(&mut client, &task).await.unwrap();
    assert_eq!(submit(&mut client, &second, &payload).await.unwrap(), UpdateOutcome::Late);
    assert_eq!(submit(&mut client, &second, &payload).await.unwrap(), UpdateOutcome::Duplicate);
    let claims = federation.store.claims(id).await.unwrap();
    let claims: Vec<_> = claims.into_iter().map(|claim| claim.read().unwrap()).collect();
    let own = claims.iter().find(|claim| claim.site.as_str() == "b").unwrap();
    assert_eq!(own.events.len(), 2);
    federation.stop().await;
}

/// A receipt speaks of its own update, is signed with the key that the site enrolled with, and says what the plan says.
async fn refuse_altered_receipts(
    client: &mut FederationClient<Channel>,
    header: &UpdateHeader,
    payload: &[u8],
) {
    let mut unsigned = header.clone();
    unsigned.receipt.receipt.study_charges += 1;
    let mut foreign = header.clone();
    foreign.receipt = header.receipt.receipt.clone().signed(&LedgerKey::from_seed([4; 32]));
    let cases = [
        (unsigned, "the receipt was altered"),
        (foreign, "the receipt was altered"),
        (restated(header, |receipt| receipt.site = "c".parse().unwrap()), "receipt: site"),
        (restated(header, |receipt| receipt.model_digest = Digest::of(b"x")), "receipt: model_digest"),
        (restated(header, |receipt| receipt.delta = Delta::new(1e-3).unwrap()), "receipt: delta"),
        (restated(header, |receipt| receipt.imputer = ImputerSpec::None {}), "receipt: imputer"),
    ];
    for (altered, said) in cases {
        let refused = submit(client, &altered, payload).await.unwrap_err();
        assert_eq!(kind(&refused), ProblemType::MalformedMessage, "{said}");
        assert!(refused.message().contains(said), "{said}: {refused:?}");
    }
}

/// What the mirror is told must be what the hash was made of, and what the task was about.
async fn refuse_altered_entries(
    client: &mut FederationClient<Channel>,
    header: &UpdateHeader,
    payload: &[u8],
) {
    let true_entry = header.receipt.receipt.charges[0].entry.clone();
    let changes = [
        ("\"time_ms\":1000", "\"time_ms\":1001", "does not match its own hash"),
        ("\"unit\":\"id\"", "\"unit\":\"visit\"", "does not match its own hash"),
    ];
    for (from, to, said) in changes {
        let text = true_entry.canonical_json();
        assert_eq!(text.matches(from).count(), 1, "{text}");
        let altered: LedgerEntry = serde_json::from_str(&text.replace(from, to)).unwrap();
        let header = restated(header, |receipt| receipt.charges[0].entry = altered);
        let refused = submit(client, &header, payload).await.unwrap_err();
        assert_eq!(kind(&refused), ProblemType::MalformedMessage);
        assert!(refused.message().contains(said), "{refused:?}");
    }
    let charge = true_entry.charge().clone();
    let changes = [
        ("local_step", ChargeRequest { local_step: 2, ..charge.clone() }),
        ("model_digest", ChargeRequest { model_digest: Digest::of(b"another model"), ..charge.clone() }),
        // What pays for a public sum pays for no private one.
        (
            "no charge; nothing noised leaves without one",
            ChargeRequest { released: fusiondp_dp::Released::PublicSum, ..charge.clone() },
        ),
        ("protects", ChargeRequest { protects: fusiondp_dp::Protection::WholeRecords, ..charge.clone() }),
        ("clip_norm", ChargeRequest { clip_norm: fusiondp_dp::ClipNorm::new(0.001).unwrap(), ..charge }),
    ];
    for (field, charge) in changes {
        let refused = submit(client, &charged(header, charge).await, payload).await.unwrap_err();
        assert_eq!(kind(&refused), ProblemType::MalformedMessage);
        assert!(refused.message().contains(field), "{refused:?}");
    }
}

/// The header with one charge, the first of a ledger that verifies.
async fn charged(header: &UpdateHeader, charge: ChargeRequest) -> UpdateHeader {
    let mut ledger = Ledger::open(Vec::new()).unwrap();
    let committed = ledger.charge(vec![charge], &mut Nowhere).await.unwrap();
    restated(header, |receipt| {
        receipt.charges =
            committed.iter().map(|charge| ledger_key().sign_entry(charge.entry().clone())).collect();
        receipt.ledger_head = ledger.head();
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_charge_is_in_the_next_receipt_and_counts() {
    let folder = tempfile::tempdir().unwrap();
    let (mut federation, mut client, mut site, task) = by_hand(folder.path()).await;
    // Charged, then the update was lost with a crash; the round is computed anew.
    site.update(&mut client, &task).await.unwrap();
    let (header, payload) = site.update(&mut client, &task).await.unwrap();
    assert_eq!(submit(&mut client, &header, &payload).await.unwrap(), UpdateOutcome::Accepted);
    let id = task.plan.study_id.clone();
    federation.rejoin(site);
    let status = federation.wait_end(&id).await;
    assert_eq!(status.state, StudyState::Finished, "{}", status.detail);
    let claims = federation.store.claims(&id).await.unwrap();
    let claims: Vec<_> = claims.into_iter().map(|claim| claim.read().unwrap()).collect();
    let of = |name: &str| claims.iter().find(|claim| claim.site.as_str() == name).unwrap();
    assert_eq!((of("b").events.len(), of("a").events.len()), (7, 6));
    assert!(of("b").complete && of("b").unreported == 0, "{:?}", of("b"));
    // Its own figure counts the lost charge, so it is above the other site's.
    let figure = |name: &str| {
        let site = status.sites.iter().find(|site| site.site_id.as_str() == name).unwrap();
        site.epsilon_replace.get()
    };
    assert!(figure("b") > figure("a"), "{} {}", figure("b"), figure("a"));
    federation.stop().await;
}
