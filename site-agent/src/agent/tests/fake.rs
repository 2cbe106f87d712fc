//! A coordinator for tests: hands out a script of assignments, each until it is answered, and keeps the answers.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use fusiondp_dp::{Digest, SignedEntry};
use fusiondp_proto::v1;
use fusiondp_proto::v1::federation_server::{Federation, FederationServer};
use fusiondp_protocol::SignedKeyStatement;
use fusiondp_protocol::chunks::split;
use fusiondp_protocol::messages::{
    Assignment, Decline, Enrolment, EvaluationReport, Limits, ModelHeader, ModelPart, Registered,
    Registration, UpdateHeader, UpdateOutcome, UpdatePart,
};
use fusiondp_protocol::problem::{Problem, ProblemType};
use fusiondp_runtime::identity::{PeerIdentity, Role};
use fusiondp_runtime::shutdown::Shutdown;
use fusiondp_runtime::tls::memory_transport;
use tokio_stream::StreamExt;
use tonic::{Request, Response, Status, Streaming};

use crate::transport::InProcess;

/// What happens to the next update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The connection breaks before anything is stored.
    Lost,
    /// The update is stored, and the connection breaks before the site hears of it.
    Unheard,
    /// The coordinator says that it never asked for the update.
    Unknown,
}

#[derive(Default)]
pub(super) struct Kept {
    pub(super) script: VecDeque<Assignment>,
    pub(super) faults: VecDeque<Fault>,
    pub(super) model: Vec<u8>,
    /// What the site has stated about its key, by registration.
    pub(super) statements: Vec<Option<SignedKeyStatement>>,
    /// Shown to the site when it registers.
    pub(super) newest_entry: Option<SignedEntry>,
    pub(super) updates: Vec<(UpdateHeader, Bytes)>,
    pub(super) enrolments: Vec<Enrolment>,
    pub(super) reports: Vec<EvaluationReport>,
    pub(super) declines: Vec<Decline>,
}

#[derive(Clone, Default)]
pub(super) struct Fake(Arc<Mutex<Kept>>);

impl Fake {
    pub(super) fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap()
    }

    pub(super) fn hand_out(&self, assignments: impl IntoIterator<Item = Assignment>) {
        self.kept().script.extend(assignments);
    }

    /// Serves until the token is triggered, and gives the site's way to it.
    pub(super) fn serve(&self, shutdown: &Shutdown) -> InProcess {
        let (listener, connector) = memory_transport();
        let (service, token) = (FederationServer::new(self.clone()), shutdown.clone());
        tokio::spawn(async move {
            let server = tonic::transport::Server::builder().add_service(service);
            server.serve_with_incoming_shutdown(listener, async move { token.wait().await }).await
        });
        InProcess { connector, identity: PeerIdentity::declared("here", Role::Site).unwrap() }
    }

    /// Waits until the whole script is answered.
    pub(super) async fn done(&self) {
        let answered = async {
            while !self.kept().script.is_empty() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), answered).await.expect("the script is answered");
    }

    fn answered(&self) {
        self.kept().script.pop_front();
    }
}

type Chunks = std::pin::Pin<Box<dyn tokio_stream::Stream<Item = Result<v1::ModelChunk, Status>> + Send>>;

#[tonic::async_trait]
impl Federation for Fake {
    type FetchModelStream = Chunks;

    async fn register(
        &self,
        request: Request<v1::RegisterRequest>,
    ) -> Result<Response<v1::RegisterResponse>, Status> {
        let registration = Registration::try_from(request.into_inner())?;
        self.kept().statements.push(registration.key_statement.map(|signed| *signed));
        let registered = Registered {
            protocol_version: 1,
            site_id: "here".parse().unwrap(),
            consortium: "test".to_owned(),
            limits: Limits { max_chunk_bytes: Limits::MIN_CHUNK_BYTES, ..Limits::default() },
            server_time_ms: 0,
            newest_entry: self.kept().newest_entry.clone(),
        };
        Ok(Response::new(registered.into()))
    }

    async fn next_assignment(
        &self,
        _: Request<v1::NextAssignmentRequest>,
    ) -> Result<Response<v1::Assignment>, Status> {
        let next = self.kept().script.front().cloned();
        if next.is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(Response::new(next.unwrap_or(Assignment::Idle).into()))
    }

    async fn enrol(&self, request: Request<v1::EnrolRequest>) -> Result<Response<v1::EnrolResponse>, Status> {
        let enrolment = Enrolment::try_from(request.into_inner())?;
        self.kept().enrolments.push(enrolment);
        self.answered();
        Ok(Response::new(v1::EnrolResponse {}))
    }

    async fn fetch_model(&self, request: Request<v1::FetchModelRequest>) -> Result<Response<Chunks>, Status> {
        let bytes = Bytes::from(self.kept().model.clone());
        let header = ModelHeader {
            model_version: request.into_inner().model_version,
            parameters: bytes.len() as u64 / 4,
            digest: Digest::of(&bytes),
        };
        let data = split(bytes, Limits::MIN_CHUNK_BYTES as usize).map(ModelPart::Data);
        let parts = std::iter::once(ModelPart::Header(header)).chain(data).map(|part| Ok(part.into()));
        Ok(Response::new(Box::pin(tokio_stream::iter(parts.collect::<Vec<_>>()))))
    }

    async fn submit_update(
        &self,
        request: Request<Streaming<v1::UpdateChunk>>,
    ) -> Result<Response<v1::UpdateReceipt>, Status> {
        let mut parts = request.into_inner();
        let (mut header, mut payload) = (None, Vec::new());
        while let Some(part) = parts.next().await {
            match UpdatePart::try_from(part?)? {
                UpdatePart::Header(first) => header = Some(*first),
                UpdatePart::Data(data) => payload.extend(data),
            }
        }
        let header = header.expect("an update begins with its header");
        assert_eq!(Digest::of(&payload), header.payload_digest);
        let fault = self.kept().faults.pop_front();
        if fault == Some(Fault::Lost) {
            return Err(Status::unavailable("the test breaks the connection"));
        }
        if fault == Some(Fault::Unknown) {
            return Err(Problem::new(ProblemType::StaleTask, "the test knows no such attempt").into());
        }
        let known = self.kept().updates.iter().any(|(other, _)| other.update_id == header.update_id);
        self.kept().updates.push((header, payload.into()));
        if fault == Some(Fault::Unheard) {
            return Err(Status::unavailable("the test breaks the connection"));
        }
        self.answered();
        let outcome = if known { UpdateOutcome::Duplicate } else { UpdateOutcome::Accepted };
        Ok(Response::new(outcome.into()))
    }

    async fn submit_evaluation(
        &self,
        request: Request<v1::EvaluationReport>,
    ) -> Result<Response<v1::EvaluationReceipt>, Status> {
        let report = EvaluationReport::try_from(request.into_inner())?;
        self.kept().reports.push(report);
        if self.kept().faults.pop_front() == Some(Fault::Unheard) {
            return Err(Status::unavailable("the test breaks the connection"));
        }
        self.answered();
        Ok(Response::new(v1::EvaluationReceipt {}))
    }

    async fn decline(
        &self,
        request: Request<v1::DeclineRequest>,
    ) -> Result<Response<v1::DeclineResponse>, Status> {
        let decline = Decline::try_from(request.into_inner())?;
        self.kept().declines.push(decline);
        self.answered();
        Ok(Response::new(v1::DeclineResponse {}))
    }
}
