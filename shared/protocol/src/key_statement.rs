//! What a site states about the key of its ledger: whose it is.
//!
//! A ledger keeps one key for ever, a certificate is renewed. A key statement says "this is my key" and is signed twice: with
//! the private key of the site's TLS certificate, and with the ledger's key itself. So whoever trusts the consortium's
//! authority can tell, offline, whose key signed a receipt, and nobody can claim a key that is another's.
//!
//! # Canonical form
//!
//! JSON without white space, fields in the order of declaration here. Both signatures are over the same bytes: those of
//! [`Statement::Key`] about the SHA-256 of the canonical form of [`KeyStatement`].

use fusiondp_dp::{Digest, ForeignSignature, LedgerKey, LedgerPublicKey, Signature, Statement};
use serde::{Deserialize, Serialize};

use crate::ids::SiteId;

/// Longest canonical JSON of a signed key statement, in bytes: certificates of RSA keys are the longest.
pub const MAX_KEY_STATEMENT_BYTES: usize = 32 << 10;

/// Form of a key statement; a later one has another name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyStatementFormat {
    /// This one.
    #[serde(rename = "fusiondp/key-statement/v1")]
    V1,
}

/// The statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyStatement {
    /// Form of this statement.
    pub format: KeyStatementFormat,
    /// Whose key it is.
    pub site: SiteId,
    /// The key that signs the site's ledger and receipts.
    pub ledger_key: LedgerPublicKey,
    /// SHA-256 of the site's certificate in DER form.
    pub certificate: Digest,
    /// When the statement was made, Unix milliseconds of the site's clock.
    pub made_ms: u64,
}

/// What the certificate's key signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateProof {
    /// Name of the signature scheme in RFC 8446, section 4.2.3.
    pub scheme: String,
    /// The signature in the scheme's encoding.
    pub signature: HexBytes,
    /// Certificates in DER form: the site's, then those between it and the authority.
    pub chain: Vec<HexBytes>,
}

/// Bytes that are hexadecimal digits in a text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HexBytes(pub Vec<u8>);

/// A statement with both signatures. Reading one proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedKeyStatement {
    /// The statement.
    pub statement: KeyStatement,
    /// Of the ledger's key.
    pub signature: Signature,
    /// Of the certificate's key.
    pub certificate: CertificateProof,
}

impl KeyStatement {
    /// SHA-256 of the canonical form.
    #[must_use]
    pub fn digest(&self) -> Digest {
        // Unwrap safety: the fields are an integer and texts, which serde_json cannot fail to write.
        Digest::of(&serde_json::to_vec(self).expect("a statement has a JSON form"))
    }

    /// The bytes that both keys sign.
    #[must_use]
    pub fn message(&self) -> Vec<u8> {
        Statement::Key.message(self.digest())
    }

    /// The statement with both signatures; `proof` is the certificate's under [`message`](Self::message).
    #[must_use]
    pub fn signed(self, key: &LedgerKey, proof: CertificateProof) -> SignedKeyStatement {
        let signature = key.sign(Statement::Key, self.digest());
        SignedKeyStatement { statement: self, signature, certificate: proof }
    }
}

impl SignedKeyStatement {
    /// Checks the signature of the ledger's key: that whoever made the statement holds it. The certificate's signature is for
    /// whoever has the authority.
    ///
    /// # Errors
    /// [`ForeignSignature`].
    pub fn verify_ledger_key(&self) -> Result<(), ForeignSignature> {
        self.statement.ledger_key.verify(Statement::Key, self.statement.digest(), &self.signature)
    }

    /// The canonical form, with both signatures.
    #[must_use]
    pub fn canonical_json(&self) -> String {
        // Unwrap safety: as for the statement alone.
        serde_json::to_string(self).expect("a statement has a JSON form")
    }
}

impl TryFrom<String> for HexBytes {
    type Error = hex::FromHexError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        hex::decode(text).map(Self)
    }
}

impl From<HexBytes> for String {
    fn from(bytes: HexBytes) -> String {
        hex::encode(bytes.0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::testing::{key_statement, ledger_key};

    #[test]
    fn a_statement_survives_its_canonical_form_and_stands_under_its_key_only() {
        let signed = key_statement();
        signed.verify_ledger_key().unwrap();
        let text = signed.canonical_json();
        let read: SignedKeyStatement = serde_json::from_str(&text).unwrap();
        assert_eq!((&read, read.canonical_json()), (&signed, text.clone()));
        assert!(text.len() < MAX_KEY_STATEMENT_BYTES);
        let extra = text.replacen("{\"format\"", "{\"x\":1,\"format\"", 1);
        assert!(serde_json::from_str::<SignedKeyStatement>(&extra).is_err());
        let changes: [fn(&mut KeyStatement); 4] = [
            |one| one.site = "other".parse().unwrap(),
            |one| one.ledger_key = LedgerKey::from_seed([9; LedgerKey::SEED_BYTES]).public(),
            |one| one.certificate = Digest::of(b"other"),
            |one| one.made_ms += 1,
        ];
        for (index, change) in changes.into_iter().enumerate() {
            let mut changed = signed.clone();
            change(&mut changed.statement);
            assert!(changed.verify_ledger_key().is_err(), "change {index}");
        }
    }

    /// Neither key's signature can be taken for one of another kind.
    #[test]
    fn the_signed_bytes_are_the_documented_ones_and_no_receipts() {
        let signed = key_statement();
        let statement = &signed.statement;
        let json = format!(
            "{{\"format\":\"fusiondp/key-statement/v1\",\"site\":\"site-1\",\"ledger_key\":\"{}\",\"certificate\":\"{}\",\
             \"made_ms\":5}}",
            ledger_key().public(),
            statement.certificate
        );
        let domain = b"fusiondp/key-statement-signature/v1\0".as_slice();
        assert_eq!(statement.message(), [domain, Digest::of(json.as_bytes()).as_bytes()].concat());
        for other in [Statement::Receipt, Statement::Entry] {
            let digest = statement.digest();
            assert!(ledger_key().public().verify(other, digest, &signed.signature).is_err(), "{other:?}");
        }
    }
}
