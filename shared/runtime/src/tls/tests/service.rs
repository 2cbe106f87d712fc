//! The federation service, cut down to a `Register` that tells callers who they are.

use std::net::SocketAddr;

use fusiondp_proto::v1::federation_client::FederationClient;
use fusiondp_proto::v1::federation_server::{Federation, FederationServer};
use fusiondp_proto::v1::{
    Assignment, DeclineRequest, DeclineResponse, EnrolRequest, EnrolResponse, EvaluationReceipt,
    EvaluationReport, FetchModelRequest, ModelChunk, NextAssignmentRequest, RegisterRequest,
    RegisterResponse, UpdateChunk, UpdateReceipt,
};
use futures::Stream;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;
use tonic::transport::server::Connected;
use tonic::transport::{Channel, Server};
use tonic::{Request, Response, Status, Streaming};

use crate::shutdown::Shutdown;
use crate::tls::{PeerConnection, TlsFiles, TlsServer, peer_connection, peer_identity};

struct WhoAmI;

#[tonic::async_trait]
impl Federation for WhoAmI {
    type FetchModelStream = futures::stream::Empty<Result<ModelChunk, Status>>;

    async fn register(
        &self,
        request: Request<RegisterRequest>,
    ) -> Result<Response<RegisterResponse>, Status> {
        let identity = peer_identity(&request).ok_or_else(|| Status::unauthenticated("no identity"))?;
        let address = peer_connection(&request).map(|connection| connection.address.to_string());
        Ok(Response::new(RegisterResponse {
            site_id: identity.to_string(),
            consortium: address.unwrap_or_default(),
            ..RegisterResponse::default()
        }))
    }

    async fn next_assignment(
        &self,
        _: Request<NextAssignmentRequest>,
    ) -> Result<Response<Assignment>, Status> {
        Err(Status::unimplemented("not part of the test"))
    }

    async fn enrol(&self, _: Request<EnrolRequest>) -> Result<Response<EnrolResponse>, Status> {
        Err(Status::unimplemented("not part of the test"))
    }

    async fn fetch_model(
        &self,
        _: Request<FetchModelRequest>,
    ) -> Result<Response<Self::FetchModelStream>, Status> {
        Err(Status::unimplemented("not part of the test"))
    }

    async fn submit_update(
        &self,
        _: Request<Streaming<UpdateChunk>>,
    ) -> Result<Response<UpdateReceipt>, Status> {
        Err(Status::unimplemented("not part of the test"))
    }

    async fn submit_evaluation(
        &self,
        _: Request<EvaluationReport>,
    ) -> Result<Response<EvaluationReceipt>, Status> {
        Err(Status::unimplemented("not part of the test"))
    }

    async fn decline(&self, _: Request<DeclineRequest>) -> Result<Response<DeclineResponse>, Status> {
        Err(Status::unimplemented("not part of the test"))
    }
}

/// A running server; ends when told or dropped.
pub(super) struct Running {
    pub(super) address: SocketAddr,
    shutdown: Shutdown,
    task: JoinHandle<()>,
}

impl Running {
    pub(super) fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    pub(super) async fn stop(mut self) {
        self.shutdown.trigger();
        (&mut self.task).await.unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Serves over TLS on a free port of the loopback interface, or on a given one.
pub(super) async fn serve(files: &TlsFiles, address: &str) -> Running {
    let listener = TlsServer::new(files).unwrap().bind(address).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (shutdown, task) = serve_over(listener.into_incoming());
    Running { address, shutdown, task }
}

/// Serves over any stream of connections.
pub(super) fn serve_over<I, C>(incoming: I) -> (Shutdown, JoinHandle<()>)
where
    I: Stream<Item = std::io::Result<C>> + Send + 'static,
    C: AsyncRead + AsyncWrite + Connected<ConnectInfo = PeerConnection> + Unpin + Send + 'static,
{
    let shutdown = Shutdown::new();
    let signal = shutdown.clone();
    let task = tokio::spawn(async move {
        let router = Server::builder().add_service(FederationServer::new(WhoAmI));
        router.serve_with_incoming_shutdown(incoming, async move { signal.wait().await }).await.unwrap();
    });
    (shutdown, task)
}

/// Asks the server who is calling: (identity, address).
pub(super) async fn who_am_i(channel: &Channel) -> Result<(String, String), Status> {
    let answer =
        FederationClient::new(channel.clone()).register(RegisterRequest::default()).await?.into_inner();
    Ok((answer.site_id, answer.consortium))
}
