//! Keys and certificates: ECDSA on P-256, names as [`fusiondp_runtime::identity`] reads them.

use std::path::Path;
use std::time::Duration;

use fusiondp_runtime::Role;
use fusiondp_runtime::files::{create_private, read_limited};
use fusiondp_runtime::identity::dns_name;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};

use super::ProvisionError;

/// For clocks that lag behind this one.
const BACKDATED_MS: u64 = 5 * 60 * 1_000;
const DAY_MS: u64 = 86_400_000;
/// Last moment that a certificate can state: the end of the year 9999.
const END_OF_TIME_MS: u64 = 253_402_300_799_000;
const MAX_KEY_BYTES: u64 = 64 * 1024;

/// Whom a certificate is for.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    pub(super) id: String,
    pub(super) role: Role,
    /// Further names and addresses; the coordinator's only.
    pub(super) hosts: Vec<String>,
}

impl Subject {
    pub(super) fn name(&self) -> String {
        dns_name(&self.id, self.role)
    }

    /// Parameters of the participant's certificate, valid until `not_after_ms` at most.
    pub(super) fn params(
        &self,
        consortium: &str,
        validity: Validity,
    ) -> Result<CertificateParams, ProvisionError> {
        let names: Vec<String> = std::iter::once(self.name()).chain(self.hosts.iter().cloned()).collect();
        let mut params = CertificateParams::new(names)
            .map_err(|source| ProvisionError::Signing { subject: self.name(), source })?;
        params.distinguished_name = distinguished_name(&self.name(), consortium);
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![match self.role {
            Role::Coordinator => ExtendedKeyUsagePurpose::ServerAuth,
            Role::Site | Role::Admin => ExtendedKeyUsagePurpose::ClientAuth,
        }];
        validity.apply(&mut params);
        Ok(params)
    }
}

/// Parameters of the authority's certificate.
pub(super) fn authority_params(common_name: &str, consortium: &str, validity: Validity) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = distinguished_name(common_name, consortium);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    validity.apply(&mut params);
    params
}

fn distinguished_name(common_name: &str, organization: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, organization);
    name.push(DnType::CommonName, common_name);
    name
}

/// From when to when, Unix milliseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Validity {
    not_before_ms: u64,
    not_after_ms: u64,
}

impl Validity {
    /// `days` from `now_ms`, not beyond `end_ms`. `None` if nothing is left or no certificate can state it.
    pub(super) fn new(now_ms: u64, days: u32, end_ms: u64) -> Option<Self> {
        let not_before_ms = now_ms.saturating_sub(BACKDATED_MS);
        let not_after_ms = now_ms.saturating_add(u64::from(days).saturating_mul(DAY_MS)).min(end_ms);
        (not_after_ms > now_ms && not_after_ms <= END_OF_TIME_MS)
            .then_some(Self { not_before_ms, not_after_ms })
    }

    fn apply(self, params: &mut CertificateParams) {
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        // Whole seconds: a certificate states no fractions.
        params.not_before = epoch + Duration::from_secs(self.not_before_ms / 1_000);
        params.not_after = epoch + Duration::from_secs(self.not_after_ms / 1_000);
    }
}

/// The key of a file, or a new one written there first.
///
/// Returns whether it is new. A key that exists is never replaced.
pub(super) fn open_or_create_key(path: &Path, subject: &str) -> Result<(KeyPair, bool), ProvisionError> {
    if path.exists() {
        let bytes = read_limited(path, MAX_KEY_BYTES)?;
        let unusable = |problem: &str| ProvisionError::KeyUnusable {
            path: path.to_owned(),
            problem: problem.to_owned(),
        };
        let text = std::str::from_utf8(&bytes).map_err(|_| unusable("not text"))?;
        let key = KeyPair::from_pem(text).map_err(|_| unusable("not PEM, or another kind of key"))?;
        return Ok((key, false));
    }
    let key = KeyPair::generate()
        .map_err(|source| ProvisionError::Signing { subject: subject.to_owned(), source })?;
    create_private(path, key.serialize_pem().as_bytes())?;
    Ok((key, true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn validity_is_clamped_and_never_empty() {
        let now = 1_800_000_000_000;
        assert!(Validity::new(now, 1, now).is_none(), "the authority ends now");
        assert!(Validity::new(END_OF_TIME_MS, 1, u64::MAX).is_none());
        let clamped = Validity::new(now, 10, now + DAY_MS);
        assert!(clamped.is_some_and(|validity| validity.not_after_ms == now + DAY_MS));
        let free = Validity::new(now, 10, u64::MAX);
        assert!(free.is_some_and(
            |validity| validity.not_after_ms - validity.not_before_ms == 10 * DAY_MS + BACKDATED_MS
        ));
    }
}
