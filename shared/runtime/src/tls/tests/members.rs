//! Those who belong are let in under their certificate's name.

use super::pki::{Authority, client, server};
use super::service::{serve, who_am_i};
use crate::tls::{BindError, ClientOptions, ConnectError, TlsServer, connect};

#[tokio::test]
async fn members_are_known_by_their_certificates() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new("Consortium");
    let files = authority.kit(folder.path(), "server", &server(&["main.coordinator.fusiondp", "localhost"]));
    let running = serve(&files, "127.0.0.1:0").await;
    for (name, expected) in
        [("leipzig.site.fusiondp", "site `leipzig`"), ("anna.admin.fusiondp", "admin `anna`")]
    {
        let files = authority.kit(folder.path(), name, &client(&[name]));
        let channel = connect(&running.url(), "main", &files, &ClientOptions::default()).await.unwrap();
        let (identity, address) = who_am_i(&channel).await.unwrap();
        assert_eq!(identity, expected);
        assert!(address.starts_with("127.0.0.1:"), "{address}");
    }
}

#[tokio::test]
async fn the_coordinators_name_counts_and_not_its_hosts() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new("Consortium");
    // Neither `localhost` nor an address in the certificate.
    let files = authority.kit(folder.path(), "server", &server(&["main.coordinator.fusiondp"]));
    let running = serve(&files, "127.0.0.1:0").await;
    let site = authority.kit(folder.path(), "site", &client(&["a.site.fusiondp"]));
    let url = format!("https://localhost:{}", running.address.port());
    assert!(connect(&url, "main", &site, &ClientOptions::default()).await.is_ok());
    let error = connect(&url, "other", &site, &ClientOptions::default()).await.unwrap_err();
    assert!(matches!(error, ConnectError::Untrusted { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("names somebody else") && text.contains("main.coordinator.fusiondp"), "{text}");
}

#[tokio::test]
async fn a_busy_port_is_named_with_the_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let files = Authority::new("C").kit(folder.path(), "server", &server(&["main.coordinator.fusiondp"]));
    let running = serve(&files, "127.0.0.1:0").await;
    let error = TlsServer::new(&files).unwrap().bind(&running.address.to_string()).await.unwrap_err();
    assert!(matches!(error, BindError::Busy { .. }), "{error}");
    assert!(error.to_string().contains(&running.address.to_string()) && error.to_string().contains("listen"));
    let error = TlsServer::new(&files).unwrap().bind("somewhere").await.unwrap_err();
    assert!(error.to_string().contains("somewhere"), "{error}");
}
