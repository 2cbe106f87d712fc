//! `fusiondp-site check`: one line per item, with the remedy.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use fusiondp_dp::Digest;
use fusiondp_learn::onnx::inspect;
use fusiondp_protocol::messages::Limits;
use fusiondp_protocol::study::StudyDocument;
use fusiondp_runtime::clock::{Clock, SystemClock};
use fusiondp_runtime::console::{OutputError, one_line};
use fusiondp_runtime::files::read_limited;
use fusiondp_runtime::identity::Role;
use fusiondp_runtime::outln;
use serde::Serialize;

use super::CheckArgs;
use crate::config::SiteConfig;
use crate::data::csv::file_name;
use crate::data::source::Records;
use crate::data::{DataError, DataSource, FileSource, describe};
use crate::imputer::onnx::model_files;
use crate::imputer::runtime::{RuntimeLookup, environment};
use crate::imputer::{ImputerProvider, ProviderSettings};
use crate::policy::{Policy, Purpose};
use crate::store::DATABASE_FILE;
use crate::store::verified::VerifiedLedger;
use crate::transport::{Link, TlsConnector};

/// Longest wait for the coordinator.
const COORDINATOR_TIMEOUT: Duration = Duration::from_secs(20);

/// A certificate with fewer days left is said to end soon.
const SOON_DAYS: i64 = 30;

/// Largest model file that is looked into, in bytes.
const MAX_MODEL_BYTES: u64 = 1 << 30;

/// One checked item.
#[derive(Debug, Serialize)]
struct Item {
    item: String,
    ok: bool,
    detail: String,
}

/// Items as they are found, printed at once unless they become JSON.
struct Report {
    items: Vec<Item>,
    json: bool,
    /// Whether somebody still reads the lines.
    output: Result<(), OutputError>,
}

impl Report {
    fn add(&mut self, item: impl Into<String>, outcome: Result<String, String>) {
        let (ok, detail) = match outcome {
            Ok(detail) => (true, detail),
            Err(problem) => (false, problem),
        };
        let item = Item { item: item.into(), ok, detail };
        if !self.json && self.output.is_ok() {
            self.output = outln!("{}  {}: {}", if item.ok { "ok  " } else { "FAIL" }, item.item, item.detail);
        }
        self.items.push(item);
    }

    fn finish(self) -> anyhow::Result<ExitCode> {
        self.output?;
        if self.json {
            outln!("{}", serde_json::to_string_pretty(&self.items)?)?;
        }
        let ok = self.items.iter().all(|item| item.ok);
        Ok(if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// An error with its causes: the remedy is often in the cause.
fn told(error: impl std::error::Error + 'static) -> String {
    one_line(&error)
}

pub(super) async fn check(args: CheckArgs) -> anyhow::Result<ExitCode> {
    let mut report = Report { items: Vec::new(), json: args.json, output: Ok(()) };
    let config = match SiteConfig::load(&args.config.config) {
        Ok(config) => config,
        Err(error) => {
            report.add("configuration", Err(told(error)));
            return report.finish();
        }
    };
    report.add("configuration", Ok(format!("{} is complete", args.config.config.display())));
    let study = args.study.as_deref().map(study);
    if let Some(Err(error)) = &study {
        report.add("study", Err(error.clone()));
    }
    let study = study.and_then(Result::ok);
    state(&mut report, &config).await;
    certificate(&mut report, &config);
    data(&mut report, &config, study.as_ref());
    imputers(&mut report, &config, study.as_ref());
    coordinator(&mut report, &config).await;
    report.finish()
}

fn study(path: &Path) -> Result<StudyDocument, String> {
    let bytes = read_limited(path, 1 << 20).map_err(told)?;
    StudyDocument::from_bytes(&bytes).map_err(|error| format!("{}: {error}", path.display()))
}

async fn state(report: &mut Report, config: &SiteConfig) {
    let folder = &config.state_dir;
    if !folder.join(DATABASE_FILE).exists() {
        report.add("ledger", Ok(format!("{} is new; nothing was spent", folder.display())));
        return;
    }
    let verified = VerifiedLedger::read(folder, &config.journal()).await;
    let described = verified.map(|ledger| {
        format!(
            "the chain of {} entries holds, with its signatures and its journal",
            ledger.chain.entries().len()
        )
    });
    report.add("ledger", described.map_err(told));
}

fn certificate(report: &mut Report, config: &SiteConfig) {
    let now_ms = SystemClock.now_ms();
    let verified = config.tls.load_as(Role::Site).and_then(|credentials| credentials.verify(now_ms));
    let described = verified.map(|summary| {
        let days = summary.days_left(now_ms);
        let soon = if days < SOON_DAYS { "; ask for a new one now" } else { "" };
        format!("{}, signed by {}, {days} days left{soon}", summary.identity, summary.issuer)
    });
    report.add("certificate", described.map_err(told));
}

fn data(report: &mut Report, config: &SiteConfig, study: Option<&StudyDocument>) {
    let source =
        FileSource::new(config.data.train.clone(), config.data.cohorts.clone(), Arc::new(SystemClock))
            .strict();
    let Some(document) = study else {
        for (name, files) in source.files() {
            for path in files.paths() {
                let opened =
                    describe(path, files.format()).map(|found| format!("{} {found}", path.display()));
                report.add(format!("data, {name}"), opened.map_err(|error| error.with_value()));
            }
        }
        return;
    };
    let cohorts =
        config.data.cohorts.keys().map(|name| (format!("cohort {name}"), Records::Cohort(name.clone())));
    for (name, records) in std::iter::once(("train".to_owned(), Records::Train)).chain(cohorts) {
        let read = source.read(&records, document.study());
        if let (Records::Train, Ok(dataset)) = (&records, &read) {
            policy(report, config, document, dataset.units().count() as u64);
        }
        let described = read.map(|dataset| {
            format!(
                "{} records of {} units fit the study's schema",
                dataset.records(),
                dataset.units().count()
            )
        });
        report.add(format!("data, {name}"), described.map_err(|error: DataError| error.with_value()));
    }
}

fn policy(report: &mut Report, config: &SiteConfig, document: &StudyDocument, units: u64) {
    let permitted =
        Policy::new(config.policy.clone(), Purpose::Production).check_study(document.study(), units);
    let permitted = permitted.map(|()| format!("permits the study {}", document.id()));
    report.add("policy", permitted.map_err(told));
}

fn imputers(report: &mut Report, config: &SiteConfig, study: Option<&StudyDocument>) {
    let models = match config.imputer.dir.as_deref().filter(|folder| folder.is_dir()) {
        Some(folder) => model_files(folder),
        None => Ok(Vec::new()),
    };
    let models = match models {
        Ok(models) => models,
        Err(error) => return report.add("imputers", Err(told(error))),
    };
    for path in &models {
        report.add(format!("imputer, {}", file_name(path)), inspected(path));
    }
    let provider = ImputerProvider::new(
        ProviderSettings::from(config.imputer.clone()),
        Purpose::Production,
        Arc::new(SystemClock),
    );
    if let Some(document) = study {
        let found = provider.find(document).map(|imputer| match imputer {
            Some(_) => format!("the study's {} imputer is there and fits", document.study().imputer.kind()),
            None => "the study computes on no imputed value".to_owned(),
        });
        report.add("imputer of the study", found.map_err(told));
    }
    runtime(report, config, !models.is_empty());
}

fn inspected(path: &Path) -> Result<String, String> {
    let bytes = read_limited(path, MAX_MODEL_BYTES).map_err(told)?;
    let summary = inspect(&bytes).map_err(told)?;
    summary.require_self_contained().map_err(told)?;
    let outputs: Vec<&str> = summary.outputs.iter().map(|output| output.name.as_str()).collect();
    Ok(format!("sha256 {}, outputs {}", Digest::of(&bytes), outputs.join(", ")))
}

fn runtime(report: &mut Report, config: &SiteConfig, needed: bool) {
    let lookup = RuntimeLookup::of_process(config.imputer.onnx_runtime.clone());
    let loaded = environment(&lookup).map(|(path, _)| format!("{} loads", path.display()));
    match loaded {
        // Without a model nothing needs it, unless the site has named a library that is not there.
        Err(_) if !needed && config.imputer.onnx_runtime.is_none() => {
            report.add("ONNX Runtime", Ok("not installed, and no ONNX imputer needs it".to_owned()));
        }
        outcome => report.add("ONNX Runtime", outcome.map_err(told)),
    }
}

async fn coordinator(report: &mut Report, config: &SiteConfig) {
    let connector = TlsConnector {
        url: config.coordinator.clone(),
        coordinator_id: config.coordinator_id.clone(),
        files: config.tls.clone(),
    };
    // Checking reads no ledger, so it states nothing about its key either.
    let link = Link::open(&connector, Limits::default(), None);
    let answered = tokio::time::timeout(COORDINATOR_TIMEOUT, link).await;
    let outcome = match answered {
        Err(_) => Err(format!("{} does not answer; check address, network and firewall", config.coordinator)),
        Ok(Err(error)) => Err(told(error)),
        Ok(Ok(link)) => {
            let registered = link.registered();
            Ok(format!(
                "{} answers, consortium {}, protocol version {}, knows this site as {}",
                config.coordinator, registered.consortium, registered.protocol_version, registered.site_id
            ))
        }
    };
    report.add("coordinator", outcome);
}
