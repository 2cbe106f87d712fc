#![allow(clippy::unwrap_used)]
mod hostile;

use std::fmt::Debug;

use bytes::Bytes;
use fusiondp_dp::{Digest, Epsilon, UpdateId};
use fusiondp_proto::v1;
use proptest::prelude::*;
use prost::Message;

use super::*;
use crate::ids::{CohortName, SiteId, StudyId};
use crate::messages::*;
use crate::plan::Plan;
use crate::problem::{Problem, ProblemType};
use crate::receipt::Receipt;
use crate::testing::{document, key_statement, ledger_key, plan, receipt};

/// Through the wire's bytes and back.
fn travels<D, W>(domain: D)
where
    D: Clone + PartialEq + Debug + TryFrom<W, Error = ConvertError>,
    W: From<D> + Message + Default,
{
    let bytes = W::from(domain.clone()).encode_to_vec();
    assert_eq!(D::try_from(W::decode(&bytes[..]).unwrap()).unwrap(), domain);
}

fn study_id() -> StudyId {
    document(&[]).id().clone()
}

fn registration() -> Registration {
    Registration {
        protocol_version: 1,
        agent_version: "0.1.0".to_owned(),
        limits: Limits::default(),
        key_statement: Some(Box::new(key_statement())),
    }
}

fn registered() -> Registered {
    Registered {
        protocol_version: 1,
        site_id: SiteId::new("site-0").unwrap(),
        consortium: "Two hospitals".to_owned(),
        limits: Limits::default(),
        server_time_ms: 1,
        newest_entry: Some(receipt(&base_plan(), 0, 1).charges.remove(0)),
    }
}

fn enrolment() -> Enrolment {
    Enrolment {
        study_id: study_id(),
        study_digest: Digest::of(b"s"),
        units: 10,
        records: 20,
        ledger_head: Digest::of(b"l"),
        ledger_key: ledger_key().public(),
    }
}

fn task() -> TrainingTask {
    TrainingTask {
        plan: base_plan(),
        round: 3,
        model_version: 2,
        model_digest: Digest::of(b"m"),
        attempt: 1,
        private_part: true,
        deadline_ms: 5,
    }
}

fn update() -> UpdateHeader {
    UpdateHeader {
        update_id: UpdateId::from_bytes([7; 16]),
        study_id: study_id(),
        round: 3,
        attempt: 1,
        model_version: 2,
        public_values: 100,
        private_values: 40,
        units: 10,
        records: 20,
        payload_digest: Digest::of(b"p"),
        public_loss: 0.5,
        receipt: receipt(&base_plan(), 2, 3).signed(&ledger_key()),
    }
}

/// A receipt of a warm-up round, made once: many cases ask for it.
fn base_receipt() -> Receipt {
    static BASE: std::sync::LazyLock<Receipt> = std::sync::LazyLock::new(|| receipt(&base_plan(), 0, 0));
    BASE.clone()
}

fn evaluation_task() -> EvaluationTask {
    EvaluationTask {
        study_id: study_id(),
        study_digest: Digest::of(b"s"),
        model_version: 3,
        model_digest: Digest::of(b"m"),
        cohort: CohortName::new("val").unwrap(),
        deadline_ms: 9,
    }
}

fn report() -> EvaluationReport {
    let mut counts = vec![0; HISTOGRAM_BINS];
    counts[7] = 3;
    EvaluationReport {
        study_id: study_id(),
        model_version: 3,
        cohort: CohortName::new("val").unwrap(),
        metrics: ReleasedMetrics::Summary(MetricSummary {
            records: 6,
            positives: 3,
            brier: 0.1,
            log_loss: 0.2,
            positive_counts: counts.clone(),
            negative_counts: counts,
        }),
    }
}

fn noisy_report() -> EvaluationReport {
    let counts = vec![3 << 28, -5, NoisyCounts::MAX_COUNT, -NoisyCounts::MAX_COUNT];
    let charge = receipt(&base_plan(), 0, 1).charges.remove(0);
    EvaluationReport {
        metrics: ReleasedMetrics::Noisy(Box::new(NoisyCounts { units: 40, counts, charge })),
        ..report()
    }
}

fn decline(task: DeclinedTask, kind: DeclineKind) -> Decline {
    let problem = Problem::new(ProblemType::BudgetExceeded, "epsilon 2 is above the budget of 1");
    Decline { study_id: study_id(), task, kind, problem }
}

fn site_status() -> SiteStatus {
    SiteStatus {
        site_id: SiteId::new("site-0").unwrap(),
        state: SiteState::Working,
        detail: String::new(),
        rounds_contributed: 3,
        rounds_missed: 1,
        units: 1000,
        epsilon_replace: Epsilon::new(0.4).unwrap(),
        epsilon_zero_out: Epsilon::ZERO,
        last_seen_ms: None,
    }
}

fn metric(site_id: Option<SiteId>) -> Metric {
    let cohort = CohortName::new("val").unwrap();
    let figures = match &site_id {
        None => MetricFigures::Exact { aupr: 0.7, brier: 0.1 },
        Some(_) => MetricFigures::Noisy { auroc_error: 0.02 },
    };
    Metric { round: 3, cohort, site_id, records: 10, positives: 2, auroc: 0.9, figures }
}

fn status() -> StudyStatus {
    StudyStatus {
        study_id: study_id(),
        name: "small".to_owned(),
        state: StudyState::Running,
        detail: "waiting for site-1".to_owned(),
        phase: Some(RoundPhase::Reporting),
        round: 3,
        rounds: 10,
        plan: Some(base_plan()),
        sites: vec![site_status()],
        metrics: vec![metric(None), metric(Some(SiteId::new("site-0").unwrap()))],
        submitted_ms: 1,
        started_ms: Some(2),
        ended_ms: None,
        public_loss: 0.4,
        rounds_per_s: 2.5,
    }
}

fn registered_site() -> RegisteredSite {
    RegisteredSite {
        site_id: SiteId::new("site-0").unwrap(),
        connected: true,
        agent_version: "0.1.0".to_owned(),
        last_seen_ms: Some(7),
        peer_address: "127.0.0.1:40000".to_owned(),
    }
}

#[test]
fn every_message_survives_the_wire() {
    travels::<_, v1::RegisterRequest>(registration());
    travels::<_, v1::RegisterRequest>(Registration { key_statement: None, ..registration() });
    travels::<_, v1::RegisterResponse>(registered());
    travels::<_, v1::NextAssignmentRequest>(Poll { wait_ms: MAX_POLL_WAIT_MS });
    travels::<_, v1::Assignment>(Assignment::Idle);
    travels::<_, v1::Assignment>(Assignment::Enrolment(EnrolmentOffer::new(&document(&[]), 9)));
    travels::<_, v1::Assignment>(Assignment::Training(task()));
    travels::<_, v1::Assignment>(Assignment::Evaluation(evaluation_task()));
    travels::<_, v1::EnrolRequest>(enrolment());
    travels::<_, v1::Plan>(base_plan());
    travels::<_, v1::FetchModelRequest>(ModelRequest { study_id: study_id(), model_version: 4 });
    let header = ModelHeader { model_version: 4, parameters: 12, digest: Digest::of(b"m") };
    travels::<_, v1::ModelChunk>(ModelPart::Header(header));
    travels::<_, v1::ModelChunk>(ModelPart::Data(Bytes::from_static(b"data")));
    travels::<_, v1::UpdateChunk>(UpdatePart::Header(Box::new(update())));
    travels::<_, v1::UpdateChunk>(UpdatePart::Data(Bytes::from_static(b"data")));
    for outcome in [UpdateOutcome::Accepted, UpdateOutcome::Duplicate, UpdateOutcome::Late] {
        travels::<_, v1::UpdateReceipt>(outcome);
    }
    travels::<_, v1::EvaluationReport>(report());
    travels::<_, v1::EvaluationReport>(noisy_report());
    travels::<_, v1::DeclineRequest>(decline(DeclinedTask::Enrolment, DeclineKind::Refusal));
    let training = DeclinedTask::Training { round: 3, attempt: 2 };
    travels::<_, v1::DeclineRequest>(decline(training, DeclineKind::Failure));
    let evaluation = DeclinedTask::Evaluation { model_version: 8 };
    travels::<_, v1::DeclineRequest>(decline(evaluation, DeclineKind::Failure));
}

#[test]
fn every_administrative_message_survives_the_wire() {
    travels::<_, v1::SubmitStudyResponse>(SubmittedStudy { study_id: study_id(), created: true });
    travels::<_, v1::StudyStatus>(status());
    travels::<_, v1::StudyStatus>(StudyStatus { phase: None, plan: None, started_ms: None, ..status() });
    travels::<_, v1::RegisteredSite>(registered_site());
    travels::<_, v1::ExportChunk>(ExportPart { file: "model.onnx".to_owned(), data: Bytes::new() });
    for &state in StudyState::ALL {
        travels::<_, v1::StudyStatus>(StudyStatus { state, ..status() });
    }
    for &state in SiteState::ALL {
        travels::<_, v1::SiteStatus>(SiteStatus { state, ..site_status() });
    }
    let sites = v1::ListSitesResponse { sites: vec![registered_site().into()] };
    assert_eq!(listed_sites(sites).unwrap(), [registered_site()]);
    let studies = v1::ListStudiesResponse { studies: vec![status().into()] };
    assert_eq!(listed_studies(studies).unwrap(), [status()]);
}

#[test]
fn details_of_any_shape_are_sent_as_one_line() {
    let detail = format!("caused by:\n\t{}", "x".repeat(5000));
    let wire = v1::StudyStatus::from(StudyStatus { detail: detail.clone(), ..status() });
    assert!(StudyStatus::try_from(wire).unwrap().detail.starts_with("caused by:  xxx"));
    let problem = Problem { kind: ProblemType::DataError, detail };
    let declined = Decline { problem, ..decline(DeclinedTask::Enrolment, DeclineKind::Failure) };
    let received = Decline::try_from(v1::DeclineRequest::from(declined)).unwrap();
    assert_eq!(received.problem.detail.chars().count(), 1024);
}

#[test]
fn an_offer_is_read_by_the_site() {
    let document = document(&[]);
    let offer = EnrolmentOffer::new(&document, 9);
    assert_eq!(offer.document().unwrap(), document);
    let other = EnrolmentOffer { study_id: StudyId::new("other").unwrap(), ..offer.clone() };
    assert!(matches!(other.document(), Err(crate::study::StudyError::WrongId { .. })));
}

#[test]
fn limits_negotiate_to_the_smaller_of_both() {
    let small = Limits { max_chunk_bytes: 8192, max_model_bytes: 1 << 34 };
    let agreed = Limits { max_chunk_bytes: 8192, ..Limits::default() };
    assert_eq!(small.negotiate(Limits::default()), agreed);
    assert_eq!(Limits::default().negotiate(small), agreed);
}

prop_compose! {
    fn any_update()(
        id in any::<[u8; 16]>(), study in "[a-z0-9][a-z0-9-]{0,62}", round in 1u32..=100_000, attempt in 1u32..,
        version in any::<u64>(), public in 0u64..=4 << 30, units in 1u64..1 << 32, records in 0u64..1 << 32,
        loss in 0.0f64..1e6, digest in any::<[u8; 32]>(),
    ) -> UpdateHeader {
        let receipt = Receipt {
            update_id: UpdateId::from_bytes(id), study: StudyId::new(study).unwrap(), round, attempt,
            model_version: version, public_values: public, private_values: 0,
            payload_digest: Digest::from_bytes(digest), ..base_receipt()
        };
        UpdateHeader {
            update_id: receipt.update_id, study_id: receipt.study.clone(), round, attempt, model_version: version,
            public_values: public, private_values: 0, units, records, payload_digest: receipt.payload_digest,
            public_loss: loss, receipt: receipt.signed(&ledger_key()),
        }
    }
}

proptest! {
    #[test]
    fn updates_survive_the_wire(update in any_update()) {
        travels::<_, v1::UpdateHeader>(update);
    }

    #[test]
    fn plans_survive_the_wire_bit_by_bit(
        q in 1e-12f64..=1.0, noise in 1e-3f64..1e6, clip in 1e-6f64..1e6, delta in 1e-12f64..0.1, cost in 0.0f64..1e4,
        rounds in 3u32..=100_000, units in 1u64..1 << 31,
    ) {
        let plan = Plan {
            sampling_probability: q.try_into().unwrap(), noise_multiplier: Some(noise.try_into().unwrap()),
            clip_norm: clip.try_into().unwrap(), delta: delta.try_into().unwrap(), rounds,
            epsilon_replace: Epsilon::new(cost).unwrap(), total_units: units, total_records: 2 * units, ..base_plan()
        };
        travels::<_, v1::Plan>(plan.clone());
        let wire = v1::Plan::from(plan.clone());
        prop_assert_eq!(Plan::try_from(wire).unwrap().digest(), plan.digest());
    }
}

/// Derived once: every derivation asks the accountant.
fn base_plan() -> Plan {
    static PLAN: std::sync::OnceLock<Plan> = std::sync::OnceLock::new();
    PLAN.get_or_init(plan).clone()
}

fn base_update() -> UpdateHeader {
    static UPDATE: std::sync::OnceLock<UpdateHeader> = std::sync::OnceLock::new();
    UPDATE.get_or_init(update).clone()
}
