#![allow(clippy::unwrap_used)]

use super::*;

fn consortium(title: &str) -> ConsortiumFile {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("consortium.toml");
    let text = format!(
        "name = \"Demo \\\"quoted\\\"\"\n[coordinator]\nurl = \"https://host.example:7443\"\n\
         [[sites]]\nid = \"a\"\ntitle = '{title}'\ncontact = \"it@a.example\"\n"
    );
    std::fs::write(&path, text).unwrap();
    ConsortiumFile::load(&path).unwrap()
}

/// Turns each `#option = value` and `#[section]` into an active line.
fn with_all_options(text: &str) -> String {
    let active = |line: &str| match line.strip_prefix('#') {
        Some(option) if option.starts_with(|c: char| c == '[' || c == '"' || c.is_ascii_lowercase()) => {
            format!("{option}\n")
        }
        _ => format!("{line}\n"),
    };
    text.lines().map(active).collect()
}

fn keys(prefix: &str, table: &toml::Table) -> Vec<String> {
    table
        .iter()
        .flat_map(|(name, value)| match value {
            toml::Value::Table(inner) => keys(&format!("{prefix}{name}."), inner),
            _ => vec![format!("{prefix}{name}")],
        })
        .collect()
}

#[track_caller]
fn assert_options(text: &str, required: &[&str], optional: &[&str]) {
    let sorted = |mut names: Vec<String>| {
        names.sort();
        names
    };
    let strings = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let active = keys("", &text.parse::<toml::Table>().unwrap());
    assert_eq!(sorted(active), sorted(strings(required)));
    let all = keys("", &with_all_options(text).parse::<toml::Table>().unwrap());
    assert_eq!(sorted(all), sorted([strings(required), strings(optional)].concat()));
}

#[test]
fn the_sites_file_shows_every_option_and_leaves_its_decisions_open() {
    let consortium = consortium("A");
    let required = [
        "coordinator",
        "coordinator_id",
        "state_dir",
        "tls.ca",
        "tls.certificate",
        "tls.key",
        "data.train",
        "imputer.dir",
        "telemetry.log",
        "telemetry.format",
    ];
    let optional = [
        "data.identity",
        "data.cohorts.val",
        "data.cohorts.test",
        "data.cohort_identity.test",
        "imputer.onnx_runtime",
        "imputer.precomputed.*",
        "ledger.journal",
        "imputer.outputs.lactate",
        "policy.max_epsilon_replace",
        "policy.max_epsilon_zero_out",
        "policy.allow_public_gradient",
        "policy.allow_metrics",
        "policy.min_metrics_noise",
        "policy.min_noise_multiplier",
        "policy.max_clip_norm",
        "policy.max_sampling_probability",
        "policy.min_units",
        "policy.public_columns",
        "policy.delta",
        "policy.unit_column",
        "policy.approval",
        "policy.allowed_imputers",
        "policy.require_support_ids",
        "policy.per_study.max_epsilon_replace",
        "policy.per_study.max_epsilon_zero_out",
        "policy.per_year.max_epsilon_replace",
        "policy.per_year.max_epsilon_zero_out",
        "policy.records.max_epsilon_replace",
        "policy.records.max_epsilon_zero_out",
        "training.threads",
    ];
    assert_options(&site_toml(&consortium, &consortium.sites()[0]), &required, &optional);
}

#[test]
fn the_coordinators_and_the_admins_file_show_every_option() {
    let consortium = consortium("A");
    let coordinator = coordinator_toml(&consortium);
    let tls = ["tls.ca", "tls.certificate", "tls.key"];
    let own = ["listen", "state_dir", "consortium_file"];
    let defaults = ["limits.max_chunk_kib", "limits.max_model_mib", "telemetry.log", "telemetry.format"];
    assert_options(&coordinator, &[&own[..], &tls, &defaults].concat(), &["database_url"]);
    assert!(coordinator.contains("listen = \"0.0.0.0:7443\""));
    assert_options(&admin_toml(&consortium), &[&["coordinator", "coordinator_id"][..], &tls].concat(), &[]);
}

#[test]
fn every_field_of_a_template_is_filled() {
    let consortium = consortium("A");
    let site = &consortium.sites()[0];
    let texts = [site_toml(&consortium, site), site_readme(&consortium, site), admin_toml(&consortium)];
    for text in texts.into_iter().chain([coordinator_toml(&consortium)]) {
        assert!(!text.contains("{{") && !text.contains("}}"), "{text}");
    }
    let readme = site_readme(&consortium, site);
    for part in
        ["fusiondp-site check", "fusiondp-site run", "it@a.example", "https://host.example:7443", "leaves"]
    {
        assert!(readme.contains(part), "{part}");
    }
}

#[test]
fn text_of_the_consortium_file_is_not_read_as_a_template() {
    let consortium = consortium("{{coordinator_url}} \\ [x]");
    let text = site_toml(&consortium, &consortium.sites()[0]);
    assert!(text.contains("{{coordinator_url}} \\ [x]"), "{text}");
    assert!(text.parse::<toml::Table>().is_ok());
}
