//! What makes two files the same data for the privacy budget.
//!
//! The ledger counts every release against a *data set*, and the site's limits hold per data set over all studies.
//! The identity has to survive what happens to a file in a hospital (a corrected cell, another column, a new export),
//! or else a correction would buy a fresh budget for the same patients. Therefore
//!
//! * with `[data] identity = "NAME"` in site.toml it is the digest of that name; whoever runs the site decides, and keeps
//!   the name for as long as any of the same patients are in the file. `identity = "sha256:<64 hex digits>"` names a data
//!   set that the ledger knows already by its digest;
//! * without it, it is the digest of the sorted unit ids, which no correction of cells changes, and, where records are
//!   their own units, the digest of the file.
//!
//! An identity that follows from the file changes when patients are added, although the others are the same people.
//! So a ledger that already holds charges of another data set refuses a new one until `identity` says what is meant:
//! see [`crate::policy::Refusal::DataSetUnknown`].

use fusiondp_dp::Digest;
use serde::Deserialize;

use super::Dataset;

/// The `identity` of a site's `[data]` section.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct DeclaredIdentity(Digest);

/// A configured identity that names nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Empty, or far too long.
    #[error("data.identity must have 1 to 200 characters; write a name such as \"icu-2020-2024\"")]
    Length,
    /// `sha256:` with something else than a digest behind it.
    #[error(
        "data.identity starts with \"sha256:\" but no 64 hex digits follow; copy the digest from `ledger show`"
    )]
    Digest,
}

impl TryFrom<String> for DeclaredIdentity {
    type Error = IdentityError;

    fn try_from(text: String) -> Result<Self, IdentityError> {
        if text.trim().is_empty() || text.chars().count() > 200 {
            return Err(IdentityError::Length);
        }
        match text.strip_prefix("sha256:") {
            Some(hex) => hex.parse().map(Self).map_err(|_| IdentityError::Digest),
            None => Ok(Self(Digest::of(format!("fusiondp data identity v1\0{text}").as_bytes()))),
        }
    }
}

/// A data set's identity, and where it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataIdentity {
    /// What the ledger counts charges against.
    pub digest: Digest,
    /// Whether the site declared it, rather than it following from the file.
    pub declared: bool,
}

impl DataIdentity {
    /// The identity of a data set under a site's configuration.
    pub fn of(dataset: &Dataset, declared: Option<&DeclaredIdentity>) -> Self {
        match declared {
            Some(DeclaredIdentity(digest)) => Self { digest: *digest, declared: true },
            None => Self { digest: dataset.units().digest().unwrap_or(dataset.digest()), declared: false },
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn declared(text: &str) -> Result<DeclaredIdentity, IdentityError> {
        text.to_owned().try_into()
    }

    #[test]
    fn names_and_digests_are_told_apart() {
        let digest = Digest::of(b"x");
        assert_eq!(declared(&format!("sha256:{digest}")).unwrap().0, digest);
        assert_ne!(declared("a").unwrap(), declared("b").unwrap());
        assert_eq!(declared("sha256:12").unwrap_err(), IdentityError::Digest);
        assert_eq!(declared("  ").unwrap_err(), IdentityError::Length);
    }
}
