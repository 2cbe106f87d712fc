//! What is signed with a certificate's key stands under its authority, for those bytes, while it was valid.

use super::pki::{self, Leaf, client, server};
use crate::clock::{Clock, SystemClock};
use crate::tls::{Authority, CertificateSignature, SignatureProblem};

const DAY_MS: u64 = 86_400_000;
const MESSAGE: &[u8] = b"test/v1\0what is signed";

/// A signature by a certificate of ten days before and after now, and its authority.
fn signed(folder: &std::path::Path, leaf: &Leaf<'_>) -> (CertificateSignature, Authority) {
    let files = pki::Authority::new("Consortium").kit(folder, "site", leaf);
    (files.load().unwrap().sign(MESSAGE).unwrap(), Authority::read(&files.ca).unwrap())
}

fn ten_days<'a>(names: &'a [&'a str]) -> Leaf<'a> {
    Leaf { valid: (-10, 10), ..client(names) }
}

#[test]
fn a_signature_names_its_signer_and_when_it_was_valid() {
    let folder = tempfile::tempdir().unwrap();
    let (signed, authority) = signed(folder.path(), &ten_days(&["a.site.fusiondp"]));
    let now_ms = SystemClock.now_ms();
    let signer = authority.verify(&signed, MESSAGE, now_ms).unwrap();
    assert_eq!((signer.identity.dns_name().as_str(), signed.chain.len()), ("a.site.fusiondp", 1));
    assert_eq!(signed.scheme, "ecdsa_secp256r1_sha256");
    for (days, inside) in [(9, true), (11, false)] {
        assert_eq!(signer.valid_ms.contains(&(now_ms - days * DAY_MS)), inside, "{days} days before");
        assert_eq!(signer.valid_ms.contains(&(now_ms + days * DAY_MS)), inside, "{days} days after");
    }
    // The last second is part of it, to the millisecond, for the library too.
    let (begin, end) = signer.valid_ms.clone().into_inner();
    assert!(
        authority.verify(&signed, MESSAGE, end).is_ok() && authority.verify(&signed, MESSAGE, begin).is_ok()
    );
    for outside in [begin - 1, end + 1] {
        let error = authority.verify(&signed, MESSAGE, outside).unwrap_err();
        assert!(matches!(error, SignatureProblem::NotAccepted { .. }), "{error}");
    }
}

#[test]
fn what_was_changed_or_is_another_authoritys_does_not_stand() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (honest, authority) = signed(folder.path(), &ten_days(&["a.site.fusiondp"]));
    let (foreign, _) = signed(other.path(), &ten_days(&["a.site.fusiondp"]));
    let now_ms = SystemClock.now_ms();
    let problem = |signed: &CertificateSignature, message: &[u8]| {
        authority.verify(signed, message, now_ms).unwrap_err()
    };
    assert_eq!(problem(&honest, b"test/v1\0something else"), SignatureProblem::Signature);
    for place in [0, honest.signature.len() / 2, honest.signature.len() - 1] {
        let mut altered = honest.clone();
        altered.signature[place] ^= 1;
        assert_eq!(problem(&altered, MESSAGE), SignatureProblem::Signature);
    }
    let borrowed = CertificateSignature { chain: honest.chain.clone(), ..foreign.clone() };
    assert_eq!(problem(&borrowed, MESSAGE), SignatureProblem::Signature);
    assert!(problem(&foreign, MESSAGE).to_string().contains("unknown authority"));
    let nobody = CertificateSignature { chain: Vec::new(), ..honest.clone() };
    assert_eq!(problem(&nobody, MESSAGE), SignatureProblem::NoCertificate);
    for scheme in ["", "ecdsa_secp256r1_sha512"] {
        let unknown = CertificateSignature { scheme: scheme.to_owned(), ..honest.clone() };
        assert_eq!(problem(&unknown, MESSAGE), SignatureProblem::UnknownScheme);
    }
    let mixed = CertificateSignature { scheme: "ed25519".to_owned(), ..honest.clone() };
    assert_eq!(problem(&mixed, MESSAGE), SignatureProblem::Signature);
    let damaged = CertificateSignature { chain: vec![vec![0x30, 0]], ..honest };
    assert!(matches!(problem(&damaged, MESSAGE), SignatureProblem::Identity(_)));
}

#[test]
fn a_coordinators_certificate_signs_nothing_as_a_client() {
    let folder = tempfile::tempdir().unwrap();
    let (signed, authority) = signed(folder.path(), &server(&["main.coordinator.fusiondp"]));
    let error = authority.verify(&signed, MESSAGE, SystemClock.now_ms()).unwrap_err();
    assert!(error.to_string().contains("another purpose"), "{error}");
}
