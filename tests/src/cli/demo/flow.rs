//! The steps of the demo, one after the other.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use fusiondp_protocol::study::Study;
use fusiondp_runtime::console::OutputError;
use fusiondp_runtime::outln;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::data::DemoData;
use super::{data, folder, summary};
use crate::harness::federation::{COORDINATOR, SIMULATE};
use crate::harness::toml_text::{SAMPLE_STUDY, TomlText};
use crate::harness::{CommandLine, Federation, FederationOptions, PublicColumns, SiteSetup};
use crate::split::SiteFolder;

/// The fitted imputer.
const IMPUTER: &str = "imputer.onnx";
/// Models that membership is judged by: enough to show, and trained while somebody waits.
const REFERENCES: &str = "8";

/// What the demo is told.
#[derive(Debug, Clone)]
pub(super) struct DemoOptions {
    /// One folder per hospital and support.csv; without it the shared sepsis data, else a synthetic cohort.
    pub(super) data: Option<PathBuf>,
    /// Number of sites, at least the number of hospitals.
    pub(super) sites: usize,
    /// Seed of split, synthetic data, imputer and initial model. Noise and secret samples never have a seed here.
    pub(super) seed: u64,
    /// Folder of the report.
    pub(super) out: PathBuf,
    /// Folder of everything else.
    pub(super) run: PathBuf,
    /// Port of the coordinator; any free one if absent.
    pub(super) port: Option<u16>,
    /// Study document in place of the sample.
    pub(super) study: Option<PathBuf>,
    /// Rounds in place of the study's.
    pub(super) rounds: Option<u32>,
}

/// Runs the demo from an empty folder to the report.
///
/// # Errors
/// Whatever keeps a step from its end, with the command that failed and what it said. All processes are ended.
pub(super) async fn run(options: DemoOptions) -> anyhow::Result<()> {
    let started = Instant::now();
    folder::start_clean(&options.run)?;
    folder::start_clean(&options.out)?;
    let data = data::prepare(&options)?;
    let text = study_text(&options)?;
    let public = PublicColumns::of_study(&text)?;
    let setup =
        |site: &SiteFolder| SiteSetup { public: public.clone(), ..SiteSetup::new(&site.site, &site.folder) };
    let setups = data.sites.iter().map(setup).collect();
    heading("Provision: a certificate and a folder for everybody")?;
    let federation_options = FederationOptions { name: "demo".to_owned(), port: options.port, echo: true };
    let mut federation = Federation::provision(&options.run, setups, federation_options).await?;
    let study = prepare_study(&options, &data, &federation, &text).await?;
    heading("Start the coordinator and one agent per site")?;
    federation.start_coordinator().await?;
    for site in &data.sites {
        federation.check_site(&site.site, Some(&study)).run().await?;
    }
    federation.start_sites()?;
    let id = train(&mut federation, &study).await?;
    heading("Report")?;
    federation.export(&id, &options.out).await?;
    let table = summary::collect(&federation, &id, &options.out).await?;
    let imputer = federation.imputers().join(IMPUTER);
    let authority = federation.admin().join("ca.pem");
    federation.stop().await?;
    heading("Recompute the privacy loss from the sites' signed receipts alone")?;
    let line = CommandLine::new(COORDINATOR).args(["receipts", "verify"]).arg(&options.out);
    let line = line.arg("--ca").arg(&authority);
    outln!("$ {line}")?;
    line.run().await?;
    attack(&data, &Study::parse(&text)?, &imputer, &options.out).await?;
    outln!("\n{table}")?;
    outln!(
        "the demo took {:.0} s; open {}",
        started.elapsed().as_secs_f64(),
        options.out.join("report.html").display()
    )?;
    Ok(())
}

fn heading(text: &str) -> Result<(), OutputError> {
    outln!("\n== {text}")
}

fn study_text(options: &DemoOptions) -> anyhow::Result<String> {
    match &options.study {
        Some(path) => fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display())),
        None => Ok(SAMPLE_STUDY.to_owned()),
    }
}

/// Fits the imputer and writes the study with its digest.
async fn prepare_study(
    options: &DemoOptions,
    data: &DemoData,
    federation: &Federation,
    text: &str,
) -> anyhow::Result<PathBuf> {
    let mut study = TomlText::new(text);
    study.set("training", "initialization_seed", options.seed.cast_signed())?;
    study.set("federation", "min_sites", (options.sites as i64).min(2))?;
    if let Some(rounds) = options.rounds {
        study.set_rounds(rounds)?;
    }
    let path = options.run.join("study.toml");
    fs::write(&path, study.text())?;
    heading("Fit one imputer for all sensitive features on the support data")?;
    let imputer = federation.imputers().join(IMPUTER);
    let line = CommandLine::new(COORDINATOR).args(["imputer", "fit", "--schema"]).arg(&path);
    let line = line.arg("--support").arg(&data.support).arg("--out").arg(&imputer);
    let line = line.arg("--seed").arg(options.seed.to_string());
    outln!("$ {line}")?;
    line.run().await?;
    study.replace_section("imputer", &format!("kind = \"onnx\"\nsha256 = \"{}\"", sha256(&imputer)?))?;
    fs::write(&path, study.text())?;
    Ok(path)
}

/// Submits the study and shows its progress until it has ended.
async fn train(federation: &mut Federation, study: &Path) -> anyhow::Result<String> {
    heading("Submit the study and watch it")?;
    let id = federation.submit(study).await?;
    let line = federation.study("watch").arg(&id);
    outln!("$ {line}")?;
    line.run().await?;
    federation.wait_finished(&id, Duration::from_secs(60)).await?;
    Ok(id)
}

/// Attacks what was released and trained; the report shows what came of it.
async fn attack(data: &DemoData, study: &Study, imputer: &Path, report: &Path) -> anyhow::Result<()> {
    heading("Attack the releases and the model, and show it in the report")?;
    let audit = CommandLine::new(SIMULATE).args(["audit", "--faults", "--report"]).arg(report);
    // Without a private part there is nothing that canaries could be sent through.
    let audit = study.fusion.mode.has_private_part().then_some(audit);
    let model = CommandLine::new(SIMULATE).args(["attack", "--report"]).arg(report);
    let model = model.arg("--data").arg(&data.folder).arg("--imputer").arg(imputer);
    let model = model.args(["--references", REFERENCES]);
    for line in audit.into_iter().chain([model]) {
        outln!("$ {line}")?;
        line.run().await?;
    }
    Ok(())
}

/// SHA-256 of a file, hexadecimal.
///
/// # Errors
/// When the file cannot be read.
fn sha256(path: &Path) -> anyhow::Result<String> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(hex::encode(Sha256::digest(bytes)))
}
