//! Who a peer is, read from its certificate and from nowhere else.
//!
//! A FusionDP certificate carries exactly one DNS name `<id>.<role>.fusiondp` among its subject alternative names, for
//! example `leipzig.site.fusiondp`. The consortium's authority signs it, so no message can claim another id.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use sha2::{Digest, Sha256};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Last label of every identity name.
const SUFFIX: &str = ".fusiondp";

/// Longest id, a DNS label.
const MAX_ID_LENGTH: usize = 63;

/// What a certificate entitles to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Serves the consortium; the only one that listens.
    Coordinator,
    /// Takes part in studies with one hospital's data.
    Site,
    /// Submits, stops and exports studies.
    Admin,
}

impl Role {
    /// The label in the certificate's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Coordinator => "coordinator",
            Self::Site => "site",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        match text {
            "coordinator" => Ok(Self::Coordinator),
            "site" => Ok(Self::Site),
            "admin" => Ok(Self::Admin),
            other => Err(IdentityError::UnknownRole { role: shorten(other) }),
        }
    }
}

/// Why a certificate names nobody.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Not an X.509 certificate.
    #[error(
        "the certificate cannot be read as X.509; use the certificate file of the kit that `provision` wrote"
    )]
    Unreadable,
    /// No FusionDP name in the certificate.
    #[error(
        "the certificate has no DNS name of the form <id>.<role>.fusiondp; use a certificate that `provision` wrote"
    )]
    NoName,
    /// More than one FusionDP name: ambiguous, so refused.
    #[error("the certificate has {count} names of the form <id>.<role>.fusiondp; it must have exactly one")]
    SeveralNames {
        /// How many.
        count: usize,
    },
    /// A role that does not exist.
    #[error("unknown role `{role}` in the certificate's name; roles are coordinator, site and admin")]
    UnknownRole {
        /// The label found, shortened.
        role: String,
    },
    /// An id outside the permitted form.
    #[error("invalid id `{id}`: 1 to 63 characters of a-z, 0-9 and -, beginning with a letter or digit")]
    InvalidId {
        /// The id found, shortened.
        id: String,
    },
}

/// An authenticated peer.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PeerIdentity {
    id: String,
    role: Role,
    fingerprint: [u8; 32],
}

impl PeerIdentity {
    /// A declared identity, for connections inside one process. Its fingerprint is the digest of its name.
    ///
    /// # Errors
    /// [`IdentityError::InvalidId`].
    pub fn declared(id: &str, role: Role) -> Result<Self, IdentityError> {
        validate_id(id)?;
        let name = dns_name(id, role);
        Ok(Self { id: id.to_owned(), role, fingerprint: Sha256::digest(name.as_bytes()).into() })
    }

    /// Reads the identity out of a certificate in DER form. Says nothing about who signed it: that is the handshake's part.
    ///
    /// # Errors
    /// Every variant of [`IdentityError`]; a certificate with two identities is refused as well.
    pub fn from_certificate(der: &[u8]) -> Result<Self, IdentityError> {
        let certificate = parse(der)?;
        let names = identity_names(&certificate)?;
        let [name] = names.as_slice() else {
            return Err(match names.len() {
                0 => IdentityError::NoName,
                count => IdentityError::SeveralNames { count },
            });
        };
        let (id, role) = split_name(name)?;
        Ok(Self { id, role, fingerprint: Sha256::digest(der).into() })
    }

    /// The peer's id, unique within its role.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What the peer may do.
    #[must_use]
    pub const fn role(&self) -> Role {
        self.role
    }

    /// SHA-256 of the certificate in DER form.
    #[must_use]
    pub const fn fingerprint(&self) -> &[u8; 32] {
        &self.fingerprint
    }

    /// The certificate's name, `<id>.<role>.fusiondp`.
    #[must_use]
    pub fn dns_name(&self) -> String {
        dns_name(&self.id, self.role)
    }
}

impl fmt::Display for PeerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}`", self.role, self.id)
    }
}

impl fmt::Debug for PeerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerIdentity({}, {})", self.dns_name(), hex::encode(&self.fingerprint[..6]))
    }
}

/// What `check` tells about a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateSummary {
    /// Whom it names.
    pub identity: PeerIdentity,
    /// Common name of the authority that signed it, as the certificate claims.
    pub issuer: String,
    /// Begin of validity, Unix milliseconds.
    pub not_before_ms: u64,
    /// End of validity, Unix milliseconds.
    pub not_after_ms: u64,
}

impl CertificateSummary {
    /// Reads a certificate in DER form.
    ///
    /// # Errors
    /// As [`PeerIdentity::from_certificate`].
    pub fn from_certificate(der: &[u8]) -> Result<Self, IdentityError> {
        let identity = PeerIdentity::from_certificate(der)?;
        let certificate = parse(der)?;
        let issuer = certificate
            .issuer()
            .iter_common_name()
            .next()
            .and_then(|name| name.as_str().ok())
            .unwrap_or("(unnamed)")
            .to_owned();
        let (not_before_ms, not_after_ms) = Self::validity_ms(der)?.into_inner();
        Ok(Self { identity, issuer, not_before_ms, not_after_ms })
    }

    /// From when to when any certificate in DER form is valid, Unix milliseconds.
    ///
    /// # Errors
    /// [`IdentityError::Unreadable`].
    pub fn validity_ms(der: &[u8]) -> Result<RangeInclusive<u64>, IdentityError> {
        let milliseconds = |seconds: i64| u64::try_from(seconds).unwrap_or(0).saturating_mul(1_000);
        let certificate = parse(der)?;
        let validity = certificate.validity();
        Ok(milliseconds(validity.not_before.timestamp())..=milliseconds(validity.not_after.timestamp()))
    }

    /// Whole days until the certificate ends, negative once it has ended.
    #[must_use]
    pub fn days_left(&self, now_ms: u64) -> i64 {
        const DAY_MS: i128 = 86_400_000;
        let left = (i128::from(self.not_after_ms) - i128::from(now_ms)).div_euclid(DAY_MS);
        i64::try_from(left).unwrap_or(i64::MAX)
    }
}

/// The name a peer of this id and role carries in its certificate.
#[must_use]
pub fn dns_name(id: &str, role: Role) -> String {
    format!("{id}.{role}{SUFFIX}")
}

/// Checks an id: `[a-z0-9][a-z0-9-]{0,62}`.
///
/// # Errors
/// [`IdentityError::InvalidId`].
pub fn validate_id(id: &str) -> Result<(), IdentityError> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if id.is_empty() || id.len() > MAX_ID_LENGTH || id.starts_with('-') || !id.chars().all(allowed) {
        return Err(IdentityError::InvalidId { id: shorten(id) });
    }
    Ok(())
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, IdentityError> {
    X509Certificate::from_der(der).map(|(_, certificate)| certificate).map_err(|_| IdentityError::Unreadable)
}

fn identity_names(certificate: &X509Certificate<'_>) -> Result<Vec<String>, IdentityError> {
    let extension = certificate.subject_alternative_name().map_err(|_| IdentityError::Unreadable)?;
    let names = extension.map(|extension| extension.value.general_names.as_slice()).unwrap_or_default();
    Ok(names
        .iter()
        .filter_map(|name| match name {
            GeneralName::DNSName(name) if name.ends_with(SUFFIX) => Some((*name).to_owned()),
            _ => None,
        })
        .collect())
}

fn split_name(name: &str) -> Result<(String, Role), IdentityError> {
    let stem = name.strip_suffix(SUFFIX).ok_or(IdentityError::NoName)?;
    let (id, role) = stem.split_once('.').ok_or(IdentityError::NoName)?;
    validate_id(id)?;
    Ok((id.to_owned(), role.parse()?))
}

/// Certificates of strangers reach the log through these errors, so their text is bounded and printable.
fn shorten(text: &str) -> String {
    text.chars().take(MAX_ID_LENGTH).map(|c| if c.is_ascii_graphic() { c } else { '?' }).collect()
}

#[cfg(test)]
mod tests;
