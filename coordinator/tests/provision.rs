//! Provisioning on a real file system: what it makes, that it replaces nothing, and that the kits work together.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use fusiondp_coordinator::provision::{ConsortiumFile, ProvisionError, ProvisionReport, provision};
use fusiondp_runtime::identity::CertificateSummary;
use fusiondp_runtime::tls::{ClientOptions, TlsServer, connect};
use fusiondp_runtime::{Clock, Role, Shutdown, SystemClock, TlsFiles};
use tempfile::TempDir;
use x509_parser::extensions::GeneralName;
use x509_parser::pem::parse_x509_pem;

const DAY_MS: u64 = 86_400_000;

struct Folder {
    root: TempDir,
}

impl Folder {
    fn new() -> Self {
        Self { root: tempfile::tempdir().unwrap() }
    }

    fn out(&self) -> PathBuf {
        self.root.path().join("consortium")
    }

    fn path(&self, relative: &str) -> PathBuf {
        self.out().join(relative)
    }

    fn run(&self, sites: &[&str]) -> Result<ProvisionReport, ProvisionError> {
        self.run_at(sites, "https://fusiondp.example.org:7443", SystemClock.now_ms())
    }

    fn run_at(&self, sites: &[&str], url: &str, now_ms: u64) -> Result<ProvisionReport, ProvisionError> {
        let mut text = format!(
            "name = \"Demo\"\nvalidity_days = 100\n[coordinator]\nid = \"main\"\nurl = \"{url}\"\n\
             host_names = [\"10.0.0.5\"]\n"
        );
        for id in sites {
            text += &format!(
                "[[sites]]\nid = \"{id}\"\ntitle = \"Hospital {id}\"\ncontact = \"it@{id}.example\"\n"
            );
        }
        let path = self.root.path().join("consortium.toml");
        fs::write(&path, text).unwrap();
        provision(&ConsortiumFile::load(&path).unwrap(), &self.out(), now_ms)
    }

    /// Every file with its bytes, every entry with its mode.
    fn snapshot(&self) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
        let mut found = BTreeMap::new();
        let mut folders = vec![self.out()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
                if path.is_dir() {
                    folders.push(path.clone());
                    found.insert(path, (mode, Vec::new()));
                } else {
                    let bytes = fs::read(&path).unwrap();
                    found.insert(path, (mode, bytes));
                }
            }
        }
        found
    }

    fn tls(&self, kit: &str, stem: &str) -> TlsFiles {
        let folder = self.path(kit);
        TlsFiles {
            ca: folder.join("ca.pem"),
            certificate: folder.join(format!("{stem}.pem")),
            key: folder.join(format!("{stem}.key")),
        }
    }
}

fn der(path: &Path) -> Vec<u8> {
    parse_x509_pem(&fs::read(path).unwrap()).unwrap().1.contents
}

#[test]
fn the_layout_is_complete_and_private() {
    let folder = Folder::new();
    let report = folder.run(&["a", "b"]).unwrap();
    let expected = [
        "ca/ca.pem",
        "ca/ca.key",
        "coordinator/coordinator.pem",
        "coordinator/coordinator.key",
        "coordinator/ca.pem",
        "coordinator/coordinator.toml",
        "coordinator/consortium.toml",
        "admin/admin.pem",
        "admin/admin.key",
        "admin/ca.pem",
        "admin/admin.toml",
        "sites/a/site.pem",
        "sites/a/site.key",
        "sites/a/ca.pem",
        "sites/a/site.toml",
        "sites/a/README.md",
        "sites/b/site.pem",
        "sites/b/site.key",
        "sites/b/ca.pem",
        "sites/b/site.toml",
        "sites/b/README.md",
    ];
    let mut created: Vec<_> = report.created_files().to_vec();
    let mut wanted: Vec<_> = expected.iter().map(|path| folder.path(path)).collect();
    created.sort();
    wanted.sort();
    assert_eq!(created, wanted);
    for (path, (mode, _)) in folder.snapshot() {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("key") => assert_eq!(mode, 0o600, "{}", path.display()),
            None => assert_eq!(mode, 0o700, "{}", path.display()),
            _ => assert_eq!(mode & 0o022, 0, "{}", path.display()),
        }
    }
    assert!(report.warnings().is_empty(), "{report}");
    assert!(report.to_string().ends_with("21 files created, 0 kept as they were"), "{report}");
}

#[test]
fn a_second_run_changes_no_byte() {
    let folder = Folder::new();
    folder.run(&["a", "b"]).unwrap();
    let before = folder.snapshot();
    let report = folder.run(&["a", "b"]).unwrap();
    assert_eq!(folder.snapshot(), before);
    assert_eq!((report.created_files().len(), report.updated_files().len(), report.kept_files()), (0, 0, 21));
}

#[test]
fn a_new_site_is_added_and_nothing_else_changes_but_the_site_list() {
    let folder = Folder::new();
    folder.run(&["a"]).unwrap();
    let before = folder.snapshot();
    let report = folder.run(&["a", "new"]).unwrap();
    let list = folder.path("coordinator/consortium.toml");
    assert_eq!(report.updated_files(), std::slice::from_ref(&list));
    assert_eq!(report.created_files().len(), 5);
    let after = folder.snapshot();
    for (path, content) in &before {
        if *path != list {
            assert_eq!(after.get(path), Some(content), "{}", path.display());
        }
    }
    assert!(ConsortiumFile::load(&list).unwrap().sites().iter().any(|site| site.id() == "new"));
}

#[test]
fn a_removed_site_is_reported_and_kept() {
    let folder = Folder::new();
    folder.run(&["a", "gone"]).unwrap();
    let report = folder.run(&["a"]).unwrap();
    assert_eq!(report.removed_sites(), ["gone"]);
    assert!(report.to_string().contains("delete sites/gone"), "{report}");
    assert!(folder.path("sites/gone/site.key").exists());
}

#[test]
fn certificates_state_what_they_are_for() {
    let folder = Folder::new();
    folder.run(&["a"]).unwrap();
    let authority = der(&folder.path("ca/ca.pem"));
    let (_, authority) = x509_parser::parse_x509_certificate(&authority).unwrap();
    let constraints = authority.basic_constraints().unwrap().unwrap();
    assert!(constraints.critical && constraints.value.ca);
    assert_eq!(constraints.value.path_len_constraint, Some(0));
    let usage = authority.key_usage().unwrap().unwrap().value;
    assert!(usage.key_cert_sign() && !usage.digital_signature());

    for (path, name, is_server) in [
        ("coordinator/coordinator.pem", "main.coordinator.fusiondp", true),
        ("admin/admin.pem", "admin.admin.fusiondp", false),
        ("sites/a/site.pem", "a.site.fusiondp", false),
    ] {
        let bytes = der(&folder.path(path));
        let (_, leaf) = x509_parser::parse_x509_certificate(&bytes).unwrap();
        assert_eq!(leaf.issuer(), authority.subject(), "{path}");
        assert!(!leaf.is_ca(), "{path}");
        let purposes = leaf.extended_key_usage().unwrap().unwrap().value;
        assert_eq!((purposes.server_auth, purposes.client_auth), (is_server, !is_server), "{path}");
        assert!(leaf.key_usage().unwrap().unwrap().value.digital_signature(), "{path}");
        let names = &leaf.subject_alternative_name().unwrap().unwrap().value.general_names;
        assert_eq!(names[0], GeneralName::DNSName(name), "{path}");
        let hosts = [GeneralName::DNSName("fusiondp.example.org"), GeneralName::IPAddress(&[10, 0, 0, 5])];
        assert_eq!(names[1..], if is_server { hosts.to_vec() } else { vec![] }, "{path}");
        let validity = leaf.validity();
        let seconds = validity.not_after.timestamp() - validity.not_before.timestamp();
        assert_eq!(seconds, 100 * 86_400 + 300, "{path}: 100 days, backdated by 5 minutes");
        assert!(validity.not_after.timestamp() < authority.validity().not_after.timestamp(), "{path}");
    }
}

#[tokio::test]
async fn the_kits_talk_to_each_other_over_tls() {
    let folder = Folder::new();
    folder.run(&["a"]).unwrap();
    let listener =
        TlsServer::new(&folder.tls("coordinator", "coordinator")).unwrap().bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let shutdown = Shutdown::new();
    let signal = shutdown.clone();
    let server = tokio::spawn(async move {
        let router = tonic::transport::Server::builder().add_routes(tonic::service::Routes::default());
        router
            .serve_with_incoming_shutdown(listener.into_incoming(), async move { signal.wait().await })
            .await
    });
    for (kit, stem, role) in [("sites/a", "site", Role::Site), ("admin", "admin", Role::Admin)] {
        let files = folder.tls(kit, stem);
        assert_eq!(files.load_as(role).unwrap().verify(SystemClock.now_ms()).unwrap().identity.role(), role);
        connect(&url, "main", &files, &ClientOptions::default()).await.unwrap();
    }
    shutdown.trigger();
    server.await.unwrap().unwrap();
}

#[test]
fn what_an_interrupted_run_left_is_completed_or_named() {
    let folder = Folder::new();
    folder.run(&["a", "b"]).unwrap();
    let complete = folder.snapshot();
    // As if stopped after the key of `b`, with a file under way.
    for name in ["site.pem", "site.toml", "README.md"] {
        fs::remove_file(folder.path("sites/b").join(name)).unwrap();
    }
    let unfinished = folder.path("sites/b/.site.pem.1-1.partial");
    fs::write(&unfinished, "-----BEGIN CERT").unwrap();
    let report = folder.run(&["a", "b"]).unwrap();
    assert_eq!(report.created_files().len(), 3);
    assert_eq!(report.leftover_files(), [unfinished]);
    let key = folder.path("sites/b/site.key");
    assert_eq!(folder.snapshot().get(&key), complete.get(&key), "the key was kept");
    folder.tls("sites/b", "site").load_as(Role::Site).unwrap().verify(SystemClock.now_ms()).unwrap();
}

#[test]
fn an_authority_without_a_certificate_gets_one_for_its_key() {
    let folder = Folder::new();
    folder.run(&["a"]).unwrap();
    let key = fs::read(folder.path("ca/ca.key")).unwrap();
    let fresh = Folder::new();
    fs::create_dir_all(fresh.path("ca")).unwrap();
    fs::write(fresh.path("ca/ca.key"), &key).unwrap();
    fresh.run(&["a"]).unwrap();
    assert_eq!(fs::read(fresh.path("ca/ca.key")).unwrap(), key);
    fresh.tls("sites/a", "site").load().unwrap().verify(SystemClock.now_ms()).unwrap();
}

#[test]
fn a_lost_authority_is_not_replaced_by_another() {
    let folder = Folder::new();
    folder.run(&["a"]).unwrap();
    fs::remove_dir_all(folder.path("ca")).unwrap();
    let before = folder.snapshot();
    let error = folder.run(&["a", "b"]).unwrap_err();
    assert!(matches!(error, ProvisionError::AuthorityMissing { .. }), "{error}");
    assert_eq!(folder.snapshot(), before);
}

#[test]
fn the_authoritys_key_is_needed_only_to_sign() {
    let folder = Folder::new();
    folder.run(&["a"]).unwrap();
    let key = fs::read(folder.path("ca/ca.key")).unwrap();
    fs::remove_file(folder.path("ca/ca.key")).unwrap();
    assert!(folder.run(&["a"]).unwrap().created_files().is_empty());
    let error = folder.run(&["a", "b"]).unwrap_err();
    assert!(matches!(error, ProvisionError::AuthorityKeyMissing { .. }), "{error}");
    assert!(error.to_string().contains("b.site.fusiondp"), "{error}");
    // Another authority's key does not do.
    let other = Folder::new();
    other.run(&["a"]).unwrap();
    fs::copy(other.path("ca/ca.key"), folder.path("ca/ca.key")).unwrap();
    let error = folder.run(&["a", "b"]).unwrap_err();
    assert!(error.to_string().contains("is not the key of"), "{error}");
    fs::write(folder.path("ca/ca.key"), key).unwrap();
    folder.run(&["a", "b"]).unwrap();
    folder.tls("sites/b", "site").load().unwrap().verify(SystemClock.now_ms()).unwrap();
}

#[test]
fn kits_that_do_not_fit_are_named_and_left_alone() {
    let folder = Folder::new();
    let other = Folder::new();
    let break_kit = |name: &str, with: Option<PathBuf>| {
        let path = folder.path("sites/a").join(name);
        let kept = fs::read(&path).unwrap();
        match with {
            Some(source) => fs::copy(source, &path).map(|_| ()).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
        let before = folder.snapshot();
        let error = folder.run(&["a", "b"]).unwrap_err();
        assert_eq!(folder.snapshot(), before, "{error}");
        fs::write(path, kept).unwrap();
        error
    };
    folder.run(&["a", "b"]).unwrap();
    other.run(&["a"]).unwrap();
    assert!(matches!(break_kit("site.key", None), ProvisionError::KeyMissing { .. }));
    let error = break_kit("site.key", Some(folder.path("sites/b/site.key")));
    assert!(matches!(error, ProvisionError::KitDamaged { .. }), "{error}");
    let error = break_kit("site.key", Some(folder.path("sites/b/site.toml")));
    assert!(matches!(error, ProvisionError::KeyUnusable { .. }), "{error}");
    let error = break_kit("ca.pem", Some(other.path("ca/ca.pem")));
    assert!(matches!(error, ProvisionError::OtherAuthority { .. }), "{error}");
    folder.run(&["a", "b"]).unwrap();

    for name in ["site.pem", "site.key"] {
        fs::copy(folder.path("sites/b").join(name), folder.path("sites/a").join(name)).unwrap();
    }
    let error = folder.run(&["a", "b"]).unwrap_err();
    assert!(matches!(error, ProvisionError::KitOfAnother { .. }), "{error}");
    assert!(error.to_string().contains("b.site.fusiondp"), "{error}");
}

#[test]
fn an_edited_configuration_stays_and_a_moved_coordinator_is_told() {
    let folder = Folder::new();
    folder.run(&["a"]).unwrap();
    let path = folder.path("sites/a/site.toml");
    let edited = fs::read_to_string(&path).unwrap() + "# edited by the hospital\n";
    fs::write(&path, &edited).unwrap();
    let report = folder.run_at(&["a"], "https://elsewhere.example.org:7443", SystemClock.now_ms()).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), edited);
    assert_eq!(report.warnings().len(), 2, "site and admin: {report}");
    assert!(report.to_string().contains("elsewhere.example.org"), "{report}");
}

#[test]
fn certificates_that_end_are_told_and_renewed_for_the_same_key() {
    let folder = Folder::new();
    let url = "https://fusiondp.example.org:7443";
    // A certificate states whole seconds.
    let start = SystemClock.now_ms() / 1_000 * 1_000;
    folder.run_at(&["a"], url, start).unwrap();
    let warnings = |days: u64| folder.run_at(&["a"], url, start + days * DAY_MS).unwrap().to_string();
    assert!(warnings(80).contains("ends in 20 days"), "{}", warnings(80));
    assert!(warnings(101).contains("has expired; delete it"), "{}", warnings(101));
    let (certificate, key) =
        (folder.path("sites/a/site.pem"), fs::read(folder.path("sites/a/site.key")).unwrap());
    fs::remove_file(&certificate).unwrap();
    folder.run_at(&["a"], url, start + 101 * DAY_MS).unwrap();
    assert_eq!(CertificateSummary::from_certificate(&der(&certificate)).unwrap().days_left(start), 201);
    assert_eq!(fs::read(folder.path("sites/a/site.key")).unwrap(), key);
    let end = folder.run_at(&["a"], url, start + 3_649 * DAY_MS).unwrap().to_string();
    assert!(end.contains("authority itself ends in"), "{end}");
    let error = folder.run_at(&["a"], url, start + 3_651 * DAY_MS).unwrap_err();
    assert!(error.to_string().contains("has expired"), "{error}");
}
