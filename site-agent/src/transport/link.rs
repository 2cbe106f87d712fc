//! One registered connection and its calls.

use std::time::Duration;

use bytes::Bytes;
use fusiondp_dp::Digest;
use fusiondp_proto::v1;
use fusiondp_proto::v1::federation_client::FederationClient;
use fusiondp_protocol::PROTOCOL_VERSION;
use fusiondp_protocol::chunks::{Assembler, decode_f32, split};
use fusiondp_protocol::ids::StudyId;
use fusiondp_protocol::key_statement::SignedKeyStatement;
use fusiondp_protocol::messages::{
    Assignment, Decline, Enrolment, EvaluationReport, Limits, ModelHeader, ModelPart, ModelRequest, Poll,
    Registered, Registration, UpdateHeader, UpdateOutcome, UpdatePart,
};
use fusiondp_protocol::receipt::MAX_RECEIPT_BYTES;
use tokio_stream::StreamExt;
use tonic::transport::Channel;

use super::{Connector, TransportError};

/// Version of this software, as registered.
pub const AGENT_VERSION: &str = env!("CARGO_PKG_VERSION");

/// Longest wait for an answer, and for the next message of a stream. A coordinator that is alive answers in milliseconds;
/// one that hangs is left, so that its sites come back to the one that replaces it.
const PATIENCE: Duration = Duration::from_secs(60);

/// Slowest transfer that is waited for, in bytes per second.
const SLOWEST_BYTES_PER_S: u64 = 16 << 10;

/// Room in a message around one chunk: for a study document, and for the header of an update with its receipt.
const MESSAGE_OVERHEAD_BYTES: usize = MAX_RECEIPT_BYTES + (64 << 10);

/// A connection on which the site is registered.
pub struct Link {
    client: FederationClient<Channel>,
    registered: Registered,
}

/// A model to fetch, and what it must be.
#[derive(Debug, Clone)]
pub struct WantedModel {
    /// The study.
    pub study: StudyId,
    /// The version.
    pub version: u64,
    /// Digest of its parameter bytes, from the task.
    pub digest: Digest,
    /// Numbers of values that it may have: P parameters, and in studies that project also the directions.
    pub values: Vec<usize>,
}

impl Link {
    /// Connects and registers, with what the site states about its ledger's key, if it has to say anything.
    ///
    /// # Errors
    /// No connection, another protocol version, or a refusal in the coordinator's words.
    pub async fn open(
        connector: &dyn Connector,
        limits: Limits,
        key_statement: Option<SignedKeyStatement>,
    ) -> Result<Self, TransportError> {
        let channel = connector.connect().await?;
        let message_bytes = limits.max_chunk_bytes as usize + MESSAGE_OVERHEAD_BYTES;
        let mut client = FederationClient::new(channel)
            .max_decoding_message_size(message_bytes)
            .max_encoding_message_size(message_bytes);
        let registration = Registration {
            protocol_version: PROTOCOL_VERSION,
            agent_version: AGENT_VERSION.to_owned(),
            limits,
            key_statement: key_statement.map(Box::new),
        };
        let answer = within(PATIENCE, client.register(v1::RegisterRequest::from(registration))).await?;
        let mut registered = Registered::try_from(answer.into_inner())?;
        // What the coordinator grants may narrow what this site takes, never widen it.
        registered.limits = registered.limits.negotiate(limits);
        if registered.protocol_version != PROTOCOL_VERSION {
            return Err(TransportError::Version {
                theirs: registered.protocol_version,
                ours: PROTOCOL_VERSION,
            });
        }
        Ok(Self { client, registered })
    }

    /// What the coordinator answered to the registration.
    pub fn registered(&self) -> &Registered {
        &self.registered
    }

    /// Waits up to `wait_ms` for work.
    ///
    /// # Errors
    /// [`TransportError`].
    pub async fn next_assignment(&mut self, wait_ms: u32) -> Result<Assignment, TransportError> {
        let call = self.client.next_assignment(v1::NextAssignmentRequest::from(Poll { wait_ms }));
        let answer = within(PATIENCE + Duration::from_millis(wait_ms.into()), call).await?;
        Ok(answer.into_inner().try_into()?)
    }

    /// Joins a study.
    ///
    /// # Errors
    /// [`TransportError`].
    pub async fn enrol(&mut self, enrolment: Enrolment) -> Result<(), TransportError> {
        within(PATIENCE, self.client.enrol(v1::EnrolRequest::from(enrolment))).await?;
        Ok(())
    }

    /// Answers an assignment with a refusal or failure.
    ///
    /// # Errors
    /// [`TransportError`].
    pub async fn decline(&mut self, decline: Decline) -> Result<(), TransportError> {
        within(PATIENCE, self.client.decline(v1::DeclineRequest::from(decline))).await?;
        Ok(())
    }

    /// Sends metrics.
    ///
    /// # Errors
    /// [`TransportError`].
    pub async fn submit_evaluation(&mut self, report: EvaluationReport) -> Result<(), TransportError> {
        within(PATIENCE, self.client.submit_evaluation(v1::EvaluationReport::from(report))).await?;
        Ok(())
    }

    /// Fetches the values of a model version, all finite.
    ///
    /// # Errors
    /// The stream breaks, is longer than announced or allowed, or is not the model that the task names.
    pub async fn fetch_model(&mut self, wanted: &WantedModel) -> Result<Vec<f32>, TransportError> {
        let request = ModelRequest { study_id: wanted.study.clone(), model_version: wanted.version };
        let call = self.client.fetch_model(v1::FetchModelRequest::from(request));
        let mut stream = within(PATIENCE, call).await?.into_inner();
        let header = match within(PATIENCE, stream.message()).await?.map(ModelPart::try_from).transpose()? {
            Some(ModelPart::Header(header)) => header,
            _ => return Err(TransportError::ModelStream { problem: "does not begin with a header" }),
        };
        let Limits { max_chunk_bytes, max_model_bytes } = self.registered.limits;
        check_header(&header, wanted)?;
        let mut parts =
            Assembler::new(header.payload_bytes(), max_model_bytes, max_chunk_bytes, wanted.digest)?;
        while let Some(part) = within(PATIENCE, stream.message()).await? {
            match ModelPart::try_from(part)? {
                ModelPart::Data(data) => parts.push(&data)?,
                ModelPart::Header(_) => {
                    return Err(TransportError::ModelStream { problem: "has a second header" });
                }
            }
        }
        Ok(decode_f32(&parts.finish()?)?)
    }

    /// Sends an update.
    ///
    /// # Errors
    /// It is larger than the connection allows, or [`TransportError`].
    pub async fn submit_update(
        &mut self,
        header: UpdateHeader,
        payload: Bytes,
    ) -> Result<UpdateOutcome, TransportError> {
        let limits = self.registered.limits;
        let bytes = payload.len() as u64;
        if bytes > limits.max_model_bytes {
            return Err(TransportError::TooLarge { bytes, limits });
        }
        let header = v1::UpdateChunk::from(UpdatePart::Header(Box::new(header)));
        let data = split(payload, limits.max_chunk_bytes as usize);
        let data = data.map(|data| v1::UpdateChunk::from(UpdatePart::Data(data)));
        let parts = tokio_stream::once(header).chain(tokio_stream::iter(data));
        let patience = PATIENCE + Duration::from_secs(bytes / SLOWEST_BYTES_PER_S);
        let receipt = within(patience, self.client.submit_update(parts)).await?;
        Ok(receipt.into_inner().try_into()?)
    }
}

/// The answer to a call, unless it takes longer than `patience`.
async fn within<T>(
    patience: Duration,
    call: impl Future<Output = Result<T, tonic::Status>>,
) -> Result<T, TransportError> {
    match tokio::time::timeout(patience, call).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(TransportError::Silent { after: patience }),
    }
}

fn check_header(header: &ModelHeader, wanted: &WantedModel) -> Result<(), TransportError> {
    if header.model_version != wanted.version || header.digest != wanted.digest {
        return Err(TransportError::ModelStream { problem: "is of another version than the task names" });
    }
    if !wanted.values.iter().any(|&values| header.parameters == values as u64) {
        return Err(TransportError::ModelStream {
            problem: "has another number of values than the study's model",
        });
    }
    Ok(())
}
