//! A gRPC channel to the coordinator, with refusals in plain words.
//!
//! With TLS 1.3 a client's part of the handshake is over before the server has judged its certificate, so a refusal
//! arrives with the first bytes read. [`connect`] therefore waits for the server's first HTTP/2 frame: a refused client
//! gets a [`ConnectError::Refused`] and not an opaque failure of its first call. Reconnects inside the channel go the
//! same way; [`explain`] finds their reason in a failed call's status.

mod error;
mod stream;

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::version::TLS13;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

pub use error::ConnectError;
use stream::ClientStream;

use super::files::{Credentials, provider, server_name};
use super::{ALPN_HTTP2, CONNECTION_WINDOW_BYTES, STREAM_WINDOW_BYTES, TlsFiles, TlsFilesError, reason};

/// How long to wait for the server's first frame. It sends one at once; a proxy in between might not.
const FIRST_FRAME_TIMEOUT: Duration = Duration::from_secs(2);

/// Room for the first frames.
const READ_AHEAD_BYTES: usize = 16 * 1024;

/// Timing of a client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientOptions {
    /// For name resolution, TCP and TLS together. Default 15 s.
    pub connect_timeout: Duration,
    /// Between two pings, also on an idle connection. Default 20 s.
    pub keep_alive_interval: Duration,
    /// For the answer to a ping, after which the connection counts as lost. Default 20 s.
    pub keep_alive_timeout: Duration,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(15),
            keep_alive_interval: Duration::from_secs(20),
            keep_alive_timeout: Duration::from_secs(20),
        }
    }
}

/// Connects to the coordinator `server_id` at `url` (`https://host:port`) and waits until it has accepted this client.
///
/// The coordinator must prove the name `<server_id>.coordinator.fusiondp` with a certificate of the authority in
/// `files.ca`; what its host is called plays no part. The channel reconnects by itself when a call finds it broken.
///
/// # Errors
/// [`ConnectError`], with the remedy.
pub async fn connect(
    url: &str,
    server_id: &str,
    files: &TlsFiles,
    options: &ClientOptions,
) -> Result<Channel, ConnectError> {
    let config = client_config(files.load()?)?;
    Dialer::new(url, server_id, config, options.connect_timeout)?.into_channel(options).await
}

/// The plain reason of a call that failed because its connection was refused or could not be made, if that is why.
#[must_use]
pub fn explain(status: &tonic::Status) -> Option<String> {
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        if let Some(known) = error.downcast_ref::<ConnectError>() {
            return Some(known.to_string());
        }
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if let Some(known) = inner.and_then(|inner| inner.downcast_ref::<ConnectError>()) {
            return Some(known.to_string());
        }
        cause = error.source();
    }
    None
}

fn client_config(credentials: Credentials) -> Result<ClientConfig, TlsFilesError> {
    let path = credentials.files().certificate.clone();
    let unusable = |source| TlsFilesError::Unusable { path, source };
    let roots = credentials.roots();
    let (chain, key) = credentials.into_chain_and_key();
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .and_then(|builder| builder.with_root_certificates(roots).with_client_auth_cert(chain, key))
        .map_err(unusable)?;
    Ok(prepared(config))
}

fn prepared(mut config: ClientConfig) -> ClientConfig {
    config.alpn_protocols = vec![ALPN_HTTP2.to_vec()];
    config.resumption = Resumption::disabled();
    config
}

/// Opens connections to one coordinator.
#[derive(Clone)]
struct Dialer {
    uri: Uri,
    host: String,
    port: u16,
    server_name: ServerName<'static>,
    tls: TlsConnector,
    timeout: Duration,
}

impl Dialer {
    fn new(
        url: &str,
        server_id: &str,
        config: ClientConfig,
        timeout: Duration,
    ) -> Result<Self, ConnectError> {
        let invalid = |problem| ConnectError::InvalidUrl { url: url.to_owned(), problem };
        let uri: Uri = url.parse().map_err(|_| invalid("is not an address"))?;
        if uri.scheme_str() != Some("https") {
            return Err(invalid("does not begin with https://"));
        }
        if uri.path_and_query().is_some_and(|path| path.as_str() != "/") {
            return Err(invalid("has a path after the port"));
        }
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(|| invalid("names no host"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = uri.port_u16().ok_or_else(|| invalid("names no port"))?;
        let server_name =
            server_name(server_id).map_err(|_| ConnectError::InvalidServerId { id: server_id.to_owned() })?;
        Ok(Self { uri, host, port, server_name, tls: TlsConnector::from(Arc::new(config)), timeout })
    }

    fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    async fn into_channel(self, options: &ClientOptions) -> Result<Channel, ConnectError> {
        let address = self.address();
        let first = Arc::new(Mutex::new(Some(self.dial().await?)));
        let endpoint = Endpoint::from(self.uri.clone())
            .http2_keep_alive_interval(options.keep_alive_interval)
            .keep_alive_timeout(options.keep_alive_timeout)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
        let connector = service_fn(move |_| {
            let first = first.lock().unwrap_or_else(PoisonError::into_inner).take();
            let dialer = self.clone();
            async move {
                match first {
                    Some(stream) => Ok(TokioIo::new(stream)),
                    None => dialer.dial().await.map(TokioIo::new),
                }
            }
        });
        endpoint
            .connect_with_connector(connector)
            .await
            .map_err(|source| ConnectError::NotGrpc { address, source })
    }

    /// TCP, TLS, and the server's first frame.
    async fn dial(&self) -> Result<ClientStream, ConnectError> {
        let timed_out = |_| ConnectError::TimedOut { address: self.address(), after: self.timeout };
        timeout(self.timeout, self.dial_untimed()).await.map_err(timed_out)?
    }

    async fn dial_untimed(&self) -> Result<ClientStream, ConnectError> {
        let tcp = self.reach().await?;
        let handshake = self.tls.connect(self.server_name.clone(), tcp).await;
        let mut tls = handshake.map_err(|error| self.failure(error))?;
        let mut ahead = vec![0; READ_AHEAD_BYTES];
        let length = match timeout(FIRST_FRAME_TIMEOUT, tls.read(&mut ahead)).await {
            Err(_) => 0,
            Ok(Ok(0)) => return Err(self.failure(io::ErrorKind::UnexpectedEof.into())),
            Ok(Ok(length)) => length,
            Ok(Err(error)) => return Err(self.failure(error)),
        };
        ahead.truncate(length);
        Ok(ClientStream::new(tls, ahead))
    }

    async fn reach(&self) -> Result<TcpStream, ConnectError> {
        let unknown = |source| ConnectError::UnknownHost { host: self.host.clone(), source };
        let mut last = io::ErrorKind::AddrNotAvailable.into();
        for address in lookup_host((self.host.as_str(), self.port)).await.map_err(unknown)? {
            match TcpStream::connect(address).await {
                Ok(stream) => {
                    // Small frames would otherwise wait for the answer to the previous one.
                    stream.set_nodelay(true).map_err(|error| self.failure(error))?;
                    return Ok(stream);
                }
                Err(error) => last = error,
            }
        }
        Err(ConnectError::Unreachable { address: self.address(), source: last })
    }

    fn failure(&self, error: io::Error) -> ConnectError {
        let address = self.address();
        match reason::tls_error(&error) {
            Some(rustls::Error::AlertReceived(alert)) => {
                ConnectError::Refused { address, reason: reason::of_alert(*alert) }
            }
            Some(tls) => match reason::of_server(tls) {
                Some(reason) => ConnectError::Untrusted { address, reason },
                None => ConnectError::Broken { address, source: error },
            },
            None => ConnectError::Broken { address, source: error },
        }
    }
}

#[cfg(test)]
pub(super) mod testing {
    //! Clients that a kit cannot make, for tests of refusals.

    use super::*;

    /// Like [`connect`](super::connect) with a TLS configuration of the test's own.
    pub(in crate::tls) async fn connect_with(
        url: &str,
        id: &str,
        config: ClientConfig,
    ) -> Result<Channel, ConnectError> {
        let options = ClientOptions::default();
        Dialer::new(url, id, prepared(config), options.connect_timeout)?.into_channel(&options).await
    }
}
