//! Connections inside one process, for the simulation: the same gRPC bytes and the same identities, without sockets.
//!
//! The identity is declared by whoever opens the channel. That is as trustworthy as the process itself, and the reason
//! why deployed services use [`server`](super::server) and [`client`](super::client) only.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::Stream;
use hyper_util::rt::TokioIo;
use tokio::io::{DuplexStream, duplex};
use tokio::sync::mpsc;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use super::{CONNECTION_WINDOW_BYTES, PeerAddress, PeerConnection, PeerStream, STREAM_WINDOW_BYTES};
use crate::identity::PeerIdentity;

/// Bytes on their way per direction.
const PIPE_BYTES: usize = 256 * 1024;

/// Any valid authority; nothing is resolved.
const AUTHORITY: &str = "http://in-process.fusiondp";

/// A connection accepted in memory.
pub type MemoryConnection = PeerStream<DuplexStream>;

/// A listener and the connector that reaches it.
#[must_use]
pub fn memory_transport() -> (MemoryListener, MemoryConnector) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (MemoryListener { receiver }, MemoryConnector { sender })
}

/// Stream of connections, for `serve_with_incoming_shutdown`. It never yields an error, and ends with its connectors.
#[derive(Debug)]
pub struct MemoryListener {
    receiver: mpsc::UnboundedReceiver<MemoryConnection>,
}

impl Stream for MemoryListener {
    type Item = io::Result<MemoryConnection>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.receiver.poll_recv(cx).map(|connection| connection.map(Ok))
    }
}

/// Opens channels to a [`MemoryListener`].
#[derive(Clone, Debug)]
pub struct MemoryConnector {
    sender: mpsc::UnboundedSender<MemoryConnection>,
}

impl MemoryConnector {
    /// A channel under a declared identity. It connects with its first call and again after each loss; while the
    /// listener is gone, calls fail as unavailable. Must be called within a tokio runtime.
    #[must_use]
    pub fn channel(&self, identity: PeerIdentity) -> Channel {
        let sender = self.sender.clone();
        let connector = service_fn(move |_| {
            let opened = open(&sender, identity.clone());
            async move { opened.map(TokioIo::new) }
        });
        Endpoint::from_static(AUTHORITY)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .connect_with_connector_lazy(connector)
    }
}

fn open(
    sender: &mpsc::UnboundedSender<MemoryConnection>,
    identity: PeerIdentity,
) -> io::Result<DuplexStream> {
    let (near, far) = duplex(PIPE_BYTES);
    let connection = PeerStream::new(far, PeerConnection { identity, address: PeerAddress::Memory });
    match sender.send(connection) {
        Ok(()) => Ok(near),
        Err(_) => {
            Err(io::Error::new(io::ErrorKind::ConnectionRefused, "the listener in this process has ended"))
        }
    }
}
