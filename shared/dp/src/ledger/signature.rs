//! The site's signature under its ledger: Ed25519 (RFC 8032) over the hash of what is signed.
//!
//! The chain shows that entries belong together; a signature shows whose they are. Whoever holds copies of a site's
//! entries, such as the coordinator, can neither change nor invent one, and the site can tell its own from others'.
//!
//! # Bytes that are signed
//!
//! The domain of the [`Statement`] as ASCII, one zero byte, then the 32 bytes of the SHA-256. Domains keep a signature of one
//! kind from standing under another.
//!
//! | statement | domain | digest of |
//! |---|---|---|
//! | [`Statement::Entry`] | `fusiondp/ledger-signature/v1` | the entry, see the [module documentation](super) |
//! | [`Statement::Receipt`] | `fusiondp/receipt-signature/v1` | the receipt's canonical JSON |
//! | [`Statement::Key`] | `fusiondp/key-statement-signature/v1` | the key statement's canonical JSON |

use std::fmt;

use rand::CryptoRng;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use serde::{Deserialize, Serialize};

use super::{LedgerEntry, LedgerError};
use crate::params::{Digest, hex_bytes};

hex_bytes! {
    /// Public half of a [`LedgerKey`], as people compare it: 64 hexadecimal digits.
    LedgerPublicKey, 32, "ledger key"
}

hex_bytes! {
    /// An Ed25519 signature.
    Signature, 64, "signature"
}

/// What a signature stands under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Statement {
    /// "This charge is in my ledger."
    Entry,
    /// "I have released this update."
    Receipt,
    /// "This is my key, and this is my certificate." Signed with both.
    Key,
}

impl Statement {
    const fn domain(self) -> &'static str {
        match self {
            Self::Entry => "fusiondp/ledger-signature/v1",
            Self::Receipt => "fusiondp/receipt-signature/v1",
            Self::Key => "fusiondp/key-statement-signature/v1",
        }
    }

    /// The bytes under a signature, for whoever signs the same statement with another key too.
    #[must_use]
    pub fn message(self, digest: Digest) -> Vec<u8> {
        [self.domain().as_bytes(), &[0], digest.as_bytes()].concat()
    }
}

/// A signature that is not of the key that it should be of.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the signature is not of ledger key {key}")]
pub struct ForeignSignature {
    /// The key that should have signed.
    pub key: LedgerPublicKey,
}

/// The secret that a site signs its ledger with. It has no serialization, and its Debug shows the public half only.
pub struct LedgerKey {
    seed: [u8; Self::SEED_BYTES],
    pair: Ed25519KeyPair,
}

impl LedgerKey {
    /// Length of a seed.
    pub const SEED_BYTES: usize = 32;

    /// A fresh key.
    #[must_use]
    pub fn random<R: CryptoRng + ?Sized>(rng: &mut R) -> Self {
        let mut seed = [0; Self::SEED_BYTES];
        rng.fill_bytes(&mut seed);
        Self::from_seed(seed)
    }

    /// The key of a seed, which is as secret as the key.
    #[must_use]
    pub fn from_seed(seed: [u8; Self::SEED_BYTES]) -> Self {
        // Unwrap safety: every 32 bytes are a seed, and nothing else is checked.
        #[allow(clippy::unwrap_used)]
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).unwrap();
        Self { seed, pair }
    }

    /// The seed, for whoever stores the key.
    #[must_use]
    pub fn seed(&self) -> &[u8; Self::SEED_BYTES] {
        &self.seed
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> LedgerPublicKey {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(self.pair.public_key().as_ref());
        LedgerPublicKey::from_bytes(bytes)
    }

    /// Signs a statement about what has this digest.
    #[must_use]
    pub fn sign(&self, statement: Statement, digest: Digest) -> Signature {
        let mut bytes = [0; 64];
        bytes.copy_from_slice(self.pair.sign(&statement.message(digest)).as_ref());
        Signature::from_bytes(bytes)
    }

    /// Signs an entry.
    #[must_use]
    pub fn sign_entry(&self, entry: LedgerEntry) -> SignedEntry {
        let signature = self.sign(Statement::Entry, entry.hash());
        SignedEntry { entry, signature }
    }
}

impl fmt::Debug for LedgerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LedgerKey").field("public", &self.public()).finish_non_exhaustive()
    }
}

impl LedgerPublicKey {
    /// Checks a signature under a statement about what has this digest.
    ///
    /// # Errors
    /// [`ForeignSignature`].
    pub fn verify(
        &self,
        statement: Statement,
        digest: Digest,
        signature: &Signature,
    ) -> Result<(), ForeignSignature> {
        UnparsedPublicKey::new(&ED25519, self.as_bytes())
            .verify(&statement.message(digest), signature.as_bytes())
            .map_err(|_| ForeignSignature { key: *self })
    }
}

/// An entry with the site's signature over its hash.
///
/// Deserializing one proves nothing; [`SignedEntry::verify`] does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedEntry {
    /// The entry.
    pub entry: LedgerEntry,
    /// The site's signature.
    pub signature: Signature,
}

impl SignedEntry {
    /// Checks the entry by itself and that `key` signed it. Whether it follows on another is for whoever has that one.
    ///
    /// # Errors
    /// [`LedgerError`] naming the entry.
    pub fn verify(&self, key: &LedgerPublicKey) -> Result<(), LedgerError> {
        self.entry.verify()?;
        key.verify(Statement::Entry, self.entry.hash(), &self.signature)
            .map_err(|source| LedgerError::Signature { sequence: self.entry.sequence(), key: source.key })
    }

    /// JSON without white space, fields in declaration order, as [`LedgerEntry::canonical_json`].
    #[must_use]
    pub fn canonical_json(&self) -> String {
        // Unwrap safety: an entry has a JSON form, and a signature is a text.
        serde_json::to_string(self).expect("a signed entry has a JSON form")
    }
}
