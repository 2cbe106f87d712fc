//! Why a message was refused.

use crate::problem::{Problem, ProblemType};

/// A message that does not stand.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConvertError {
    /// A field that must be there is not.
    #[error("{field} is missing; send it")]
    Missing {
        /// `Message.field`.
        field: &'static str,
    },
    /// A value that its type refuses.
    #[error("{field}: {problem}")]
    Invalid {
        /// `Message.field`.
        field: &'static str,
        /// What is wrong, and the remedy.
        problem: String,
    },
    /// A number out of range, or not finite.
    #[error("{field} = {value} is out of range; send {range}")]
    OutOfRange {
        /// `Message.field`.
        field: &'static str,
        /// The value.
        value: String,
        /// What is allowed.
        range: String,
    },
    /// Too many bytes, characters or elements.
    #[error("{field} has length {length}, the limit is {limit}; send less")]
    TooLong {
        /// `Message.field`.
        field: &'static str,
        /// Length of the value.
        length: usize,
        /// Largest length allowed.
        limit: usize,
    },
    /// Two fields that cannot both be true.
    #[error("{field} contradicts the rest of the message: {problem}")]
    Contradiction {
        /// `Message.field`.
        field: &'static str,
        /// What contradicts what.
        problem: &'static str,
    },
}

impl From<ConvertError> for Problem {
    fn from(error: ConvertError) -> Problem {
        let kind = match error {
            ConvertError::TooLong { .. } => ProblemType::TooLarge,
            _ => ProblemType::MalformedMessage,
        };
        Problem::new(kind, error.to_string())
    }
}

impl From<ConvertError> for tonic::Status {
    fn from(error: ConvertError) -> tonic::Status {
        Problem::from(error).into()
    }
}
