#![allow(clippy::unwrap_used)]
use std::fs;

use super::*;

const CONSORTIUM: &str = "\
name = \"tests\"
[coordinator]
url = \"https://localhost:7443\"
[[sites]]
id = \"a\"
title = \"A\"
contact = \"it@a.example\"
";

const CONFIG: &str = "\
listen = \"127.0.0.1:7443\"
[tls]
ca = \"ca.pem\"
certificate = \"coordinator.pem\"
key = \"/etc/fusiondp/coordinator.key\"
";

fn load(text: &str) -> Result<CoordinatorConfig, SettingsError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("coordinator.toml");
    fs::write(&path, text).unwrap();
    fs::write(folder.path().join("consortium.toml"), CONSORTIUM).unwrap();
    let config = CoordinatorConfig::load(&path)?;
    assert_eq!(config.tls.ca, folder.path().join("ca.pem"), "relative to the file");
    assert_eq!(config.tls.key, Path::new("/etc/fusiondp/coordinator.key"));
    assert_eq!(config.state_dir, folder.path().join("state"));
    config.settings()?;
    Ok(config)
}

#[test]
fn the_defaults_are_the_documented_ones() {
    let config = load(CONFIG).unwrap();
    assert_eq!(config.limits, LimitsConfig { max_chunk_kib: 512, max_model_mib: 256 });
    let limits = config.limits.as_limits();
    assert_eq!((limits.max_chunk_bytes, limits.max_model_bytes), (512 << 10, 256 << 20));
    assert_eq!(config.store_options().database_url, None);
}

#[test]
fn every_misuse_names_its_field() {
    let cases = [
        ("lsten = 1\n", "lsten"),
        ("state_dir = 3\n", "state_dir"),
        ("database_url = \"mysql://x\"\n", "database_url"),
        ("limits = { max_chunk_kib = 2 }\n", "max_chunk_kib"),
        ("limits = { max_model_mib = 0 }\n", "max_model_mib"),
        ("limits = { max_chunk_kib = 3.7 }\n", "max_chunk_kib"),
    ];
    for (line, field) in cases {
        let error = load(&format!("{line}{CONFIG}")).unwrap_err().to_string();
        assert!(error.contains(field) && error.contains("coordinator.toml"), "{error}");
    }
}

#[test]
fn a_refused_database_address_is_not_shown() {
    let error =
        load(&format!("database_url = \"mysql://user:secret@host/db\"\n{CONFIG}")).unwrap_err().to_string();
    assert!(error.contains("postgres://") && !error.contains("secret"), "{error}");
}

#[test]
fn a_missing_consortium_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("coordinator.toml");
    fs::write(&path, CONFIG).unwrap();
    let error = CoordinatorConfig::load(&path).unwrap().settings().unwrap_err().to_string();
    assert!(error.contains("consortium.toml"), "{error}");
}

#[test]
fn a_database_password_is_not_shown() {
    let url = DatabaseUrl("postgres://user:secret@host/db".to_owned());
    assert_eq!(format!("{url:?}"), "DatabaseUrl(…)");
}
