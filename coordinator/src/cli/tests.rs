#![allow(clippy::unwrap_used)]
use std::fs;
use std::path::Path;

use clap::CommandFactory as _;
use fusiondp_learn::schema::Schema;
use fusiondp_protocol::{Metric, MetricFigures};

use fusiondp_runtime::console::one_line;

use super::*;
use crate::config::CoordinatorConfig;
use crate::provision::{ConsortiumFile, provision as provision_kits};
use crate::support::{SupportError, read};

#[test]
fn the_commands_are_well_formed_and_each_shows_an_example() {
    let command = Cli::command();
    command.clone().debug_assert();
    let mut pending = vec![command];
    while let Some(mut command) = pending.pop() {
        let leaf = command.get_subcommands().next().is_none();
        let help = command.render_long_help().to_string();
        let shows = !leaf || command.get_name() == "help" || help.contains("fusiondp-coordinator");
        assert!(shows, "{}: no example", command.get_name());
        pending.extend(command.get_subcommands().cloned());
    }
}

#[test]
fn the_generated_kits_are_read_by_the_commands_that_use_them() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("consortium.toml");
    let text = "name = \"tests\"\n[coordinator]\nid = \"hub\"\nurl = \"https://localhost:7443\"\n\
                [[sites]]\nid = \"a\"\ntitle = \"A\"\ncontact = \"it@a.example\"\n";
    fs::write(&file, text).unwrap();
    let out = folder.path().join("kits");
    provision_kits(&ConsortiumFile::load(&file).unwrap(), &out, 1_790_000_000_000).unwrap();

    let admin = admin::AdminConfig::load(&out.join("admin")).unwrap();
    assert_eq!(
        (admin.coordinator.as_str(), admin.coordinator_id.as_str()),
        ("https://localhost:7443", "hub")
    );
    assert!(admin.tls.key.is_file() && admin.tls.key.starts_with(&out));

    let config = CoordinatorConfig::load(&out.join("coordinator/coordinator.toml")).unwrap();
    assert!(config.tls.key.is_file());
    let settings = config.settings().unwrap();
    assert_eq!(settings.consortium.name, "tests");
    assert_eq!(settings.consortium.sites.iter().map(ToString::to_string).collect::<Vec<_>>(), ["a"]);
}

fn schema() -> Schema {
    fusiondp_protocol::Study::parse(crate::study::testing::STUDY).unwrap().schema
}

fn support(text: &str) -> Result<usize, SupportError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("support.csv");
    fs::write(&path, text).unwrap();
    read(&schema(), &[path.clone(), path]).map(|support| support.public.rows())
}

#[test]
fn support_files_are_joined_and_other_columns_ignored() {
    assert_eq!(support("extra,s,a\nx,0.5,0.25\n,,\n").unwrap(), 4);
}

#[test]
fn support_errors_name_file_line_and_column_and_never_a_value() {
    let cases = [
        ("a\n0.5\n", "no column s"),
        ("a,s,s\n1,1,1\n", "column s twice"),
        ("a,s,s \n1,1,1\n", "column s twice"),
        ("a,s\n0.5,0.5\n0.5,0.7531x\n", "line 3, column s"),
        ("a,s\n0.5,7531\n", "line 2, column s"),
        ("a,s\n0.5\n", "line 2"),
        ("a,s\n", "no records"),
    ];
    for (text, part) in cases {
        let error = support(text).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
        assert!(!error.contains("7531"), "{error}");
    }
    let error = read(&schema(), &[Path::new("/no/such.csv").to_owned()]).err().unwrap().to_string();
    assert!(error.contains("/no/such.csv"), "{error}");
}

#[test]
fn a_cause_is_told_once() {
    let missing = fs::read("/no/such").unwrap_err();
    let text = missing.to_string();
    let error = anyhow::Error::from(missing).context(format!("cannot read /no/such: {text}"));
    assert_eq!(one_line(error.as_ref()), format!("cannot read /no/such: {text}"));
    assert_eq!(one_line(anyhow::anyhow!("the cause").context("the error").as_ref()), "the error: the cause");
}

#[test]
fn the_status_shows_each_cohort_with_the_round_of_its_evaluation() {
    let metric = |cohort: &str, round| Metric {
        round,
        cohort: cohort.parse().unwrap(),
        site_id: None,
        records: 80,
        positives: 20,
        auroc: 0.8,
        figures: MetricFigures::Exact { aupr: 0.5, brier: 0.1 },
    };
    let noisy = Metric { figures: MetricFigures::Noisy { auroc_error: 0.0432 }, ..metric("val", 4) };
    let table = study::metric_table(&[noisy]).to_string();
    assert!(table.contains("0.8000 ± 0.0432, with noise  -"), "{table}");
    let table = study::metric_table(&[metric("val", 4), metric("test", 6)]).to_string();
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().take(3).collect()).collect();
    assert_eq!(rows, [["COHORT", "ROUND", "SITE"], ["val", "4", "pooled"], ["test", "6", "pooled"]]);
}
