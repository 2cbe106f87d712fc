//! `receipts verify`: what the receipts of a report folder show.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Subcommand};
use fusiondp_dp::LedgerPublicKey;
use fusiondp_protocol::SiteId;
use fusiondp_runtime::outln;
use fusiondp_runtime::tls::Authority;
use indicatif::{ProgressBar, ProgressStyle};

use super::table::Table;
use crate::receipts::{Epsilons, Folder, KeyBinding, SiteVerdict, Trust, Verified};
use crate::text::{epsilon, time};

#[derive(Debug, Subcommand)]
pub(super) enum ReceiptsCommand {
    /// Verify the receipts of a study offline and recompute its epsilon from nothing but them.
    Verify(Verify),
}

/// Verify the receipts of a study.
#[derive(Debug, Args)]
#[command(after_help = "\
Reads study.toml, receipts-SITE.jsonl and, if it is there, report.json of a folder that `study export` wrote. Needs no
coordinator and no network. Exit code 1 if anything does not hold.

With --ca it checks whose keys signed: that each is bound to a certificate of the consortium's authority in the hospital's
name, which was valid when the site charged. Take the file from somebody who trusts it, such as a hospital's kit. A ledger outlives an
authority: where a site has had certificates of several, such as before a new one or in a second consortium, give one PEM file
with all of them (`cat ca-2026.pem ca-2027.pem > ca.pem`).

Who does not trust the authority's holder either asks the hospital: its key is what `fusiondp-site ledger verify` prints.

Examples:
  fusiondp-coordinator receipts verify report --ca ca.pem
  fusiondp-coordinator receipts verify report --key hospital-a=6f0c...")]
pub(super) struct Verify {
    /// The report folder.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Key of a site as the hospital tells it; may be repeated.
    #[arg(long = "key", value_name = "SITE=KEY", value_parser = key)]
    keys: Vec<(SiteId, LedgerPublicKey)>,
    /// Certificate of the consortium's authority, `ca.pem` of every kit; may hold those of several authorities.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
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
        let authority = self.ca.as_deref().map(Authority::read).transpose().context("--ca")?;
        let trust = Trust { keys: self.keys.into_iter().collect(), authority };
        let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} receipts, {eta}")?;
        let bar = ProgressBar::new(folder.receipts() as u64).with_style(style);
        let verified = folder.verify(&trust, || bar.inc(1))?;
        bar.finish_and_clear();
        if self.json {
            outln!("{}", serde_json::to_string_pretty(&verified)?)?;
        } else {
            show(&verified, &trust.keys)?;
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
    show_counts(verified)?;
    for site in &verified.sites {
        site.problems.iter().try_for_each(|problem| outln!("{}: {problem}", site.site))?;
    }
    verified.problems.iter().try_for_each(|problem| outln!("{problem}"))?;
    verified.sites.iter().try_for_each(|site| show_binding(site, keys.get(&site.site)))
}

/// What tables of counts cost.
fn show_counts(verified: &Verified) -> anyhow::Result<()> {
    if !verified.lists_counts {
        outln!("tables of counts: not all recomputed, files of an older format list no charges of them")?;
    }
    let Some(counts) = &verified.counts else { return Ok(()) };
    let line = |what: String, figures: &Epsilons| {
        outln!("{what}: replace {}, zero_out {}", epsilon(figures.replace), epsilon(figures.zero_out))
    };
    for one in &counts.cohorts {
        line(format!("counts of cohort {}, {} tables", one.cohort, one.tables), &one.epsilon)?;
    }
    line("counts and training together".to_owned(), &counts.epsilon_with_training)?;
    if let Some(records) = &counts.records_epsilon_with_training {
        line("counts and training together, whole records".to_owned(), records)?;
    }
    Ok(())
}

/// Whose the key is that signed a site's receipts.
fn show_binding(site: &SiteVerdict, told: Option<&LedgerPublicKey>) -> anyhow::Result<()> {
    let name = &site.site;
    match &site.key_binding {
        KeyBinding::Bound(certificates) => certificates.iter().try_for_each(|certificate| {
            let (from, until) = (time(certificate.from_ms), time(certificate.until_ms));
            let fingerprint = certificate.fingerprint;
            outln!("{name}: key bound to certificate {fingerprint} of site {name}, valid {from} to {until}")
        })?,
        KeyBinding::NotChecked if told == Some(&site.ledger_key) => {
            outln!("{name}: the key is the one that was given with --key")?
        }
        KeyBinding::NotChecked => outln!("{name}: whose key this is was not checked; give --ca")?,
        // A problem of the site says why.
        KeyBinding::Unbound => {}
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
