//! What makes two files the same data for the privacy budget.
//!
//! The ledger counts every release against a *data set*, and the site's limits hold per data set over all studies.
//! The identity has to survive what happens to a file in a hospital (a corrected cell, another column, a new export),
//! or else a correction would buy a fresh budget for the same patients. Therefore
//!
//! * with `[data] identity = "NAME"` in site.toml it is the digest of that name; whoever runs the site decides, and keeps
//!   the name for as long as any of the same patients are in the file. `identity = "sha256:<64 hex digits>"` names a data
//!   set that the ledger knows already by its digest;
//! * without it, it follows from the sorted unit ids, which no correction of cells changes, and, where records are their
//!   own units, from the bytes of the file.
//!
//! The identity stands in every ledger entry, and the coordinator mirrors those. A plain digest of a file would let
//! whoever knows all of it but one sensitive cell try out that cell, so what follows from the file is keyed with a secret
//! of the state folder ([`IdentityKey`]) that never leaves the site.
//!
//! An identity that follows from the file changes when patients are added, although the others are the same people.
//! So a ledger that already holds charges of another data set refuses a new one until `identity` says what is meant:
//! see [`crate::policy::Refusal::DataSetUnknown`].

use fusiondp_dp::{Digest, SecureRng};
use hmac::{Hmac, KeyInit, Mac};
use rand::Rng;
use serde::Deserialize;
use sha2::Sha256;

use super::Dataset;

/// Secret with which a site turns its data into an identity. No `Debug`.
#[derive(Clone)]
pub struct IdentityKey([u8; IdentityKey::BYTES]);

impl IdentityKey {
    /// Length in bytes.
    pub const BYTES: usize = 32;

    /// A key of the operating system's randomness.
    ///
    /// # Errors
    /// The operating system gives none.
    pub fn random() -> Result<Self, fusiondp_dp::SeedError> {
        let mut bytes = [0; Self::BYTES];
        SecureRng::from_os()?.fill_bytes(&mut bytes);
        Ok(Self(bytes))
    }

    /// A key that was stored.
    pub fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    /// The bytes, to store them.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// HMAC-SHA-256 of a digest under this key.
    fn identify(&self, digest: Digest) -> Digest {
        // Unwrap safety: HMAC takes keys of any length.
        #[allow(clippy::unwrap_used)]
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).unwrap();
        mac.update(b"fusiondp data set v2\0");
        mac.update(digest.as_bytes());
        Digest::from_bytes(mac.finalize().into_bytes().into())
    }
}

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
        // A blank at the end must not be another data set with a fresh budget.
        let text = text.trim();
        if text.is_empty() || text.chars().count() > 200 {
            return Err(IdentityError::Length);
        }
        match text.strip_prefix("sha256:") {
            Some(hex) => hex.parse().map(Self).map_err(|_| IdentityError::Digest),
            None => Ok(Self(Digest::of(format!("fusiondp data identity v1\0{text}").as_bytes()))),
        }
    }
}

impl DeclaredIdentity {
    /// The identity of the data that is declared so.
    pub fn data(&self) -> DataIdentity {
        DataIdentity { digest: self.0, declared: true }
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
    pub fn of(dataset: &Dataset, declared: Option<&DeclaredIdentity>, key: &IdentityKey) -> Self {
        match declared {
            Some(declared) => declared.data(),
            None => {
                let digest = dataset.units().digest().unwrap_or(dataset.digest());
                Self { digest: key.identify(digest), declared: false }
            }
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
        assert_eq!(declared(" icu\t").unwrap(), declared("icu").unwrap());
    }

    #[test]
    fn an_identity_that_follows_from_the_data_cannot_be_guessed_without_the_key() {
        let digest = Digest::of(b"the file");
        let (one, other) = (IdentityKey::random().unwrap(), IdentityKey::random().unwrap());
        assert_eq!(one.identify(digest), one.identify(digest));
        assert_ne!(one.identify(digest), other.identify(digest));
        assert_ne!(one.identify(digest), digest);
        assert_ne!(one.identify(digest), one.identify(Digest::of(b"another file")));
    }
}
