#![allow(clippy::unwrap_used)]
//! Real handshakes on 127.0.0.1 with certificates made for the test.

mod credentials;
mod logs;
mod members;
mod memory;
mod pki;
mod reconnect;
mod service;
mod signing;
mod strangers;
