//! A running coordinator: the gRPC services over any stream of connections, and the supervisor of studies.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use fusiondp_proto::v1::administration_server::AdministrationServer;
use fusiondp_proto::v1::federation_server::FederationServer;
use fusiondp_protocol::receipt::MAX_RECEIPT_BYTES;
use fusiondp_protocol::study::MAX_STUDY_BYTES;
use fusiondp_protocol::{Limits, SiteId};
use fusiondp_runtime::tls::{Authority, CONNECTION_WINDOW_BYTES, PeerStream, STREAM_WINDOW_BYTES};
use fusiondp_runtime::{Clock, Shutdown};
use futures::Stream;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;
use tonic::transport::Server;
use tonic::transport::server::Router;

use crate::error::CoordinatorError;
use crate::grpc::{AdministrationService, FederationService};
use crate::shared::Core;
use crate::store::Store;
use crate::study::supervisor::supervise;

/// Room for the fields around the largest `bytes` field of a message.
const MESSAGE_OVERHEAD: usize = 256 << 10;

/// Between two pings of the server, also on an idle connection.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(20);

/// For the answer to a ping, after which the connection counts as lost.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// Calls of one connection that are worked on at a time; a site needs three.
const MAX_CALLS: usize = 32;

/// How long open calls may go on after a shutdown began. Long polls are answered at once.
const GRACE: Duration = Duration::from_secs(5);

/// Everything about a coordinator that is not state.
#[derive(Debug, Clone)]
pub struct CoordinatorSettings {
    /// Who may take part.
    pub consortium: Consortium,
    /// What the coordinator is willing to take on one connection.
    pub limits: Limits,
    /// Which studies are taken.
    pub submissions: Submissions,
    /// Checks what sites state about their ledgers' keys. `None` within one process, where nobody has a certificate: statements
    /// are refused there, and none is missed.
    pub authority: Option<Authority>,
}

/// The allow-list: a valid certificate of a site that is not on it gets nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consortium {
    /// Name, for people.
    pub name: String,
    /// Members.
    pub sites: BTreeSet<SiteId>,
}

/// Which studies are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Submissions {
    /// Those that protect patients and pin their imputer.
    Deployed,
    /// Also those that only a simulation may run: `non-private`, and imputers that are not pinned.
    Simulation,
}

/// Starts coordinators.
#[derive(Debug)]
pub struct Coordinator;

/// A coordinator at work. Dropping it ends it at once, in whatever phase; the store knows where to go on.
pub struct RunningCoordinator {
    server: JoinHandle<Result<(), tonic::transport::Error>>,
    supervisor: JoinHandle<()>,
    shutdown: Shutdown,
}

impl Coordinator {
    /// Serves both gRPC services over `incoming` and drives the stored studies, until `shutdown` is triggered.
    ///
    /// `incoming` may come from a TLS listener or from memory; the identity of each peer is that of its connection.
    /// Must be called within a tokio runtime.
    pub fn start<I, C>(
        settings: CoordinatorSettings,
        store: Store,
        incoming: I,
        shutdown: Shutdown,
        clock: Arc<dyn Clock>,
    ) -> RunningCoordinator
    where
        I: Stream<Item = io::Result<PeerStream<C>>> + Send + 'static,
        C: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        // Ends with the caller's token, and alone when the coordinator is dropped.
        let shutdown = shutdown.child();
        let core = Arc::new(Core::new(settings, store, shutdown.clone(), clock));
        let end = shutdown.clone();
        let serving = services(&core).serve_with_incoming_shutdown(incoming, async move { end.wait().await });
        RunningCoordinator {
            server: tokio::spawn(serving),
            supervisor: tokio::spawn(supervise(core)),
            shutdown,
        }
    }
}

/// Both services with their limits.
fn services(core: &Arc<Core>) -> Router {
    let message = message_limit(&core.settings.limits);
    let federation = FederationServer::new(FederationService::new(core.clone()))
        .max_decoding_message_size(message)
        .max_encoding_message_size(message);
    let administration = AdministrationServer::new(AdministrationService::new(core.clone()))
        .max_decoding_message_size(message)
        .max_encoding_message_size(usize::MAX);
    Server::builder()
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_keepalive_interval(Some(KEEP_ALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEP_ALIVE_TIMEOUT))
        .concurrency_limit_per_connection(MAX_CALLS)
        .tcp_nodelay(true)
        .add_service(federation)
        .add_service(administration)
}

fn message_limit(limits: &Limits) -> usize {
    MAX_STUDY_BYTES.max(limits.max_chunk_bytes as usize).max(MAX_RECEIPT_BYTES) + MESSAGE_OVERHEAD
}

impl RunningCoordinator {
    /// The token that ends it.
    pub fn shutdown(&self) -> &Shutdown {
        &self.shutdown
    }

    /// Waits until the coordinator has ended. After a shutdown, open calls get a moment to end.
    ///
    /// # Errors
    /// If serving failed, or the supervisor of studies broke down.
    pub async fn finished(mut self) -> Result<(), CoordinatorError> {
        // The supervisor ends before a shutdown only by a panic, without which no study would go on.
        let supervised = tokio::select! {
            served = &mut self.server => return Ok(served??),
            ended = &mut self.supervisor => { ended?; true }
            () = self.shutdown.wait() => false,
        };
        match tokio::time::timeout(GRACE, &mut self.server).await {
            Ok(served) => served??,
            Err(_) => tracing::info!("open calls are cut off"),
        }
        if !supervised {
            (&mut self.supervisor).await?;
        }
        Ok(())
    }
}

impl Drop for RunningCoordinator {
    fn drop(&mut self) {
        // Long polls end, and with them the tasks of their connections.
        self.shutdown.trigger();
        self.server.abort();
        self.supervisor.abort();
    }
}
