//! Reading one update, and every check of it that needs no store.

use fusiondp_dp::{Ledger, LedgerEntry};
use fusiondp_proto::v1;
use fusiondp_protocol::chunks::{Assembler, decode_f32};
use fusiondp_protocol::{LedgerMirror, Limits, Plan, ProblemType, UpdateHeader, UpdatePart};
use tokio_stream::StreamExt as _;
use tonic::Streaming;

use super::errors::ApiError;
use crate::store::StudySiteRow;
use crate::study::StudyContext;

/// Reads the header, which every stream begins with.
pub(super) async fn read_header(stream: &mut Streaming<v1::UpdateChunk>) -> Result<UpdateHeader, ApiError> {
    match next_part(stream).await? {
        Some(UpdatePart::Header(header)) => Ok(*header),
        _ => Err(malformed("the stream does not begin with an update header; send it first")),
    }
}

/// Reads the values that follow the header, of the announced length and digest.
pub(super) async fn read_payload(
    stream: &mut Streaming<v1::UpdateChunk>,
    header: &UpdateHeader,
    limits: Limits,
) -> Result<Vec<u8>, ApiError> {
    let announced = header.payload_bytes();
    let mut payload =
        Assembler::new(announced, limits.max_model_bytes, limits.max_chunk_bytes, header.payload_digest)?;
    while let Some(part) = next_part(stream).await? {
        match part {
            UpdatePart::Data(data) => payload.push(&data)?,
            UpdatePart::Header(_) => {
                return Err(malformed("the stream has a second header; send one update"));
            }
        }
    }
    Ok(payload.finish()?)
}

async fn next_part(stream: &mut Streaming<v1::UpdateChunk>) -> Result<Option<UpdatePart>, ApiError> {
    match stream.next().await {
        None => Ok(None),
        Some(Ok(chunk)) => Ok(Some(UpdatePart::try_from(chunk)?)),
        Some(Err(status)) => Err(ApiError::Stream(status)),
    }
}

/// Checks the header against the study: the shape of the model's parts and the charges the plan demands.
pub(super) fn check_header(
    context: &StudyContext,
    plan: &Plan,
    enrolled: &StudySiteRow,
    header: &UpdateHeader,
) -> Result<(), ApiError> {
    if header.round > plan.rounds {
        return Err(malformed(format!(
            "round {} of a plan of {}; drop the update",
            header.round, plan.rounds
        )));
    }
    check_size(enrolled, header)?;
    let private_part = plan.is_private_round(header.round);
    let (public, private) = context.update_shape(private_part);
    length("public_values", header.public_values, public)?;
    length("private_values", header.private_values, private)?;
    match (&header.ledger, private_part) {
        (Some(ledger), true) => check_ledger(context, plan, header, ledger),
        (None, false) => Ok(()),
        (Some(_), false) => Err(malformed("a warm-up round has no charge; send no ledger entries")),
        (None, true) => Err(malformed("a private round has charges; send the ledger entries of the update")),
    }
}

/// Checks that every value of the public part is a number.
pub(super) fn check_public_values(header: &UpdateHeader, payload: &[u8]) -> Result<(), ApiError> {
    let end =
        usize::try_from(header.public_values).unwrap_or(usize::MAX).saturating_mul(4).min(payload.len());
    decode_f32(&payload[..end])?;
    Ok(())
}

/// Units and records are what the plan was made from; records are a weight, so more of them would be more influence.
fn check_size(enrolled: &StudySiteRow, header: &UpdateHeader) -> Result<(), ApiError> {
    if header.units != enrolled.units {
        let detail = format!(
            "update counts {} units, enrolled with {}; the data must not change during a study",
            header.units, enrolled.units
        );
        return Err(malformed(detail));
    }
    if header.records > enrolled.records {
        let detail = format!(
            "update weighs {} records, enrolled with {}; send the records of the training data",
            header.records, enrolled.records
        );
        return Err(malformed(detail));
    }
    Ok(())
}

/// Every step of the round is charged, as the plan says, in one unbroken piece of the chain.
fn check_ledger(
    context: &StudyContext,
    plan: &Plan,
    header: &UpdateHeader,
    ledger: &LedgerMirror,
) -> Result<(), ApiError> {
    let entries = &ledger.entries;
    if entries.len() != plan.local_steps as usize {
        let detail = format!(
            "{} ledger entries for {} steps; charge every step once",
            entries.len(),
            plan.local_steps
        );
        return Err(malformed(detail));
    }
    for (step, entry) in (1..).zip(entries) {
        check_entry(context, plan, header, (step, entry))?;
    }
    if let Err(broken) = Ledger::verify_piece(entries) {
        return Err(malformed(format!(
            "the ledger entries are no piece of a chain: {broken}; run `fusiondp-site ledger verify`"
        )));
    }
    if entries.last().is_none_or(|last| last.hash() != ledger.head) {
        return Err(malformed(
            "`head` is not the hash of the last ledger entry; send the head after the charges",
        ));
    }
    if entries.iter().any(|entry| entry.charge().data_set != entries[0].charge().data_set) {
        return Err(malformed(
            "the ledger entries of one update are of several data sets; send one update for each",
        ));
    }
    Ok(())
}

fn check_entry(
    context: &StudyContext,
    plan: &Plan,
    header: &UpdateHeader,
    (step, entry): (u32, &LedgerEntry),
) -> Result<(), ApiError> {
    let charge = entry.charge();
    let wrong = [
        ("study", charge.study != context.id().as_str()),
        ("study_digest", charge.study_digest != context.digest()),
        ("round", charge.round != header.round),
        ("local_step", charge.local_step != step),
        ("event", Some(charge.event) != plan.step_event()),
        ("clip_norm", charge.clip_norm != plan.clip_norm),
        ("units", charge.units != header.units),
        ("update_id", charge.update_id != header.update_id),
    ];
    match wrong.iter().find(|(_, wrong)| *wrong) {
        None => Ok(()),
        Some((field, _)) => Err(malformed(format!(
            "ledger entry {}: {field} is not that of the update and the plan; compare the versions of both ends",
            entry.sequence()
        ))),
    }
}

fn length(field: &str, found: u64, expected: usize) -> Result<(), ApiError> {
    if found == expected as u64 {
        return Ok(());
    }
    Err(malformed(format!("{field} is {found}, the model and the round need {expected}; send exactly these")))
}

fn malformed(detail: impl AsRef<str>) -> ApiError {
    ApiError::problem(ProblemType::MalformedMessage, detail)
}
