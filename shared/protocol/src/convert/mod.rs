//! Wire to domain with limits, domain to wire without loss.
//!
//! `TryFrom` of a generated message refuses a missing field, a length or number out of range, a digest that is no
//! digest, a real number that is not finite, and fields that contradict each other. The error names the field as
//! `Message.field`.

mod admin;
mod checks;
mod connection;
mod decline;
mod enrolment;
mod error;
mod evaluation;
mod plan;
mod training;
mod update;

pub use admin::{listed_sites, listed_studies};
pub use error::ConvertError;

#[cfg(test)]
mod tests;
