//! Accepts connections of the consortium's members and hands them to gRPC.
//!
//! Handshakes run beside each other with a time limit, and one source has a limited number of them under way, so a slow
//! or hostile client at one address does not keep a member at another from connecting. Clients at many addresses together
//! can: limit who reaches the port with a firewall. A failed handshake is one warning in the log, with the peer's address
//! and a plain reason, and never ends the server.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use rustls::ServerConfig;
use rustls::server::NoServerSessionStorage;
use rustls::version::TLS13;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::admission::{Admission, Crowded, MAX_FROM_SOURCE, Turn};
use super::files::provider;
use super::verifier::{MemberVerifier, member};
use super::{ALPN_HTTP2, PeerAddress, PeerConnection, PeerStream, TlsFiles, TlsFilesError, reason};
use crate::identity::{PeerIdentity, Role};

/// Time a client has for its handshake, from its first byte on.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Time until that byte.
const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(3);

/// Connections accepted and not yet taken by the gRPC server.
const ACCEPTED_BACKLOG: usize = 64;

/// Wait after a failed `accept`, which most often means that file descriptors have run out.
const ACCEPT_RETRY: Duration = Duration::from_millis(200);

/// How long a refused client may take to read its alert.
const LINGER: Duration = Duration::from_secs(1);

/// Refused clients that are waited for at once; others may miss their alert.
const MAX_LINGERING: usize = 64;

/// A member's connection.
pub type TlsConnection = PeerStream<TlsStream<TcpStream>>;

/// Why a port could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody else has it.
    #[error(
        "{address} is in use by another program; stop it (is a coordinator running already?) or change `listen`"
    )]
    Busy {
        /// As configured.
        address: String,
    },
    /// Anything else.
    #[error(
        "cannot listen on {address}: {source}; `listen` must be an IP address of this machine and a free port"
    )]
    Failed {
        /// As configured.
        address: String,
        /// Why.
        source: io::Error,
    },
}

/// Why a client was not admitted.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// Too slow.
    #[error("the handshake took longer than {} s", HANDSHAKE_TIMEOUT.as_secs())]
    TimedOut,
    /// Connected and said nothing.
    #[error("the client sent nothing for {} s", FIRST_BYTE_TIMEOUT.as_secs())]
    Silent,
    /// Left in the middle: a port scan, a health probe, a lost network.
    #[error("the client closed the connection during the handshake")]
    Closed,
    /// Refused, or left because it refused this server.
    #[error("{reason}")]
    Refused {
        /// In plain words.
        reason: String,
        /// The library's error.
        source: rustls::Error,
    },
    /// The connection broke.
    #[error("the connection broke during the handshake: {0}")]
    Broken(#[source] io::Error),
}

impl HandshakeError {
    fn from_io(error: io::Error) -> Self {
        match reason::tls_error(&error) {
            Some(tls) => Self::Refused { reason: reason::of_client(tls), source: tls.clone() },
            None if error.kind() == io::ErrorKind::UnexpectedEof => Self::Closed,
            None => Self::Broken(error),
        }
    }
}

/// TLS 1.3 with a certificate required from each client.
#[derive(Clone)]
pub struct TlsServer {
    acceptor: TlsAcceptor,
    identity: PeerIdentity,
}

impl std::fmt::Debug for TlsServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsServer").field("identity", &self.identity).finish_non_exhaustive()
    }
}

impl TlsServer {
    /// Loads the coordinator's files.
    ///
    /// # Errors
    /// [`TlsFilesError`], also for a certificate of another role.
    pub fn new(files: &TlsFiles) -> Result<Self, TlsFilesError> {
        let credentials = files.load_as(Role::Coordinator)?;
        let identity = credentials.identity().clone();
        let unusable = |source| TlsFilesError::Unusable { path: files.certificate.clone(), source };
        let verifier = MemberVerifier::new(credentials.roots()).map_err(unusable)?;
        let (chain, key) = credentials.into_chain_and_key();
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .map_err(unusable)?
            .with_client_cert_verifier(Arc::new(verifier))
            .with_single_cert(chain, key)
            .map_err(unusable)?;
        config.alpn_protocols = vec![ALPN_HTTP2.to_vec()];
        // A resumed session would skip the check of the certificate.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)), identity })
    }

    /// Whom the server's certificate names.
    #[must_use]
    pub fn identity(&self) -> &PeerIdentity {
        &self.identity
    }

    /// Opens the port, for example `0.0.0.0:7443`; port 0 takes a free one.
    ///
    /// # Errors
    /// [`BindError`], which tells a busy port from other problems.
    pub async fn bind(self, address: &str) -> Result<TlsListener, BindError> {
        match TcpListener::bind(address).await {
            Ok(listener) => Ok(TlsListener { server: self, listener }),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                Err(BindError::Busy { address: address.to_owned() })
            }
            Err(source) => Err(BindError::Failed { address: address.to_owned(), source }),
        }
    }

    /// One handshake. The stream of a client that is refused in it comes back, to be told.
    async fn handshake(&self, stream: TcpStream) -> Result<TlsConnection, Refusal> {
        let address = stream.peer_addr().map_err(HandshakeError::Broken)?;
        stream.set_nodelay(true).map_err(HandshakeError::Broken)?;
        timeout(FIRST_BYTE_TIMEOUT, stream.peek(&mut [0]))
            .await
            .map_err(|_| HandshakeError::Silent)?
            .map_err(HandshakeError::Broken)?;
        let handshake = self.acceptor.accept(stream).into_fallible();
        match timeout(HANDSHAKE_TIMEOUT, handshake).await {
            Err(_) => Err(HandshakeError::TimedOut.into()),
            Ok(Ok(stream)) => Ok(admit(stream, address)?),
            Ok(Err((error, stream))) => {
                Err(Refusal { error: HandshakeError::from_io(error), stream: Some(stream) })
            }
        }
    }
}

/// A client that was not admitted.
struct Refusal {
    error: HandshakeError,
    /// Still open if the client has yet to read why.
    stream: Option<TcpStream>,
}

impl From<HandshakeError> for Refusal {
    fn from(error: HandshakeError) -> Self {
        Self { error, stream: None }
    }
}

fn admit(stream: TlsStream<TcpStream>, address: SocketAddr) -> Result<TlsConnection, HandshakeError> {
    let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let Some(certificate) = certificate else {
        let source = rustls::Error::NoCertificatesPresented;
        return Err(HandshakeError::Refused { reason: reason::of_client(&source), source });
    };
    let identity = member(certificate).map_err(|problem| HandshakeError::Refused {
        reason: problem.to_string(),
        source: rustls::Error::General(problem.to_string()),
    })?;
    Ok(PeerStream::new(stream, PeerConnection { identity, address: PeerAddress::Socket(address) }))
}

/// Closing with unread bytes resets the connection, and a reset can overtake the alert that tells the client why.
async fn linger(mut stream: TcpStream) {
    let mut rest = [0; 4096];
    let drain = async {
        stream.shutdown().await?;
        while stream.read(&mut rest).await? > 0 {}
        io::Result::Ok(())
    };
    // The client is refused already; how it takes that changes nothing.
    let _ = timeout(LINGER, drain).await;
}

/// An open port.
#[derive(Debug)]
pub struct TlsListener {
    server: TlsServer,
    listener: TcpListener,
}

impl TlsListener {
    /// The address in use, with the real port.
    ///
    /// # Errors
    /// If the operating system does not tell.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Starts accepting. The port closes when the stream is dropped. Must be called within a tokio runtime.
    #[must_use]
    pub fn into_incoming(self) -> Incoming {
        let (sender, receiver) = mpsc::channel(ACCEPTED_BACKLOG);
        tokio::spawn(accept_loop(self.server, self.listener, sender));
        Incoming { receiver }
    }
}

/// Stream of admitted connections, for `serve_with_incoming_shutdown`. It never yields an error.
#[derive(Debug)]
pub struct Incoming {
    receiver: mpsc::Receiver<TlsConnection>,
}

impl Stream for Incoming {
    type Item = io::Result<TlsConnection>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.receiver.poll_recv(cx).map(|connection| connection.map(Ok))
    }
}

async fn accept_loop(server: TlsServer, listener: TcpListener, sender: mpsc::Sender<TlsConnection>) {
    let reception = Reception { server, sender, lingering: Arc::new(Semaphore::new(MAX_LINGERING)) };
    let admission = Admission::new();
    loop {
        let next = async { (admission.place().await, listener.accept().await) };
        let (place, accepted) = tokio::select! {
            () = reception.sender.closed() => return,
            next = next => next,
        };
        match accepted {
            Ok((stream, peer)) => match admission.turn(place, peer.ip()) {
                Ok(turn) => drop(tokio::spawn(reception.clone().receive(stream, peer, turn))),
                Err(Crowded { first: true }) => {
                    tracing::warn!(%peer, limit = MAX_FROM_SOURCE, "too many handshakes with one address, others are turned away");
                }
                Err(Crowded { first: false }) => tracing::debug!(%peer, "connection turned away"),
            },
            Err(error) => {
                tracing::error!(%error, "cannot accept connections, trying again");
                sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

/// What happens to each accepted connection.
#[derive(Clone)]
struct Reception {
    server: TlsServer,
    sender: mpsc::Sender<TlsConnection>,
    lingering: Arc<Semaphore>,
}

impl Reception {
    async fn receive(self, stream: TcpStream, peer: SocketAddr, turn: Turn) {
        let outcome = self.server.handshake(stream).await;
        // Neither a busy gRPC server nor a refused client that takes its time may use up the places for handshakes.
        drop(turn);
        match outcome {
            Ok(connection) => {
                tracing::debug!(%peer, identity = %connection.peer().identity, "connection accepted");
                // Fails only if the server has ended, and then the connection ends with it.
                let _ = self.sender.send(connection).await;
            }
            Err(Refusal { error, stream }) => {
                if let (Some(stream), Ok(_place)) = (stream, self.lingering.try_acquire()) {
                    linger(stream).await;
                }
                match error {
                    HandshakeError::Closed => {
                        tracing::debug!(%peer, "connection closed before the handshake");
                    }
                    error => tracing::warn!(%peer, reason = %error, "connection refused"),
                }
            }
        }
    }
}
