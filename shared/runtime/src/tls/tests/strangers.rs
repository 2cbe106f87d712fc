//! Those who do not belong are refused, are told why in words, and disturb nobody.

use std::sync::Arc;
use std::time::Duration;

use rcgen::ExtendedKeyUsagePurpose;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, SupportedProtocolVersion};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::logs::Logs;
use super::pki::{Authority, Leaf, client, server};
use super::service::{Running, serve, who_am_i};
use crate::tls::admission::MAX_HANDSHAKES;
use crate::tls::client::testing::connect_with;
use crate::tls::files::provider;
use crate::tls::{ClientOptions, ConnectError, TlsFiles, connect};

/// A consortium with a running coordinator `main`.
struct Consortium {
    folder: TempDir,
    authority: Authority,
    running: Running,
}

impl Consortium {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new("Consortium");
        let files = authority.kit(folder.path(), "server", &server(&["main.coordinator.fusiondp"]));
        let running = serve(&files, "127.0.0.1:0").await;
        Self { folder, authority, running }
    }

    /// A kit signed by `signer` that trusts this consortium.
    fn kit_of(&self, signer: &Authority, leaf: &Leaf<'_>) -> TlsFiles {
        let files = signer.kit(self.folder.path(), "stranger", leaf);
        self.authority.trusted_by(&files);
        files
    }

    async fn refusal(&self, files: &TlsFiles) -> ConnectError {
        connect(&self.running.url(), "main", files, &ClientOptions::default()).await.unwrap_err()
    }

    async fn still_serves(&self) {
        let files = self.authority.kit(self.folder.path(), "member", &client(&["a.site.fusiondp"]));
        let channel = connect(&self.running.url(), "main", &files, &ClientOptions::default()).await.unwrap();
        assert_eq!(who_am_i(&channel).await.unwrap().0, "site `a`");
    }

    fn anonymous(&self, version: &'static SupportedProtocolVersion) -> ClientConfig {
        let files = self.authority.kit(self.folder.path(), "anonymous", &client(&["a.site.fusiondp"]));
        ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(files.load().unwrap().roots())
            .with_no_client_auth()
    }
}

/// Both ends say why: the client's error and the server's log; and the server goes on.
async fn assert_refused(
    consortium: &Consortium,
    logs: &Logs,
    files: &TlsFiles,
    client_says: &str,
    server_says: &str,
) {
    let error = consortium.refusal(files).await;
    assert!(matches!(error, ConnectError::Refused { .. }) && error.needs_attention(), "{error:?}");
    assert!(error.to_string().contains(client_says), "{error}");
    logs.expect(server_says).await;
    consortium.still_serves().await;
}

#[tokio::test]
async fn no_certificate() {
    let (logs, _guard) = Logs::capture();
    let consortium = Consortium::start().await;
    let error =
        connect_with(&consortium.running.url(), "main", consortium.anonymous(&TLS13)).await.unwrap_err();
    assert!(error.to_string().contains("requires a certificate"), "{error}");
    logs.expect("the client sent no certificate").await;
    assert!(logs.text().contains("peer=127.0.0.1:"), "{}", logs.text());
    consortium.still_serves().await;
}

#[tokio::test]
async fn a_certificate_of_another_authority() {
    let (logs, _guard) = Logs::capture();
    let consortium = Consortium::start().await;
    let files = consortium.kit_of(&Authority::new("Other"), &client(&["a.site.fusiondp"]));
    let server_says = "certificate is signed by an unknown authority";
    assert_refused(&consortium, &logs, &files, "signed by another authority", server_says).await;
}

#[tokio::test]
async fn a_certificate_of_another_authority_with_the_same_name() {
    let (logs, _guard) = Logs::capture();
    let consortium = Consortium::start().await;
    let files = consortium.kit_of(&Authority::new("Consortium"), &client(&["a.site.fusiondp"]));
    let server_says = "certificate is signed by an unknown authority";
    assert_refused(&consortium, &logs, &files, "signed by another authority", server_says).await;
}

#[tokio::test]
async fn certificates_that_name_no_member() {
    let (logs, _guard) = Logs::capture();
    let consortium = Consortium::start().await;
    for (names, server_says) in [
        (&["www.example.org"][..], "no DNS name of the form <id>.<role>.fusiondp"),
        (&["a.doctor.fusiondp"], "unknown role `doctor`"),
        (&["a.site.fusiondp", "b.site.fusiondp"], "has 2 names"),
        (&["Big.site.fusiondp"], "invalid id `Big`"),
        (&["main.coordinator.fusiondp"], "names a coordinator"),
    ] {
        // A kit like this does not load, so the client takes its parts directly.
        let files = consortium.kit_of(&consortium.authority, &client(names));
        let error = connect_with(&consortium.running.url(), "main", unchecked(&files)).await.unwrap_err();
        assert!(error.to_string().contains("names neither a site nor an admin"), "{error}");
        logs.expect(server_says).await;
    }
    consortium.still_serves().await;
}

/// A client configuration from a kit, whatever its certificate says.
fn unchecked(files: &TlsFiles) -> ClientConfig {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&files.ca).unwrap()).unwrap();
    let chain = vec![CertificateDer::from_pem_file(&files.certificate).unwrap()];
    ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_root_certificates(Arc::new(roots))
        .with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(&files.key).unwrap())
        .unwrap()
}

#[tokio::test]
async fn certificates_outside_their_validity() {
    let (logs, _guard) = Logs::capture();
    let consortium = Consortium::start().await;
    for (valid, server_says) in
        [((-10, -1), "certificate has expired"), ((1, 10), "certificate is not valid yet")]
    {
        let leaf = Leaf { valid, ..client(&["a.site.fusiondp"]) };
        let files = consortium.kit_of(&consortium.authority, &leaf);
        assert_refused(&consortium, &logs, &files, "has expired or is not valid yet", server_says).await;
    }
}

#[tokio::test]
async fn a_servers_certificate_used_by_a_client() {
    let (logs, _guard) = Logs::capture();
    let consortium = Consortium::start().await;
    let leaf = Leaf { purpose: ExtendedKeyUsagePurpose::ServerAuth, ..client(&["a.site.fusiondp"]) };
    let files = consortium.kit_of(&consortium.authority, &leaf);
    assert_refused(&consortium, &logs, &files, "not made for a client", "made for another purpose").await;
}

#[tokio::test]
async fn a_client_with_tls_1_2() {
    let (logs, _guard) = Logs::capture();
    let consortium = Consortium::start().await;
    let error =
        connect_with(&consortium.running.url(), "main", consortium.anonymous(&TLS12)).await.unwrap_err();
    assert!(error.to_string().contains("another version of TLS"), "{error}");
    logs.expect("the client does not speak TLS 1.3").await;
    consortium.still_serves().await;
}

#[tokio::test]
async fn a_client_without_tls_and_one_that_says_nothing() {
    let (logs, _guard) = Logs::capture();
    let consortium = Consortium::start().await;
    let silent = TcpStream::connect(consortium.running.address).await.unwrap();
    let mut plain = TcpStream::connect(consortium.running.address).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    // The connection ends, whether by an alert or by a reset.
    let _ = plain.read_to_end(&mut answer).await;
    logs.expect("the client does not speak TLS").await;
    consortium.still_serves().await;
    drop(silent);
}

/// 127.0.0.2 opens more connections than there are places; the site comes from 127.0.0.1.
#[tokio::test]
async fn many_silent_connections_of_one_address_keep_nobody_else_out() {
    let (logs, _guard) = Logs::capture();
    let consortium = Consortium::start().await;
    let mut silent = Vec::new();
    for _ in 0..MAX_HANDSHAKES + 20 {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        silent.push(socket.connect(consortium.running.address).await.unwrap());
    }
    let files = consortium.authority.kit(consortium.folder.path(), "site", &client(&["a.site.fusiondp"]));
    let options = ClientOptions { connect_timeout: Duration::from_secs(2), ..ClientOptions::default() };
    let channel = connect(&consortium.running.url(), "main", &files, &options).await.unwrap();
    assert_eq!(who_am_i(&channel).await.unwrap().0, "site `a`");
    logs.expect("too many handshakes with one address").await;
    logs.expect("the client sent nothing for 3 s").await;
    drop(silent);
}

#[tokio::test]
async fn a_coordinator_of_another_authority_is_not_trusted() {
    let (logs, _guard) = Logs::capture();
    let consortium = Consortium::start().await;
    let files = Authority::new("Other").kit(consortium.folder.path(), "site", &client(&["a.site.fusiondp"]));
    let error = consortium.refusal(&files).await;
    assert!(matches!(error, ConnectError::Untrusted { .. }), "{error:?}");
    assert!(error.to_string().contains("signed by an unknown authority"), "{error}");
    logs.expect("an authority that the client does not know").await;
}

#[tokio::test]
async fn an_expired_coordinator_and_one_with_a_sites_certificate_are_not_trusted() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new("Consortium");
    let site = authority.kit(folder.path(), "site", &client(&["a.site.fusiondp"]));
    let name = ["main.coordinator.fusiondp"];
    let expired = Leaf { valid: (-10, -1), ..server(&name) };
    for (leaf, text) in [(expired, "has expired"), (client(&name), "made for another purpose")] {
        let running = serve(&authority.kit(folder.path(), "server", &leaf), "127.0.0.1:0").await;
        let error = connect(&running.url(), "main", &site, &ClientOptions::default()).await.unwrap_err();
        assert!(
            matches!(error, ConnectError::Untrusted { .. }) && error.to_string().contains(text),
            "{error}"
        );
    }
}

#[tokio::test]
async fn addresses_without_a_coordinator_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let site = Authority::new("C").kit(folder.path(), "site", &client(&["a.site.fusiondp"]));
    let options = ClientOptions { connect_timeout: Duration::from_millis(300), ..ClientOptions::default() };
    let attempt = async |url: String| connect(&url, "main", &site, &options).await.unwrap_err();

    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let error = attempt(format!("https://{}", mute.local_addr().unwrap())).await;
    assert!(
        matches!(error, ConnectError::TimedOut { .. }) && error.to_string().contains("did not answer"),
        "{error}"
    );

    let web = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", web.local_addr().unwrap());
    let answering = tokio::spawn(async move {
        let (mut stream, _) = web.accept().await.unwrap();
        let mut request = [0; 4096];
        assert!(stream.read(&mut request).await.unwrap() > 0);
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
    });
    let error = attempt(url.clone()).await;
    assert!(error.to_string().contains("does not speak TLS"), "{error:?}");
    answering.await.unwrap();

    let closed = attempt(url).await;
    assert!(matches!(closed, ConnectError::Unreachable { .. }) && !closed.needs_attention(), "{closed:?}");
}

#[tokio::test]
async fn malformed_addresses_are_refused_before_anything_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    let site = Authority::new("C").kit(folder.path(), "site", &client(&["a.site.fusiondp"]));
    for (url, problem) in [
        ("http://localhost:1", "https://"),
        ("localhost:7443", "https://"),
        ("https://localhost", "no port"),
        ("https://localhost:1/path", "path"),
        ("https://a b:1", "not an address"),
        ("", "not an address"),
    ] {
        let error = connect(url, "main", &site, &ClientOptions::default()).await.unwrap_err();
        assert!(
            matches!(error, ConnectError::InvalidUrl { .. }) && error.needs_attention(),
            "{url}: {error}"
        );
        assert!(error.to_string().contains(problem), "{url}: {error}");
    }
    let error =
        connect("https://localhost:1", "no name", &site, &ClientOptions::default()).await.unwrap_err();
    assert!(error.to_string().contains("no name"), "{error}");
}
