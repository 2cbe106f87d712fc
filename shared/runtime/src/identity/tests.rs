#![allow(clippy::unwrap_used)]

use super::*;

fn certificate(names: &[&str]) -> Vec<u8> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let key = rcgen::KeyPair::generate().unwrap();
    rcgen::CertificateParams::new(names).unwrap().self_signed(&key).unwrap().der().to_vec()
}

#[test]
fn the_identity_is_the_certificates_fusiondp_name() {
    let der = certificate(&["example.org", "leipzig-2.site.fusiondp", "10.0.0.1"]);
    let identity = PeerIdentity::from_certificate(&der).unwrap();
    assert_eq!((identity.id(), identity.role()), ("leipzig-2", Role::Site));
    assert_eq!(identity.fingerprint().as_slice(), Sha256::digest(&der).as_slice());
    assert_eq!(identity.dns_name(), "leipzig-2.site.fusiondp");
    assert_eq!(identity.to_string(), "site `leipzig-2`");
}

#[test]
fn every_other_form_is_refused_by_name() {
    let refusal = |names: &[&str]| PeerIdentity::from_certificate(&certificate(names)).unwrap_err();
    assert_eq!(refusal(&["leipzig.example.org"]), IdentityError::NoName);
    assert_eq!(refusal(&["leipzig.fusiondp"]), IdentityError::NoName);
    assert_eq!(refusal(&["a.site.fusiondp", "b.site.fusiondp"]), IdentityError::SeveralNames { count: 2 });
    assert_eq!(refusal(&["a.doctor.fusiondp"]), IdentityError::UnknownRole { role: "doctor".into() });
    assert_eq!(refusal(&["a.b.site.fusiondp"]), IdentityError::UnknownRole { role: "b.site".into() });
    assert_eq!(refusal(&["A.site.fusiondp"]), IdentityError::InvalidId { id: "A".into() });
    assert_eq!(refusal(&["*.site.fusiondp"]), IdentityError::InvalidId { id: "*".into() });
    assert_eq!(PeerIdentity::from_certificate(b"not a certificate"), Err(IdentityError::Unreadable));
}

#[test]
fn ids_have_one_form() {
    for good in ["a", "0", "site-1", &"x".repeat(63)] {
        assert_eq!(validate_id(good), Ok(()), "{good}");
    }
    for bad in ["", "-a", "a_b", "a.b", "Å", "a b", "../x", &"x".repeat(64)] {
        assert!(validate_id(bad).is_err(), "{bad}");
        assert!(PeerIdentity::declared(bad, Role::Site).is_err(), "{bad}");
    }
}

#[test]
fn error_texts_hold_no_control_characters() {
    let error = validate_id("a\u{1b}[31mred\n").unwrap_err().to_string();
    assert!(error.contains("a?[31mred?"), "{error}");
}

#[test]
fn roles_round_trip() {
    for role in [Role::Coordinator, Role::Site, Role::Admin] {
        assert_eq!(role.as_str().parse::<Role>(), Ok(role));
    }
}

#[test]
fn a_summary_counts_whole_days() {
    let mut params = rcgen::CertificateParams::new(vec!["a.site.fusiondp".to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2026, 1, 1);
    params.not_after = rcgen::date_time_ymd(2026, 1, 11);
    let key = rcgen::KeyPair::generate().unwrap();
    let der = params.self_signed(&key).unwrap().der().to_vec();
    let summary = CertificateSummary::from_certificate(&der).unwrap();
    assert_eq!(summary.not_after_ms - summary.not_before_ms, 10 * 86_400_000);
    assert_eq!(summary.issuer, "rcgen self signed cert");
    assert_eq!(summary.days_left(summary.not_before_ms), 10);
    assert_eq!(summary.days_left(summary.not_before_ms + 1), 9);
    assert_eq!(summary.days_left(summary.not_after_ms + 1), -1);
}
