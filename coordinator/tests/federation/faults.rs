//! Faults of the coordinator itself, and calls that never end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fusiondp_coordinator::{Consortium, Coordinator, CoordinatorSettings, Submissions};
use fusiondp_proto::v1;
use fusiondp_proto::v1::federation_client::FederationClient;
use fusiondp_protocol::{Limits, UpdateHeader, UpdateOutcome, UpdatePart};
use fusiondp_runtime::tls::memory_transport;
use fusiondp_runtime::{Clock, Role, Shutdown, SystemClock};
use tokio_stream::wrappers::ReceiverStream;

use crate::attempts::two_hands;
use crate::fake::submit;
use crate::setup::{channel, document, open_store};

/// A clock that breaks down when it is told to.
#[derive(Debug, Default)]
struct Breaks(AtomicBool);

impl Clock for Breaks {
    fn now_ms(&self) -> u64 {
        assert!(!self.0.load(Ordering::SeqCst), "the clock has broken down");
        SystemClock.now_ms()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_of_the_supervisor_ends_the_coordinator_with_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let store = open_store(folder.path()).await;
    let sites = ["a", "b"].map(|id| id.parse().unwrap());
    store.submit_study(&document(&[]), &sites, 1).await.unwrap();
    let settings = CoordinatorSettings {
        consortium: Consortium { name: "tests".into(), sites: sites.into_iter().collect() },
        limits: Limits::default(),
        submissions: Submissions::Deployed,
        authority: None,
    };
    let (listener, _connector) = memory_transport();
    let clock = Arc::new(Breaks::default());
    let running = Coordinator::start(settings, store, listener, Shutdown::new(), clock.clone());
    clock.0.store(true, Ordering::SeqCst);
    let ended = tokio::time::timeout(Duration::from_secs(10), running.finished()).await;
    let error = ended.expect("nobody has noticed").unwrap_err();
    assert!(error.to_string().contains("ended early"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_waits_for_the_one_before_it_from_the_same_site() {
    let folder = tempfile::tempdir().unwrap();
    let (federation, _, mut b, mut c) = two_hands(folder.path(), "round_timeout_s = 60").await;
    let (task, other) = tokio::join!(b.task(), c.task());
    let (header, payload) = b.site.update(&mut b.client, &task).await.unwrap();
    let stalled =
        stall(FederationClient::new(channel(&federation.connector, "b", Role::Site)), &header).await;

    let second = submit(&mut b.client, &header, &payload);
    let waited = tokio::time::timeout(Duration::from_millis(300), second).await;
    assert!(waited.is_err(), "{waited:?}");
    // Another site is not held up.
    let (of_c, payload_of_c) = c.site.update(&mut c.client, &other).await.unwrap();
    assert_eq!(submit(&mut c.client, &of_c, &payload_of_c).await.unwrap(), UpdateOutcome::Accepted);
    drop(stalled);
    assert_eq!(submit(&mut b.client, &header, &payload).await.unwrap(), UpdateOutcome::Accepted);
    federation.stop().await;
}

/// Begins an upload that goes on as long as the returned value lives.
async fn stall(
    mut client: FederationClient<tonic::transport::Channel>,
    header: &UpdateHeader,
) -> tokio::sync::mpsc::Sender<v1::UpdateChunk> {
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    sender.send(v1::UpdateChunk::from(UpdatePart::Header(Box::new(header.clone())))).await.unwrap();
    tokio::spawn(async move { client.submit_update(ReceiverStream::new(receiver)).await.map(drop) });
    tokio::time::sleep(Duration::from_millis(200)).await;
    sender
}
