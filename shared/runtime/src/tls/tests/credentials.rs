//! What is wrong with a kit is said before it is used.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::logs::Logs;
use super::pki::{Authority, Leaf, client, server};
use crate::clock::{Clock, SystemClock};
use crate::identity::Role;
use crate::tls::{TlsFiles, TlsFilesError};

fn site_kit(folder: &Path) -> TlsFiles {
    Authority::new("Consortium").kit(folder, "site", &client(&["a.site.fusiondp"]))
}

#[test]
fn a_good_kit_loads_and_verifies() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new("Consortium");
    for (leaf, role) in [
        (client(&["a.site.fusiondp"]), Role::Site),
        (server(&["main.coordinator.fusiondp"]), Role::Coordinator),
    ] {
        let credentials = authority.kit(folder.path(), "kit", &leaf).load_as(role).unwrap();
        let summary = credentials.verify(SystemClock.now_ms()).unwrap();
        assert_eq!(&summary.identity, credentials.identity());
        assert_eq!(summary.days_left(SystemClock.now_ms()), 0);
        assert!(!format!("{credentials:?}").contains("key"), "{credentials:?}");
    }
}

#[test]
fn files_that_do_not_belong_together_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let files = site_kit(folder.path());
    let other = Authority::new("Consortium").kit(folder.path(), "other", &client(&["b.site.fusiondp"]));
    let mixed = TlsFiles { key: other.key.clone(), ..files.clone() };
    assert!(matches!(mixed.load(), Err(TlsFilesError::KeyMismatch { .. })));
    let text = mixed.load().unwrap_err().to_string();
    assert!(text.contains("other.key") && text.contains("site.pem"), "{text}");
    let text = files.load_as(Role::Coordinator).unwrap_err().to_string();
    assert!(text.contains("certificate of site `a`") && text.contains("role coordinator"), "{text}");
    let error = TlsFiles { ca: other.ca, ..files }.load().unwrap().verify(SystemClock.now_ms()).unwrap_err();
    assert!(error.to_string().contains("signed by another authority"), "{error}");
}

#[test]
fn damaged_and_missing_files_are_named_without_their_content() {
    let folder = tempfile::tempdir().unwrap();
    let files = site_kit(folder.path());
    let missing = TlsFiles { certificate: folder.path().join("none.pem"), ..files.clone() };
    assert!(missing.load().unwrap_err().to_string().contains("none.pem"));
    let swapped = TlsFiles { key: files.certificate.clone(), ..files.clone() };
    assert!(matches!(swapped.load(), Err(TlsFilesError::NoKey { .. })));
    let swapped = TlsFiles { certificate: files.key.clone(), ..files.clone() };
    assert!(matches!(swapped.load(), Err(TlsFilesError::NoCertificate { .. })));
    fs::write(&files.key, "-----BEGIN PRIVATE KEY-----\nc2VjcmV0!\n-----END PRIVATE KEY-----\n").unwrap();
    let text = files.load().unwrap_err().to_string();
    assert!(text.contains("site.key") && !text.contains("c2VjcmV0"), "{text}");
}

#[test]
fn the_own_certificate_is_checked_against_a_given_time() {
    let folder = tempfile::tempdir().unwrap();
    let leaf = Leaf { valid: (-10, 10), ..client(&["a.site.fusiondp"]) };
    let credentials = Authority::new("Consortium").kit(folder.path(), "site", &leaf).load().unwrap();
    let day_ms = 86_400_000;
    let now_ms = SystemClock.now_ms();
    assert_eq!(credentials.verify(now_ms).unwrap().days_left(now_ms + day_ms), 8);
    let text = |at| credentials.verify(at).unwrap_err().to_string();
    assert!(text(now_ms + 11 * day_ms).contains("it has expired"));
    assert!(text(now_ms - 11 * day_ms).contains("not valid yet"));
}

#[test]
fn a_key_that_others_can_read_is_warned_about() {
    let (logs, _guard) = Logs::capture();
    let folder = tempfile::tempdir().unwrap();
    let files = site_kit(folder.path());
    files.load().unwrap();
    assert!(!logs.text().contains("chmod"), "{}", logs.text());
    fs::set_permissions(&files.key, fs::Permissions::from_mode(0o640)).unwrap();
    files.load().unwrap();
    assert!(logs.text().contains("chmod 600"), "{}", logs.text());
}

#[test]
fn the_configuration_section_is_strict_and_resolves_against_its_folder() {
    let files: TlsFiles =
        toml::from_str("ca = \"ca.pem\"\ncertificate = \"/abs/x.pem\"\nkey = \"k\"").unwrap();
    let resolved = files.resolved(Path::new("/etc/fusiondp"));
    assert_eq!(resolved.ca, Path::new("/etc/fusiondp/ca.pem"));
    assert_eq!(resolved.certificate, Path::new("/abs/x.pem"));
    assert!(
        toml::from_str::<TlsFiles>("ca = \"a\"\ncertificate = \"b\"\nkey = \"c\"\npassword = \"d\"").is_err()
    );
}
