//! The coordinator with sites that speak the real protocol over in-memory connections.
#![allow(clippy::unwrap_used)]

mod attempts;
mod counts;
mod fake;
mod faults;
mod keys;
mod refusals;
mod restart;
mod rounds;
mod setup;
mod whole_study;
