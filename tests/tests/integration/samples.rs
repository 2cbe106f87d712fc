//! Every sample in `deploy/samples` is read by what it is a sample for.
#![allow(clippy::unwrap_used)]

use std::fs;

use fusiondp_coordinator::config::CoordinatorConfig;
use fusiondp_coordinator::provision::ConsortiumFile;
use fusiondp_protocol::study::Study;
use fusiondp_site_agent::config::SiteConfig;
use fusiondp_tests::shared_data::checkout;

#[test]
fn every_sample_loads() {
    let mut studies = 0;
    for entry in fs::read_dir(checkout().join("deploy/samples")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        match name.as_str() {
            "consortium.toml" => drop(ConsortiumFile::load(&path).unwrap_or_else(|error| panic!("{error}"))),
            "coordinator.toml" => {
                drop(CoordinatorConfig::load(&path).unwrap_or_else(|error| panic!("{error}")))
            }
            "site.toml" => drop(SiteConfig::load(&path).unwrap_or_else(|error| panic!("{error}"))),
            study if study.ends_with("-study.toml") => {
                let text = fs::read_to_string(&path).unwrap();
                Study::parse(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
                studies += 1;
            }
            other => panic!("{other} is a sample that no test knows"),
        }
    }
    assert!(studies >= 2, "{studies} sample studies");
}

#[test]
fn the_first_sample_that_people_read_explains_every_section() {
    let text = fs::read_to_string(checkout().join("deploy/samples/sepsis-study.toml")).unwrap();
    let lines = text.lines().collect::<Vec<_>>();
    for section in [
        "[study]",
        "[model]",
        "[imputer]",
        "[fusion]",
        "[privacy]",
        "[training]",
        "[federation]",
        "[evaluation]",
    ] {
        let at = lines.iter().position(|line| *line == section).unwrap_or_else(|| panic!("no {section}"));
        assert!(at > 0 && lines[at - 1].starts_with('#'), "{section} is not explained");
    }
}
