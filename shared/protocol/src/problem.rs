//! What can go wrong between two ends, as a closed set that both ends know.
//!
//! A problem travels as a gRPC status: the code is chosen by the kind, the metadata key [`PROBLEM_METADATA`] holds the
//! kind, the message is the detail. A receiver decides by the kind and shows the detail.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use tonic::{Code, Status};

/// Metadata key of a status that holds the problem type.
pub const PROBLEM_METADATA: &str = "fusiondp-problem";

/// Longest detail, in characters.
pub const MAX_DETAIL_LENGTH: usize = 1024;

macro_rules! problem_types {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $code:ident, $retry:ident;)*) => {
        /// Every kind of problem that an end may report to the other.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "&'static str")]
        pub enum ProblemType {
            $($(#[$doc])* $name,)*
        }

        impl ProblemType {
            /// All of them, in the order of this file.
            pub const ALL: &'static [ProblemType] = &[$(ProblemType::$name,)*];

            /// The name on the wire, kebab-case.
            pub const fn as_str(self) -> &'static str {
                match self { $(ProblemType::$name => $text,)* }
            }

            /// The status code it travels under.
            pub const fn code(self) -> Code {
                match self { $(ProblemType::$name => Code::$code,)* }
            }

            /// Whether the same call may succeed later without anybody changing anything.
            pub const fn is_retryable(self) -> bool {
                match self { $(ProblemType::$name => problem_types!(@retry $retry),)* }
            }
        }
    };
    (@retry retry) => { true };
    (@retry final) => { false };
}

problem_types! {
    /// The two ends speak different versions of the protocol.
    ProtocolVersionMismatch = "protocol-version-mismatch", FailedPrecondition, final;
    /// A message breaks a limit, lacks a field or holds a value out of its range.
    MalformedMessage = "malformed-message", InvalidArgument, final;
    /// The certificate names a site that is not part of the consortium.
    UnknownSite = "unknown-site", PermissionDenied, final;
    /// The connection carries no certificate of the consortium.
    NotAuthenticated = "not-authenticated", Unauthenticated, final;
    /// The certificate is for another role than the call needs.
    WrongRole = "wrong-role", PermissionDenied, final;
    /// No study has this id.
    UnknownStudy = "unknown-study", NotFound, final;
    /// No such model version is kept.
    UnknownModelVersion = "unknown-model-version", NotFound, final;
    /// The site has not enrolled in the study.
    NotEnrolled = "not-enrolled", FailedPrecondition, final;
    /// The study has ended.
    StudyEnded = "study-ended", FailedPrecondition, final;
    /// The study document does not stand: unknown field, value out of range, settings that contradict each other.
    StudyInvalid = "study-invalid", InvalidArgument, final;
    /// A message speaks of other study bytes than the receiver holds.
    StudyDigestMismatch = "study-digest-mismatch", FailedPrecondition, final;
    /// A figure of the plan does not agree with what the receiver computes itself.
    PlanMismatch = "plan-mismatch", FailedPrecondition, final;
    /// The site's policy does not permit it.
    PolicyRefusal = "policy-refusal", FailedPrecondition, final;
    /// A person at the site has to approve the study first; the offer stays open.
    ApprovalPending = "approval-pending", FailedPrecondition, final;
    /// The site's privacy budget does not permit it.
    BudgetExceeded = "budget-exceeded", FailedPrecondition, final;
    /// The site's imputer is not the one the study pins, or is not acceptable.
    ImputerMismatch = "imputer-mismatch", FailedPrecondition, final;
    /// The site's columns do not fit the study's schema.
    SchemaMismatch = "schema-mismatch", FailedPrecondition, final;
    /// The site's data could not be read or breaks its declaration.
    DataError = "data-error", FailedPrecondition, final;
    /// The site's ledger could not be read, verified or written.
    LedgerError = "ledger-error", FailedPrecondition, final;
    /// What the site states about the key of its ledger does not hold, or it enrolls with another key; the detail says what.
    KeyStatementInvalid = "key-statement-invalid", FailedPrecondition, final;
    /// A site's epsilon is not what the coordinator computes from its receipts; the detail says who claims what.
    EpsilonDisagreement = "epsilon-disagreement", FailedPrecondition, final;
    /// More bytes than the negotiated limits allow.
    TooLarge = "too-large", OutOfRange, final;
    /// Bytes arrived that do not have the digest announced for them.
    DigestMismatch = "digest-mismatch", DataLoss, retry;
    /// An answer to a task that is no longer open.
    StaleTask = "stale-task", Aborted, final;
    /// The same thing with other content is stored already.
    Duplicate = "duplicate", AlreadyExists, final;
    /// A defect or a passing fault of the reporting end; its own log says more.
    Internal = "internal", Internal, retry;
    /// The reporting end is shutting down.
    ShuttingDown = "shutting-down", Unavailable, retry;
}

/// A text that names no problem type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown problem type; the other end may be newer, compare the protocol versions")]
pub struct UnknownProblemType;

impl fmt::Display for ProblemType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

impl FromStr for ProblemType {
    type Err = UnknownProblemType;

    fn from_str(text: &str) -> Result<Self, UnknownProblemType> {
        Self::ALL.iter().copied().find(|kind| kind.as_str() == text).ok_or(UnknownProblemType)
    }
}

impl TryFrom<String> for ProblemType {
    type Error = UnknownProblemType;

    fn try_from(text: String) -> Result<Self, UnknownProblemType> {
        text.parse()
    }
}

impl From<ProblemType> for &'static str {
    fn from(kind: ProblemType) -> &'static str {
        kind.as_str()
    }
}

/// A problem with one line for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{kind}: {detail}")]
pub struct Problem {
    /// What a program decides by.
    pub kind: ProblemType,
    /// What people read: one line that names field, value and remedy, free of patient values.
    pub detail: String,
}

impl Problem {
    /// Makes a problem; the detail is brought to one line of at most [`MAX_DETAIL_LENGTH`] characters.
    pub fn new(kind: ProblemType, detail: impl AsRef<str>) -> Self {
        Self { kind, detail: one_line(detail.as_ref()) }
    }

    /// Whether the same call may succeed later without anybody changing anything.
    pub fn is_retryable(&self) -> bool {
        self.kind.is_retryable()
    }

    /// Reads the problem that a status carries; `None` when the status comes from the transport or names a type that
    /// this version does not know.
    pub fn from_status(status: &Status) -> Option<Self> {
        let kind = status.metadata().get(PROBLEM_METADATA)?.to_str().ok()?.parse().ok()?;
        Some(Self::new(kind, status.message()))
    }
}

impl From<Problem> for Status {
    fn from(problem: Problem) -> Status {
        let mut status = Status::new(problem.kind.code(), problem.detail);
        let kind = tonic::metadata::MetadataValue::from_static(problem.kind.as_str());
        status.metadata_mut().insert(PROBLEM_METADATA, kind);
        status
    }
}

/// Replaces control characters by spaces, drops what surrounds the text, and cuts it at [`MAX_DETAIL_LENGTH`].
pub(crate) fn one_line(text: &str) -> String {
    let flat = |character: char| if character.is_control() { ' ' } else { character };
    text.trim().chars().take(MAX_DETAIL_LENGTH).map(flat).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_kebab_case_unique_and_read_back() {
        let mut seen = BTreeSet::new();
        for &kind in ProblemType::ALL {
            let text = kind.as_str();
            assert!(text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'), "{text}");
            assert!(seen.insert(text), "{text} twice");
            assert_eq!(text.parse::<ProblemType>().unwrap(), kind);
            let json = serde_json::to_string(&kind).unwrap();
            assert_eq!(serde_json::from_str::<ProblemType>(&json).unwrap(), kind);
        }
    }

    #[test]
    fn every_kind_survives_a_status() {
        for &kind in ProblemType::ALL {
            let problem = Problem::new(kind, "field x is 3; use 2");
            let status = Status::from(problem.clone());
            assert_eq!(status.code(), kind.code());
            assert_eq!(Problem::from_status(&status).unwrap(), problem);
        }
    }

    #[test]
    fn a_status_of_the_transport_is_no_problem() {
        assert_eq!(Problem::from_status(&Status::unavailable("connection reset")), None);
        let mut status = Status::internal("x");
        status.metadata_mut().insert(PROBLEM_METADATA, "from-the-future".parse().unwrap());
        assert_eq!(Problem::from_status(&status), None);
    }

    #[test]
    fn only_passing_faults_are_retried() {
        let retried: Vec<_> = ProblemType::ALL.iter().filter(|kind| kind.is_retryable()).collect();
        let expected = [&ProblemType::DigestMismatch, &ProblemType::Internal, &ProblemType::ShuttingDown];
        assert_eq!(retried, expected);
    }

    proptest! {
        #[test]
        fn a_detail_is_one_short_line(text in "(?s).{0,3000}") {
            let problem = Problem::new(ProblemType::Internal, text);
            prop_assert!(problem.detail.chars().count() <= MAX_DETAIL_LENGTH);
            prop_assert!(!problem.detail.contains('\n'));
            let status = Status::from(problem.clone());
            prop_assert_eq!(Problem::from_status(&status).unwrap().kind, problem.kind);
        }
    }
}
