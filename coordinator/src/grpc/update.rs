//! Reading one update, and every check of it that needs no store.

use fusiondp_dp::{Digest, LedgerEntry, verify_piece};
use fusiondp_proto::v1;
use fusiondp_protocol::chunks::Assembler;
use fusiondp_protocol::{LedgerMirror, Limits, Plan, ProblemType, UpdateHeader, UpdatePart};
use tokio_stream::StreamExt as _;
use tonic::Streaming;

use super::errors::ApiError;
use crate::store::StudySiteRow;
use crate::study::StudyContext;

/// Largest magnitude of a public value. Far above any gradient, and its square is far below the largest f32.
const MAX_PUBLIC_VALUE: f32 = 1e12;

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

/// What an update must agree with.
pub(super) struct Expected<'a> {
    pub(super) context: &'a StudyContext,
    pub(super) plan: &'a Plan,
    /// The site as it has enrolled.
    pub(super) enrolled: &'a StudySiteRow,
    /// Of the model version that the update names, while that is kept: a late update may be older.
    pub(super) model_digest: Option<Digest>,
}

/// Checks the header against the study: the shape of the model's parts and the charges the plan demands.
pub(super) fn check_header(expected: &Expected<'_>, header: &UpdateHeader) -> Result<(), ApiError> {
    let Expected { context, plan, enrolled, .. } = expected;
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
        (Some(ledger), true) => check_ledger(expected, header, ledger),
        (None, false) => Ok(()),
        (Some(_), false) => Err(malformed("a warm-up round has no charge; send no ledger entries")),
        (None, true) => Err(malformed("a private round has charges; send the ledger entries of the update")),
    }
}

/// Checks that every value of the public part is a number of a size that a server step can work with. Says of which
/// value that is not so, and never the value.
pub(super) fn check_public_values(
    plan: &Plan,
    header: &UpdateHeader,
    payload: &[u8],
) -> Result<(), ApiError> {
    let values = usize::try_from(header.public_values).unwrap_or(usize::MAX);
    let (words, _) = payload.as_chunks::<4>();
    let usable = |word: &[u8; 4]| f32::from_le_bytes(*word).abs() <= MAX_PUBLIC_VALUE;
    let Some(index) = words.iter().take(values).position(|word| !usable(word)) else { return Ok(()) };
    let part = if plan.local_steps > 1 { "model difference" } else { "public gradient" };
    let problem = match f32::from_le_bytes(words[index]).is_finite() {
        true => "too large for any step",
        false => "not finite",
    };
    Err(malformed(format!(
        "value {index} of the {part} is {problem}; the sender must withhold such an update"
    )))
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
    expected: &Expected<'_>,
    header: &UpdateHeader,
    ledger: &LedgerMirror,
) -> Result<(), ApiError> {
    let (plan, entries) = (expected.plan, &ledger.entries);
    if entries.len() != plan.local_steps as usize {
        let detail = format!(
            "{} ledger entries for {} steps; charge every step once",
            entries.len(),
            plan.local_steps
        );
        return Err(malformed(detail));
    }
    verify_piece(entries).map_err(|error| malformed(format!("the update's ledger entries: {error}")))?;
    if entries.last().is_none_or(|last| last.hash() != ledger.head) {
        return Err(malformed("the ledger entries do not end in `head`; verify the ledger"));
    }
    let data_set = entries.first().map(|first| first.charge().data_set);
    if entries.iter().any(|entry| Some(entry.charge().data_set) != data_set) {
        return Err(malformed("the ledger entries charge several data sets; a study trains on one"));
    }
    (1..).zip(entries).try_for_each(|(step, entry)| check_entry(expected, header, step, entry))
}

fn check_entry(
    expected: &Expected<'_>,
    header: &UpdateHeader,
    step: u32,
    entry: &LedgerEntry,
) -> Result<(), ApiError> {
    let Expected { context, plan, model_digest, .. } = expected;
    let charge = entry.charge();
    let wrong = [
        ("study", charge.study != context.id().as_str()),
        ("study_digest", charge.study_digest != context.digest()),
        ("round", charge.round != header.round),
        ("local_step", charge.local_step != step),
        ("model_digest", model_digest.is_some_and(|digest| charge.model_digest != digest)),
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
