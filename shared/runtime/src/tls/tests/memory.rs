//! The in-memory transport carries the same service and identities.

use super::service::{serve_over, who_am_i};
use crate::identity::{PeerIdentity, Role};
use crate::tls::memory_transport;

#[tokio::test]
async fn many_declared_identities_share_one_listener() {
    let (listener, connector) = memory_transport();
    let (_shutdown, _task) = serve_over(listener);
    for number in 0..100 {
        let id = format!("site-{number}");
        let channel = connector.channel(PeerIdentity::declared(&id, Role::Site).unwrap());
        let expected = (format!("site `{id}`"), "in-process".to_owned());
        assert_eq!(who_am_i(&channel).await.unwrap(), expected);
    }
}

#[tokio::test]
async fn calls_fail_as_unavailable_once_the_server_has_ended() {
    let (listener, connector) = memory_transport();
    let (shutdown, task) = serve_over(listener);
    let channel = connector.channel(PeerIdentity::declared("a", Role::Site).unwrap());
    who_am_i(&channel).await.unwrap();
    shutdown.trigger();
    task.await.unwrap();
    let mut status = who_am_i(&channel).await.unwrap_err();
    if status.code() != tonic::Code::Unavailable {
        // The first call may only discover the loss.
        status = who_am_i(&channel).await.unwrap_err();
    }
    assert_eq!(status.code(), tonic::Code::Unavailable, "{status:?}");
}
