//! Whose a ledger's key is: what a site states about it, under the consortium's authority.

use std::ops::RangeInclusive;

use fusiondp_dp::{ForeignSignature, LedgerPublicKey};
use fusiondp_protocol::receipt::ReceiptsHeader;
use fusiondp_protocol::{Digest, SignedKeyStatement, SiteId};
use fusiondp_runtime::Role;
use fusiondp_runtime::tls::{Authority, CertificateSignature, SignatureProblem};
use serde::Serialize;

use crate::text::time;

/// A key statement that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyStatementError {
    /// It speaks of another site.
    #[error("the key statement is of site {found}")]
    OtherSite {
        /// Whose key it says it is.
        found: SiteId,
    },
    /// The certificate with it is not the one that it names.
    #[error("the key statement names another certificate than the one with it")]
    OtherCertificate,
    /// The certificate is somebody else's.
    #[error("the key statement is signed with the certificate of {found}")]
    OtherHolder {
        /// Whom the certificate names.
        found: String,
    },
    /// The certificate, or its signature, does not stand.
    #[error("the key statement does not stand under the authority: {0}")]
    Certificate(#[from] SignatureProblem),
    /// Whoever made the statement does not hold the ledger's key.
    #[error("the key statement is not signed with the ledger key that it is about: {0}")]
    LedgerKey(#[from] ForeignSignature),
}

/// What is known of whose key signed a site's receipts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyBinding {
    /// No authority was given, so nobody looked.
    NotChecked,
    /// Bound to these certificates of the site, one of which was valid at each charge. At least one.
    Bound(Vec<BoundCertificate>),
    /// Not bound; the problems of the site say why.
    Unbound,
}

/// A certificate that a key is bound to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BoundCertificate {
    /// SHA-256 of the certificate in DER form.
    pub fingerprint: Digest,
    /// Begin of its validity, Unix milliseconds.
    pub from_ms: u64,
    /// End of its validity, Unix milliseconds.
    pub until_ms: u64,
}

/// Place in the ledger and time, Unix milliseconds, of one charge.
pub(super) type ChargeTime = (u64, u64);

impl KeyBinding {
    /// Whether the key that a file's receipts are signed with is the site's, with what does not hold. Certificates count at the
    /// times of the charges, and not today: receipts are kept for longer than certificates.
    pub(super) fn check(
        header: &ReceiptsHeader,
        charges: &[ChargeTime],
        authority: &Authority,
    ) -> (Self, Vec<String>) {
        let mut problems = Vec::new();
        let mut keys = Vec::new();
        for signed in &header.key_statements {
            match BoundKey::verified(signed, &header.site, authority) {
                Ok(key) if key.ledger_key != header.ledger_key => problems.push(format!(
                    "the key statement is about key {}, the receipts are signed with {}",
                    key.ledger_key, header.ledger_key
                )),
                Ok(key) => keys.push(key),
                Err(error @ KeyStatementError::Certificate(SignatureProblem::NotAccepted { .. })) => {
                    problems.push(format!("{error}; {SEVERAL}"));
                }
                Err(error) => problems.push(error.to_string()),
            }
        }
        if header.key_statements.is_empty() {
            problems.push(
                "whose key signed cannot be told: the file holds no key statement; the site's agent is older, or it was \
                 left out"
                    .to_owned(),
            );
        } else if problems.is_empty() {
            problems.extend(outside(&keys, charges));
        }
        if !problems.is_empty() {
            return (Self::Unbound, problems);
        }
        (Self::Bound(keys.into_iter().map(BoundCertificate::from).collect()), problems)
    }
}

/// What helps where a certificate is honest and of another authority: a site states one key under all that it has had.
const SEVERAL: &str = "if the site has had certificates of another authority too, such as before a new one or in a second consortium, \
                       give --ca a PEM file with the certificates of all of them";

/// The first charge that no certificate was valid at.
fn outside(keys: &[BoundKey], charges: &[ChargeTime]) -> Option<String> {
    let covered = |time_ms: &u64| keys.iter().any(|key| key.valid_ms.contains(time_ms));
    let mut open = charges.iter().filter(|(_, time_ms)| !covered(time_ms));
    let (sequence, time_ms) = open.next()?;
    let others = match open.count() {
        0 => String::new(),
        others => format!(", and {others} more charges likewise"),
    };
    Some(format!(
        "charge {sequence} was made at {}, when no certificate of the site was valid{others}",
        time(*time_ms)
    ))
}

impl From<BoundKey> for BoundCertificate {
    fn from(key: BoundKey) -> Self {
        let (from_ms, until_ms) = key.valid_ms.into_inner();
        Self { fingerprint: key.certificate, from_ms, until_ms }
    }
}

/// A key that is bound to a site's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BoundKey {
    pub(crate) ledger_key: LedgerPublicKey,
    /// SHA-256 of the certificate in DER form.
    pub(crate) certificate: Digest,
    /// When the certificate was valid, Unix milliseconds.
    pub(crate) valid_ms: RangeInclusive<u64>,
}

impl BoundKey {
    /// Checks that a statement is the site's, under a certificate of the authority that was valid when it was made, and that its
    /// maker held both keys.
    pub(crate) fn verified(
        signed: &SignedKeyStatement,
        site: &SiteId,
        authority: &Authority,
    ) -> Result<Self, KeyStatementError> {
        let statement = &signed.statement;
        if statement.site != *site {
            return Err(KeyStatementError::OtherSite { found: statement.site.clone() });
        }
        let proof = CertificateSignature {
            chain: signed.certificate.chain.iter().map(|der| der.0.clone()).collect(),
            scheme: signed.certificate.scheme.clone(),
            signature: signed.certificate.signature.0.clone(),
        };
        let signer = authority.verify(&proof, &statement.message(), statement.made_ms)?;
        if Digest::from_bytes(*signer.identity.fingerprint()) != statement.certificate {
            return Err(KeyStatementError::OtherCertificate);
        }
        if signer.identity.role() != Role::Site || signer.identity.id() != site.as_str() {
            return Err(KeyStatementError::OtherHolder { found: signer.identity.dns_name() });
        }
        signed.verify_ledger_key()?;
        Ok(Self {
            ledger_key: statement.ledger_key,
            certificate: statement.certificate,
            valid_ms: signer.valid_ms,
        })
    }
}
