//! A channel outlives its connection, and says why when it cannot get another.

use super::pki::{Authority, client, server};
use super::service::{serve, who_am_i};
use crate::tls::{ClientOptions, connect, explain};

const COORDINATOR: [&str; 1] = ["main.coordinator.fusiondp"];

#[tokio::test]
async fn a_channel_reconnects_after_the_server_has_restarted() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new("Consortium");
    let files = authority.kit(folder.path(), "server", &server(&COORDINATOR));
    let site = authority.kit(folder.path(), "site", &client(&["a.site.fusiondp"]));
    let running = serve(&files, "127.0.0.1:0").await;
    let address = running.address.to_string();
    let channel = connect(&running.url(), "main", &site, &ClientOptions::default()).await.unwrap();
    assert_eq!(who_am_i(&channel).await.unwrap().0, "site `a`");

    running.stop().await;
    let status = who_am_i(&channel).await.unwrap_err();
    let status = match explain(&status) {
        Some(_) => status,
        // The first call may only discover the loss.
        None => who_am_i(&channel).await.unwrap_err(),
    };
    assert!(explain(&status).unwrap().contains("cannot reach the coordinator"), "{status:?}");

    let _running = serve(&files, &address).await;
    assert_eq!(who_am_i(&channel).await.unwrap().0, "site `a`");
}

#[tokio::test]
async fn a_refusal_on_reconnecting_is_explained() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new("Consortium");
    let files = authority.kit(folder.path(), "server", &server(&COORDINATOR));
    let site = authority.kit(folder.path(), "site", &client(&["a.site.fusiondp"]));
    let running = serve(&files, "127.0.0.1:0").await;
    let address = running.address.to_string();
    let channel = connect(&running.url(), "main", &site, &ClientOptions::default()).await.unwrap();
    who_am_i(&channel).await.unwrap();
    running.stop().await;

    // The same coordinator, which now trusts another authority.
    Authority::new("New").trusted_by(&files);
    let _running = serve(&files, &address).await;
    let mut explanation = None;
    for _ in 0..3 {
        let status = who_am_i(&channel).await.unwrap_err();
        explanation = explanation.or(explain(&status));
    }
    assert!(
        explanation.as_deref().is_some_and(|text| text.contains("signed by another authority")),
        "{explanation:?}"
    );
}

#[test]
fn an_ordinary_failure_needs_no_explanation() {
    assert_eq!(explain(&tonic::Status::not_found("no such study")), None);
}
