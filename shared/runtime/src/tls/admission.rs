//! How many handshakes may be under way, in all and with one network.
//!
//! A client needs no certificate to open a connection and say nothing, so places are scarce: one address that takes all
//! that it can get must leave places for everybody else.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Handshakes under way at once; more wait in the listener's backlog.
pub(super) const MAX_HANDSHAKES: usize = 512;

/// Handshakes under way with one source; more are turned away. Sites behind one gateway share it, but an honest
/// handshake takes milliseconds.
pub(super) const MAX_FROM_SOURCE: usize = 64;

/// Hands out the places.
#[derive(Clone)]
pub(super) struct Admission {
    places: Arc<Semaphore>,
    sources: Sources,
}

type Sources = Arc<Mutex<HashMap<IpAddr, Source>>>;

/// A source with handshakes under way.
#[derive(Default)]
struct Source {
    handshakes: usize,
    /// Whether it has been turned away since it had none under way.
    crowded: bool,
}

/// One of all places; it is free again when dropped. `None` does not occur, as nobody closes the semaphore.
pub(super) type Place = Option<OwnedSemaphorePermit>;

/// Permission for one handshake; gives its place back when dropped.
pub(super) struct Turn {
    _place: Place,
    sources: Sources,
    source: IpAddr,
}

/// A source has as many handshakes under way as it may.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Crowded {
    /// Whether the source is turned away for the first time; the log needs to tell it once only.
    pub(super) first: bool,
}

impl Admission {
    pub(super) fn new() -> Self {
        Self { places: Arc::new(Semaphore::new(MAX_HANDSHAKES)), sources: Sources::default() }
    }

    /// Waits until one of all places is free.
    pub(super) async fn place(&self) -> Place {
        Arc::clone(&self.places).acquire_owned().await.ok()
    }

    /// A turn for a client at `address`.
    pub(super) fn turn(&self, place: Place, address: IpAddr) -> Result<Turn, Crowded> {
        let source = source_of(address);
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = sources.entry(source).or_default();
        if entry.handshakes >= MAX_FROM_SOURCE {
            let first = !std::mem::replace(&mut entry.crowded, true);
            return Err(Crowded { first });
        }
        entry.handshakes += 1;
        Ok(Turn { _place: place, sources: Arc::clone(&self.sources), source })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = sources.get_mut(&self.source) {
            entry.handshakes -= 1;
            if entry.handshakes == 0 {
                sources.remove(&self.source);
            }
        }
    }
}

/// What counts as one source: an IPv4 address, or the /64 network of which an IPv6 host can choose any address.
fn source_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn turn(admission: &Admission, address: &str) -> Result<Turn, Crowded> {
        admission.turn(None, address.parse().unwrap())
    }

    #[test]
    fn a_crowded_source_keeps_no_other_out_and_gets_its_places_back() {
        let admission = Admission::new();
        let turns: Vec<_> = (0..MAX_FROM_SOURCE).map(|_| turn(&admission, "10.0.0.1").unwrap()).collect();
        assert_eq!(turn(&admission, "10.0.0.1").err(), Some(Crowded { first: true }));
        assert_eq!(turn(&admission, "::ffff:10.0.0.1").err(), Some(Crowded { first: false }));
        assert!(turn(&admission, "10.0.0.2").is_ok());
        drop(turns);
        assert!(turn(&admission, "10.0.0.1").is_ok());
        assert!(admission.sources.lock().unwrap().is_empty());
    }

    #[test]
    fn an_ipv6_network_is_one_source() {
        let admission = Admission::new();
        let address = |host: usize| format!("2001:db8:0:1::{host:x}");
        let _turns: Vec<_> =
            (0..MAX_FROM_SOURCE).map(|host| turn(&admission, &address(host)).unwrap()).collect();
        assert!(turn(&admission, &address(MAX_FROM_SOURCE)).is_err());
        assert!(turn(&admission, "2001:db8:0:2::1").is_ok());
    }
}
