//! Reading one update, and every check of it that needs no store.

use fusiondp_dp::{ChargeRequest, Digest, LedgerEntry, Protection};
use fusiondp_proto::v1;
use fusiondp_protocol::chunks::Assembler;
use fusiondp_protocol::plan::PlannedRelease;
use fusiondp_protocol::{Limits, Plan, ProblemType, UpdateHeader, UpdatePart};
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
    check_receipt(expected, header)
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

/// The receipt stands under the key that the site enrolled with, speaks of what the plan says, and every step of the round is
/// charged once, as the plan says.
fn check_receipt(expected: &Expected<'_>, header: &UpdateHeader) -> Result<(), ApiError> {
    let Expected { context, plan, enrolled, model_digest } = expected;
    let key = enrolled.ledger_key.ok_or_else(|| malformed("the site has enrolled without a ledger key"))?;
    header.receipt.verify(&key).map_err(|error| malformed(format!("the update's receipt: {error}")))?;
    let receipt = &header.receipt.receipt;
    let wrong = [
        ("site", receipt.site != enrolled.site),
        ("study_digest", receipt.study_digest != context.digest()),
        ("model_digest", model_digest.is_some_and(|digest| receipt.model_digest != digest)),
        ("imputer", receipt.imputer != context.study().imputer),
        ("delta", receipt.delta != plan.delta),
        (
            "epsilon_records",
            receipt.epsilon_records.is_some() != (context.protects() == Protection::WholeRecords),
        ),
    ];
    if let Some((field, _)) = wrong.iter().find(|(_, wrong)| *wrong) {
        let detail = format!("receipt: {field} is not that of the plan; compare the versions of both ends");
        return Err(malformed(detail));
    }
    let releases = plan.releases(header.round);
    let (own, due) = (receipt.own_charges().len(), releases.len() * plan.local_steps as usize);
    if own != due {
        return Err(malformed(format!("{own} ledger entries for {due} noised sums; charge every sum once")));
    }
    let earlier = receipt.charges.len() - own;
    let kinds = plan.kinds();
    for charge in &receipt.charges[..earlier] {
        let released = &charge.entry.charge().released;
        check_terms(expected, header, &charge.entry, kinds.iter().find(|kind| kind.released == *released))?;
    }
    let steps = (1..=plan.local_steps).flat_map(|step| releases.iter().map(move |release| (step, release)));
    steps.zip(receipt.own_charges()).try_for_each(|((step, release), charge)| {
        check_terms(expected, header, &charge.entry, Some(release))?;
        check_own(header, step, &charge.entry)
    })
}

/// Charges of a study are those of its plan, also of an update that never arrived.
fn check_terms(
    expected: &Expected<'_>,
    header: &UpdateHeader,
    entry: &LedgerEntry,
    planned: Option<&PlannedRelease>,
) -> Result<(), ApiError> {
    let charge = entry.charge();
    let differs =
        |of: fn(&PlannedRelease, &ChargeRequest) -> bool| planned.is_none_or(|plan| of(plan, charge));
    agree(
        entry,
        &[
            ("released", differs(|plan, charge| plan.released != charge.released)),
            ("event", differs(|plan, charge| plan.event != charge.event)),
            ("clip_norm", differs(|plan, charge| plan.clip_norm != charge.clip_norm)),
            ("protects", charge.protects != expected.context.protects()),
            ("units", charge.units != header.units),
        ],
    )
}

fn check_own(header: &UpdateHeader, step: u32, entry: &LedgerEntry) -> Result<(), ApiError> {
    let charge = entry.charge();
    agree(
        entry,
        &[
            ("round", charge.round != header.round),
            ("local_step", charge.local_step != step),
            ("model_digest", charge.model_digest != header.receipt.receipt.model_digest),
        ],
    )
}

fn agree(entry: &LedgerEntry, wrong: &[(&str, bool)]) -> Result<(), ApiError> {
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

pub(super) fn malformed(detail: impl AsRef<str>) -> ApiError {
    ApiError::problem(ProblemType::MalformedMessage, detail)
}
