//! `receipts verify`: what the receipts of a report folder show.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use fusiondp_dp::LedgerPublicKey;
use fusiondp_protocol::SiteId;
use fusiondp_runtime::outln;
use indicatif::{ProgressBar, ProgressStyle};

use super::table::Table;
use crate::receipts::{Folder, SiteVerdict, Verified};
use crate::text::epsilon;

#[derive(Debug, Subcommand)]
pub(super) enum ReceiptsCommand {
    /// Verify the receipts of a study offline and recompute its epsilon from nothing but them.
    Verify(Verify),
}

/// Verify the receipts of a study.
#[derive(Debug, Args)]
#[command(after_help = "\
Reads study.toml, receipts-SITE.jsonl and, if it is there, report.json of a folder that `study export` wrote. Needs no
coordinator, no certificate and no network. Exit code 1 if anything does not hold.

A hospital's key is what `fusiondp-site ledger verify` prints there; ask the hospital, not the coordinator.

Example:
  fusiondp-coordinator receipts verify report --key hospital-a=6f0c...")]
pub(super) struct Verify {
    /// The report folder.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Key of a site as the hospital tells it; may be repeated.
    #[arg(long = "key", value_name = "SITE=KEY", value_parser = key)]
    keys: Vec<(SiteId, LedgerPublicKey)>,
    /// JSON instead of a table.
    #[arg(long)]
    json: bool,
}

impl ReceiptsCommand {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Verify(command) => command.run(),
        }
    }
}

impl Verify {
    fn run(self) -> anyhow::Result<()> {
        let folder = Folder::read(&self.folder)?;
        let keys: BTreeMap<_, _> = self.keys.into_iter().collect();
        let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} receipts, {eta}")?;
        let bar = ProgressBar::new(folder.receipts() as u64).with_style(style);
        let verified = folder.verify(&keys, || bar.inc(1))?;
        bar.finish_and_clear();
        if self.json {
            outln!("{}", serde_json::to_string_pretty(&verified)?)?;
        } else {
            show(&verified, &keys)?;
        }
        anyhow::ensure!(verified.holds(), "the receipts do not hold: see the lines above");
        Ok(())
    }
}

fn show(verified: &Verified, keys: &BTreeMap<SiteId, LedgerPublicKey>) -> anyhow::Result<()> {
    let mut table =
        Table::new(["site", "receipts", "charges", "replace", "zero_out", "ledger key", "verdict"]);
    for site in &verified.sites {
        table.row(row(site, keys.contains_key(&site.site)));
    }
    outln!("study {}, epsilon at delta = {}, rounded up\n\n{table}", verified.study, verified.delta)?;
    let of = match verified.max_overlap {
        1 => "the largest of all sites".to_owned(),
        overlap => format!("the worst {overlap} sites together"),
    };
    outln!(
        "consortium, recomputed from the receipts: replace {}, zero_out {} ({of})",
        epsilon(verified.epsilon.replace),
        epsilon(verified.epsilon.zero_out)
    )?;
    if let Some(records) = &verified.records_epsilon {
        outln!(
            "whole records, recomputed from the receipts: replace {}, zero_out {} ({of})",
            epsilon(records.replace),
            epsilon(records.zero_out)
        )?;
    }
    for site in &verified.sites {
        site.problems.iter().try_for_each(|problem| outln!("{}: {problem}", site.site))?;
    }
    verified.problems.iter().try_for_each(|problem| outln!("{problem}"))?;
    if keys.len() < verified.sites.len() {
        outln!(
            "keys without a mark are as the coordinator recorded them; compare them with what the hospitals tell"
        )?;
    }
    Ok(())
}

fn row(site: &SiteVerdict, told: bool) -> [String; 7] {
    let verdict = match site.problems.len() {
        0 => "holds".to_owned(),
        1 => "1 problem".to_owned(),
        more => format!("{more} problems"),
    };
    let mark = if told { " *" } else { "" };
    [
        site.site.to_string(),
        site.receipts.to_string(),
        site.charges.to_string(),
        epsilon(site.epsilon.replace),
        epsilon(site.epsilon.zero_out),
        format!("{}{mark}", site.ledger_key),
        verdict,
    ]
}

fn key(text: &str) -> Result<(SiteId, LedgerPublicKey), String> {
    let (site, key) = text.split_once('=').ok_or("give SITE=KEY, for example hospital-a=6f0c...")?;
    let site = site.parse().map_err(|error| format!("{site}: {error}"))?;
    Ok((site, key.parse().map_err(|error: fusiondp_dp::ParameterError| error.to_string())?))
}
