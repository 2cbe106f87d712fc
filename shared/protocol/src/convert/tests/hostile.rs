//! Messages that no honest peer sends.

use bytes::Bytes;
use fusiondp_dp::Digest;
use fusiondp_proto::v1;
use proptest::prelude::*;
use prost::Message;

use super::*;

/// Asserts that the changed message is refused with an error that names the field.
fn refused<D, W>(domain: &D, field: &str, change: impl FnOnce(&mut W))
where
    D: Clone + Debug + TryFrom<W, Error = ConvertError>,
    W: From<D>,
{
    let mut wire = W::from(domain.clone());
    change(&mut wire);
    let error = D::try_from(wire).unwrap_err();
    assert!(error.to_string().starts_with(field), "{field}: {error}");
    let problem = Problem::from(error);
    assert!(matches!(problem.kind, ProblemType::MalformedMessage | ProblemType::TooLarge), "{problem}");
}

#[test]
fn hostile_offers_are_refused() {
    let offer = EnrolmentOffer::new(&document(&[]), 9);
    refused(&offer, "EnrolmentOffer.study_digest", |wire: &mut v1::EnrolmentOffer| {
        wire.study_toml = Bytes::from_static(b"other");
    });
    refused(&offer, "EnrolmentOffer.study_toml", |wire: &mut v1::EnrolmentOffer| {
        wire.study_toml = Bytes::from(vec![b' '; (1 << 20) + 1]);
    });
}

#[test]
fn hostile_registrations_are_refused() {
    let request = registration();
    refused(&request, "RegisterRequest.limits", |wire: &mut v1::RegisterRequest| wire.limits = None);
    refused(&request, "RegisterRequest.agent_version", |wire: &mut v1::RegisterRequest| {
        wire.agent_version = "x".repeat(65);
    });
    refused(&request, "RegisterRequest.agent_version", |wire: &mut v1::RegisterRequest| {
        wire.agent_version = "1.0\nERROR forged log line".to_owned();
    });
    let spaced = key_statement().canonical_json().replacen(':', ": ", 1);
    let mut long = key_statement();
    long.certificate.scheme = "x".repeat(32 << 10);
    for statement in ["{}".to_owned(), spaced, long.canonical_json()] {
        refused(&request, "RegisterRequest.key_statement", |wire: &mut v1::RegisterRequest| {
            wire.key_statement = statement.into();
        });
    }
    for (chunk, model, field) in [
        (4095, 1, "Limits.max_chunk_bytes"),
        ((1 << 20) + 1, 1, "Limits.max_chunk_bytes"),
        (4096, 0, "Limits.max_model_bytes"),
        (4096, u64::MAX, "Limits.max_model_bytes"),
    ] {
        refused(&Limits::default(), field, |wire: &mut v1::Limits| {
            *wire = v1::Limits { max_chunk_bytes: chunk, max_model_bytes: model };
        });
    }
    refused(&registered(), "RegisterResponse.site_id", |wire: &mut v1::RegisterResponse| {
        wire.site_id = "../site".to_owned();
    });
    for entry in [Bytes::from_static(b"{}"), Bytes::from(vec![b' '; (16 << 10) + 1])] {
        refused(&registered(), "RegisterResponse.newest_entry", |wire: &mut v1::RegisterResponse| {
            wire.newest_entry = entry;
        });
    }
    refused(&Poll { wait_ms: 0 }, "NextAssignmentRequest.wait_ms", |wire: &mut v1::NextAssignmentRequest| {
        wire.wait_ms = 60_001;
    });
    assert!(matches!(Assignment::try_from(v1::Assignment { work: None }), Err(ConvertError::Missing { .. })));
}

#[test]
fn hostile_enrolments_are_refused() {
    let enrolment = enrolment();
    for (units, records, field) in [
        (0, 0, "EnrolRequest.units"),
        (u64::MAX, u64::MAX, "EnrolRequest.units"),
        (10, 9, "EnrolRequest.records"),
        (10, u64::MAX, "EnrolRequest.records"),
    ] {
        refused(&enrolment, field, |wire: &mut v1::EnrolRequest| {
            (wire.units, wire.records) = (units, records);
        });
    }
    for length in [0, 31, 33, 1 << 20] {
        refused(&enrolment, "EnrolRequest.ledger_head", |wire: &mut v1::EnrolRequest| {
            wire.ledger_head = Bytes::from(vec![1; length]);
        });
        refused(&enrolment, "EnrolRequest.ledger_key", |wire: &mut v1::EnrolRequest| {
            wire.ledger_key = Bytes::from(vec![1; length]);
        });
    }
}

type Change<W> = fn(&mut W);

#[test]
fn hostile_plans_are_refused() {
    let changes: [(&str, Change<v1::Plan>); 20] = [
        ("Plan.study_id", |plan| plan.study_id = "A".to_owned()),
        ("Plan.study_digest", |plan| plan.study_digest = Bytes::from_static(&[0; 31])),
        ("Plan.sampling_probability", |plan| plan.sampling_probability = 0.0),
        ("Plan.sampling_probability", |plan| plan.sampling_probability = f64::NAN),
        ("Plan.sampling_probability", |plan| plan.sampling_probability = 1.0000001),
        ("Plan.noise_multiplier", |plan| plan.noise_multiplier = 0.0),
        ("Plan.noise_multiplier", |plan| plan.noise_multiplier = -1.0),
        ("Plan.noise_multiplier", |plan| plan.noise_multiplier = f64::INFINITY),
        ("Plan.noise_multiplier", |plan| plan.warmup_rounds = plan.rounds),
        ("Plan.clip_norm", |plan| plan.clip_norm = f64::NAN),
        ("Plan.rounds", |plan| plan.rounds = 0),
        ("Plan.rounds", |plan| plan.rounds = u32::MAX),
        ("Plan.warmup_rounds", |plan| plan.warmup_rounds = plan.rounds + 1),
        ("Plan.local_steps", |plan| plan.local_steps = 0),
        ("Plan.total_units", |plan| plan.total_units = 0),
        ("Plan.total_records", |plan| plan.total_records = plan.total_units - 1),
        ("Plan.delta", |plan| plan.delta = 0.0),
        ("Plan.epsilon_replace", |plan| plan.epsilon_replace = f64::NAN),
        ("Plan.epsilon_replace", |plan| plan.epsilon_replace = f64::INFINITY),
        ("Plan.epsilon_zero_out", |plan| plan.epsilon_zero_out = -0.5),
    ];
    for (field, change) in changes {
        refused(&base_plan(), field, change);
    }
}

#[test]
fn hostile_tasks_are_refused() {
    let changes: [(&str, Change<v1::TrainingTask>); 7] = [
        ("TrainingTask.plan", |task| task.plan = None),
        ("TrainingTask.round", |task| task.round = 0),
        ("TrainingTask.round", |task| task.round = 11),
        ("TrainingTask.private_part", |task| task.private_part = false),
        ("TrainingTask.private_part", |task| task.round = 2),
        ("TrainingTask.attempt", |task| task.attempt = 0),
        ("TrainingTask.model_digest", |task| task.model_digest = Bytes::new()),
    ];
    for (field, change) in changes {
        refused(&task(), field, change);
    }
    let header = ModelHeader { model_version: 4, parameters: 12, digest: Digest::of(b"m") };
    for parameters in [0, (4 << 30) + 1, u64::MAX] {
        refused(&header, "ModelHeader.parameters", |wire: &mut v1::ModelHeader| wire.parameters = parameters);
    }
    let data = ModelPart::Data(Bytes::from_static(b"data"));
    refused(&data, "ModelChunk.part", |wire: &mut v1::ModelChunk| wire.part = None);
    refused(&data, "ModelChunk.data", |wire: &mut v1::ModelChunk| {
        wire.part = Some(v1::model_chunk::Part::Data(Bytes::from(vec![0; (1 << 20) + 1])));
    });
}

#[test]
fn hostile_updates_are_refused() {
    let changes: [(&str, Change<v1::UpdateHeader>); 20] = [
        ("UpdateHeader.update_id", |update| update.update_id = Bytes::from_static(&[0; 15])),
        ("UpdateHeader.study_id", |update| update.study_id.clear()),
        ("UpdateHeader.round", |update| update.round = 0),
        ("UpdateHeader.attempt", |update| update.attempt = 0),
        ("UpdateHeader.public_values", |update| update.public_values = u64::MAX),
        ("UpdateHeader.private_values", |update| update.private_values = u64::MAX),
        ("UpdateHeader.units", |update| update.units = 0),
        ("UpdateHeader.public_loss", |update| update.public_loss = f64::NAN),
        ("UpdateHeader.receipt", |update| update.receipt = Bytes::new()),
        ("UpdateHeader.receipt", |update| update.receipt = Bytes::from(vec![b'['; 1 << 20])),
        ("UpdateHeader.receipt", |update| update.receipt = Bytes::from(vec![b' '; (2 << 20) + 1])),
        ("UpdateHeader.receipt", |update| update.round += 1),
        ("UpdateHeader.receipt", |update| update.attempt += 1),
        ("UpdateHeader.receipt", |update| update.private_values += 1),
        ("UpdateHeader.receipt", |update| update.public_values += 1),
        ("UpdateHeader.receipt", |update| update.model_version += 1),
        ("UpdateHeader.receipt", |update| update.study_id = "another".to_owned()),
        ("UpdateHeader.receipt", |update| update.update_id = Bytes::from(vec![1; 16])),
        ("UpdateHeader.receipt", |update| update.payload_digest = Bytes::from(vec![1; 32])),
        ("UpdateHeader.payload_digest", |update| update.payload_digest = Bytes::from_static(b"short")),
    ];
    for (field, change) in changes {
        refused(&update(), field, change);
    }
    refused(&UpdateOutcome::Late, "UpdateReceipt.outcome", |wire: &mut v1::UpdateReceipt| wire.outcome = 99);
}

#[test]
fn a_receipt_in_another_form_than_was_signed_is_refused() {
    let edits: [(&str, &str, &str); 3] = [
        // The same receipt, but not the bytes that the site has signed.
        ("UpdateHeader.receipt", "{", " {"),
        ("UpdateHeader.receipt", "{", "{\"extra\":1,"),
        ("UpdateHeader.receipt.epsilon", "\"data_replace\":1.3", "\"data_replace\":\"infinity\""),
    ];
    for (field, from, to) in edits {
        refused(&update(), field, |wire: &mut v1::UpdateHeader| {
            let text = std::str::from_utf8(&wire.receipt).unwrap();
            assert!(text.contains(from), "{text}");
            wire.receipt = Bytes::from(text.replacen(from, to, 1));
        });
    }
    let mut many = update();
    let charge = many.receipt.receipt.charges[0].clone();
    many.receipt.receipt.charges = vec![charge; 1_501];
    refused(&many, "UpdateHeader.receipt.charges", |_: &mut v1::UpdateHeader| {});
}

#[test]
fn hostile_evaluations_are_refused() {
    let changes: [(&str, Change<v1::EvaluationReport>); 9] = [
        ("EvaluationReport.records", |report| report.records = 0),
        ("EvaluationReport.positives", |report| report.positives = 7),
        ("EvaluationReport.positive_counts", |report| report.positive_counts.truncate(4095)),
        ("EvaluationReport.positive_counts", |report| report.positive_counts[0] = 1),
        ("EvaluationReport.negative_counts", |report| report.negative_counts[0] = u64::MAX),
        ("EvaluationReport.negative_counts", |report| report.negative_counts.push(0)),
        ("EvaluationReport.brier", |report| report.brier = 1.5),
        ("EvaluationReport.log_loss", |report| report.log_loss = f64::INFINITY),
        ("EvaluationReport.cohort", |report| report.cohort = "a/b".to_owned()),
    ];
    for (field, change) in changes {
        refused(&report(), field, change);
    }
    hostile_counts_are_refused();
    refused(&evaluation_task(), "EvaluationTask.model_digest", |wire: &mut v1::EvaluationTask| {
        wire.model_digest = Bytes::from(vec![0; 64]);
    });
}

fn hostile_counts_are_refused() {
    let changes: [(&str, Change<v1::EvaluationReport>); 14] = [
        ("EvaluationReport.noisy_charge", |report| report.noisy_charge = Bytes::from(vec![b' '; 20_000])),
        ("EvaluationReport.noisy_charge", |report| report.noisy_charge = Bytes::from_static(b"{}")),
        ("EvaluationReport.noisy_charge", |report| {
            report.noisy_charge = Bytes::from([&report.noisy_charge[..], b" "].concat());
        }),
        ("EvaluationReport.noisy_charge", |report| report.noisy_charge.clear()),
        ("EvaluationReport.noisy_units", |report| report.noisy_units = 0),
        ("EvaluationReport.noisy_counts", |report| report.noisy_counts.truncate(3)),
        ("EvaluationReport.noisy_counts", |report| report.noisy_counts = vec![0; 129]),
        ("EvaluationReport.noisy_counts", |report| report.noisy_counts[0] = i64::MIN),
        // An exact figure beside the noisy ones.
        ("EvaluationReport.noisy_counts", |report| report.records = 1),
        ("EvaluationReport.noisy_counts", |report| report.positives = 1),
        ("EvaluationReport.noisy_counts", |report| report.brier = f64::NAN),
        ("EvaluationReport.noisy_counts", |report| report.log_loss = 0.1),
        ("EvaluationReport.noisy_counts", |report| report.positive_counts.push(1)),
        ("EvaluationReport.noisy_counts", |report| report.negative_counts.push(0)),
    ];
    for (field, change) in changes {
        refused(&noisy_report(), field, change);
    }
    let unpaid: Change<v1::EvaluationReport> = |report| report.noisy_units = 4;
    refused(&report(), "EvaluationReport.noisy_charge", unpaid);
}

#[test]
fn hostile_declines_are_refused() {
    let changes: [(&str, Change<v1::DeclineRequest>); 7] = [
        ("DeclineRequest.kind", |decline| decline.kind = 0),
        ("DeclineRequest.stage", |decline| decline.stage = 17),
        ("DeclineRequest.round", |decline| decline.round = 0),
        ("DeclineRequest.attempt", |decline| decline.attempt = 0),
        ("DeclineRequest.problem", |decline| decline.problem = "whatever".to_owned()),
        ("DeclineRequest.detail", |decline| decline.detail = "x".repeat(1025)),
        ("DeclineRequest.detail", |decline| decline.detail = "x".repeat(1 << 20)),
    ];
    let training = DeclinedTask::Training { round: 3, attempt: 2 };
    for (field, change) in changes {
        refused(&decline(training, DeclineKind::Refusal), field, change);
    }
}

#[test]
fn hostile_statuses_are_refused() {
    let changes: [(&str, Change<v1::StudyStatus>); 8] = [
        ("StudyStatus.state", |status| status.state = "dancing".to_owned()),
        ("StudyStatus.phase", |status| status.phase = "dancing".to_owned()),
        ("StudyStatus.round", |status| status.round = 11),
        ("StudyStatus.public_loss", |status| status.public_loss = f64::NAN),
        ("StudyStatus.metrics", |status| status.metrics = vec![v1::Metric::default(); 100_001]),
        ("SiteStatus.state", |status| status.sites[0].state.clear()),
        ("Metric.auroc", |status| status.metrics[0].auroc = f64::NAN),
        ("Metric.auroc_error", |status| {
            (status.metrics[0].noisy, status.metrics[0].auroc_error) = (true, -0.1);
        }),
    ];
    for (field, change) in changes {
        refused(&status(), field, change);
    }
}

#[test]
fn exported_files_stay_in_their_folder() {
    let part = ExportPart { file: "report.html".to_owned(), data: Bytes::new() };
    for name in ["", ".", "..", ".ssh", "a/b", "..\\x", "/etc/passwd", "a\0b", "é", &"x".repeat(129)] {
        refused(&part, "ExportChunk.file", |wire: &mut v1::ExportChunk| wire.file = name.to_owned());
    }
}

/// Bytes that decode either convert, and then travel, or are refused; nothing panics.
fn converts_or_is_refused<D, W>(bytes: &[u8])
where
    D: Clone + PartialEq + Debug + TryFrom<W, Error = ConvertError>,
    W: From<D> + Message + Default,
{
    if let Ok(wire) = W::decode(bytes)
        && let Ok(domain) = D::try_from(wire)
    {
        travels::<D, W>(domain);
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_convert_or_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        converts_or_is_refused::<Assignment, v1::Assignment>(&bytes);
        converts_or_is_refused::<UpdatePart, v1::UpdateChunk>(&bytes);
        converts_or_is_refused::<Decline, v1::DeclineRequest>(&bytes);
        converts_or_is_refused::<Plan, v1::Plan>(&bytes);
    }

    #[test]
    fn a_flipped_bit_converts_or_is_refused(place in 0usize..4000, bit in 0u8..8) {
        let mut bytes = v1::UpdateHeader::from(base_update()).encode_to_vec();
        let place = place % bytes.len();
        bytes[place] ^= 1 << bit;
        converts_or_is_refused::<UpdateHeader, v1::UpdateHeader>(&bytes);
    }
}
