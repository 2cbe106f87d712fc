#![allow(clippy::unwrap_used)]

use super::*;
use crate::files::folder_of;
use serde::Deserialize;

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    listen: String,
    limits: Limits,
    #[serde(default)]
    names: Vec<String>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Limits {
    max_chunk_kib: u32,
    min_noise: f64,
    #[serde(default)]
    allow: bool,
}

const GOOD: &str = "listen = \"0.0.0.0:7443\"\n[limits]\nmax_chunk_kib = 512\nmin_noise = 1\n";

fn read(text: &str, variables: &[(&str, &str)]) -> Result<Settings, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("service.toml");
    std::fs::write(&path, text).unwrap();
    let variables = variables.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    load_layered(&path, &Environment::given("FUSIONDP_TEST", variables)).map_err(|error| error.to_string())
}

#[track_caller]
fn assert_refused(text: &str, variables: &[(&str, &str)], fragments: &[&str]) {
    let error = read(text, variables).unwrap_err();
    for fragment in fragments {
        assert!(error.contains(fragment), "`{error}` does not contain `{fragment}`");
    }
}

#[test]
fn a_good_file_loads_and_a_whole_number_serves_as_a_real_one() {
    let limits = Limits { max_chunk_kib: 512, min_noise: 1.0, allow: false };
    assert_eq!(read(GOOD, &[]).unwrap(), Settings { listen: "0.0.0.0:7443".into(), limits, names: vec![] });
}

#[test]
fn values_of_a_wrong_kind_are_refused_with_field_and_file() {
    let with = |old: &str, new: &str| GOOD.replace(old, new);
    let field = ["service.toml", "`limits.max_chunk_kib`"];
    assert_refused(&with("512", "3.7"), &[], &[field[0], field[1], "3.7", "u32"]);
    assert_refused(&with("512", "\"512\""), &[], &[field[1], "string", "u32"]);
    assert_refused(&with("512", "-1"), &[], &[field[1], "-1"]);
    assert_refused(&with("512", "4294967296"), &[], &[field[1], "4294967296"]);
    assert_refused(
        &with("min_noise = 1", "min_noise = true"),
        &[],
        &["`limits.min_noise`", "boolean", "f64"],
    );
    assert_refused(&with("min_noise = 1", "min_noise = nan"), &[], &["`limits.min_noise`", "finite"]);
    assert_refused(&with("min_noise = 1", "min_noise = -inf"), &[], &["`limits.min_noise`", "finite"]);
    assert_refused(&with("\"0.0.0.0:7443\"", "7443"), &[], &["`listen`", "double quotes"]);
}

#[test]
fn unknown_and_missing_fields_are_named() {
    assert_refused(&format!("{GOOD}max_chunk_mib = 1\n"), &[], &["limits.max_chunk_mib", "max_chunk_kib"]);
    assert_refused(
        &GOOD.replace("max_chunk_kib = 512\n", ""),
        &[],
        &["`limits`", "missing field `max_chunk_kib`"],
    );
    assert_refused("", &[], &["service.toml", "missing field `listen`"]);
}

#[test]
fn a_syntax_error_names_the_line_but_not_its_content() {
    let error = read("listen = \"a\"\ndatabase_url = secret@host\n", &[]).unwrap_err();
    assert!(error.contains("line 2"), "{error}");
    assert!(!error.contains("secret"), "{error}");
}

#[test]
fn variables_override_nested_fields_and_add_missing_ones() {
    let variables = [
        ("FUSIONDP_TEST__LIMITS__MAX_CHUNK_KIB", "256"),
        ("FUSIONDP_TEST__LIMITS__ALLOW", "true"),
        ("FUSIONDP_TEST__LISTEN", "127.0.0.1:1"),
        ("FUSIONDP_TEST__NAMES", "[\"a\", \"b\"]"),
        ("FUSIONDP_TESTING__LISTEN", "another program's"),
    ];
    let settings = read(GOOD, &variables).unwrap();
    assert_eq!((settings.limits.max_chunk_kib, settings.limits.allow), (256, true));
    assert_eq!((settings.listen.as_str(), settings.names.len()), ("127.0.0.1:1", 2));
    let section =
        [("FUSIONDP_TEST__LIMITS__MAX_CHUNK_KIB", "1"), ("FUSIONDP_TEST__LIMITS__MIN_NOISE", "0.5")];
    assert_eq!(read("listen = \"a\"", &section).unwrap().limits.min_noise, 0.5);
}

#[test]
fn a_variable_with_one_underscore_after_the_prefix_is_refused_unless_it_belongs_to_another() {
    for name in ["FUSIONDP_TEST_LISTEN", "FUSIONDP_TEST_LIMITS__MAX_CHUNK_KIB", "fusiondp_test_PORTS"] {
        assert_refused(GOOD, &[(name, "secret")], &[name, "two underscores after FUSIONDP_TEST"]);
        assert!(!read(GOOD, &[(name, "secret")]).unwrap_err().contains("secret"));
    }
    for name in ["FUSIONDP_TEST", "FUSIONDP_TEST_SERVICE_PORT_GRPC", "FUSIONDP_TEST_PORT_7443_TCP_ADDR"] {
        read(GOOD, &[(name, "x")]).unwrap();
    }
    let variables = HashMap::from([("FUSIONDP_TEST_CONFIG".to_owned(), "x".to_owned())]);
    let environment = Environment::given("FUSIONDP_TEST", variables);
    assert!(environment.overrides().is_err());
    assert!(environment.besides(&["FUSIONDP_TEST_CONFIG"]).overrides().unwrap().is_empty());
}

#[test]
fn variables_are_held_to_the_same_rules() {
    let refused =
        |name: &str, value: &str, fragments: &[&str]| assert_refused(GOOD, &[(name, value)], fragments);
    let chunk = "FUSIONDP_TEST__LIMITS__MAX_CHUNK_KIB";
    refused(chunk, "3.7", &["environment variable", chunk, "`limits.max_chunk_kib`", "u32"]);
    refused(chunk, "many", &[chunk, "u32"]);
    refused(chunk, "", &[chunk, "u32"]);
    refused("FUSIONDP_TEST__LIMITS__MIN_NOISE", "true", &["`limits.min_noise`", "f64"]);
    refused("FUSIONDP_TEST__LIMITS__MIN_NOISE", "nan", &["`limits.min_noise`", "finite"]);
    refused("FUSIONDP_TEST__LIMITS__OTHER", "1", &["FUSIONDP_TEST__LIMITS__OTHER", "unknown field"]);
    refused("FUSIONDP_TEST__LISTEN__PORT", "1", &["`listen` is a value, not a section"]);
    refused("FUSIONDP_TEST__LISTEN", "7443", &["FUSIONDP_TEST__LISTEN", "double quotes"]);
    refused("FUSIONDP_TEST__LIMITS__", "1", &["names no field"]);
}

#[test]
fn a_quoted_number_in_a_variable_is_text() {
    assert_eq!(read(GOOD, &[("FUSIONDP_TEST__LISTEN", "\"7443\"")]).unwrap().listen, "7443");
}

#[test]
fn a_missing_file_is_named_and_paths_resolve_against_its_folder() {
    let error = load_file::<Settings>(Path::new("/nowhere/site.toml")).unwrap_err().to_string();
    assert!(error.contains("/nowhere/site.toml"), "{error}");
    let base = folder_of(Path::new("kits/a/site.toml"));
    assert_eq!(resolve(base, Path::new("data/train.csv")), Path::new("kits/a/data/train.csv"));
    assert_eq!(resolve(base, Path::new("/abs")), Path::new("/abs"));
    assert_eq!(folder_of(Path::new("site.toml")), Path::new("."));
}
