//! `fusiondp-site ledger show`, `verify` and `export`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Context;
use fusiondp_dp::{AccountantError, Delta, Digest, DpEvent, Ledger, LedgerEntry, LedgerPublicKey, Released};
use fusiondp_protocol::ids::{SiteId, StudyId};
use fusiondp_protocol::receipt::ReceiptsFile;
use fusiondp_runtime::console::OutputError;
use fusiondp_runtime::files::create_atomic;
use fusiondp_runtime::identity::Role;
use fusiondp_runtime::outln;
use jiff::Timestamp;
use serde_json::json;

use crate::config::SiteConfig;
use crate::policy::meter::StepCounts;
use crate::policy::{EpsilonMeter, Spent};
use crate::store::verified::VerifiedLedger;
use crate::store::{Store, ledger_file};

/// Decimals of an epsilon, rounded up.
const DECIMALS: u32 = 4;

/// What was spent by one study, or by all of them.
struct Line {
    data_set: Digest,
    study: Option<String>,
    releases: u64,
    spent: Spent,
}

/// Prints entries and figures.
pub(super) async fn show(config: &SiteConfig, delta: f64, json: bool) -> anyhow::Result<()> {
    let delta = Delta::new(delta).context("--delta")?;
    let store = Store::open_read_only(&config.state_dir).await?;
    let rows = store.ledger_rows().await?;
    let open = rows.iter().filter(|row| !row.released).map(|row| row.signed.entry.sequence());
    let unreleased: BTreeSet<u64> = open.collect();
    let entries = rows.into_iter().map(|row| row.signed.entry).collect();
    let ledger = Ledger::open(entries).context("the ledger's hash chain is broken")?;
    let lines = lines(&ledger, delta)?;
    if json {
        return show_json(&ledger, &unreleased, delta, &lines);
    }
    Ok(show_tables(&ledger, &unreleased, delta, &lines)?)
}

fn show_json(
    ledger: &Ledger,
    unreleased: &BTreeSet<u64>,
    delta: Delta,
    lines: &[Line],
) -> anyhow::Result<()> {
    let entry =
        |entry: &LedgerEntry| json!({ "entry": entry, "released": !unreleased.contains(&entry.sequence()) });
    let document = json!({
        "head": ledger.head(),
        "delta": delta,
        "entries": ledger.entries().iter().map(entry).collect::<Vec<_>>(),
        "spent": lines.iter().map(line_json).collect::<Vec<_>>(),
    });
    Ok(outln!("{}", serde_json::to_string_pretty(&document)?)?)
}

fn show_tables(
    ledger: &Ledger,
    unreleased: &BTreeSet<u64>,
    delta: Delta,
    lines: &[Line],
) -> Result<(), OutputError> {
    outln!(
        "{:>6}  {:20}  {:32}  {:>6}  {:>4}  {:>10}  {:>10}  {:>9}  {:32}  what",
        "entry",
        "time (UTC)",
        "study",
        "round",
        "step",
        "noise",
        "sampling",
        "clip norm",
        "update"
    )?;
    for entry in ledger.entries() {
        print_entry(entry, unreleased.contains(&entry.sequence()))?;
    }
    outln!("\nspent at delta = {delta}, epsilons rounded up:")?;
    for line in lines {
        let study = line.study.as_deref().unwrap_or("all studies");
        outln!(
            "  data set {}…  {study:32}  {:>7} releases  replace {:>10}  zero_out {:>10}",
            &line.data_set.to_string()[..12],
            line.releases,
            figure(line.spent.replace),
            figure(line.spent.zero_out),
        )?;
    }
    let (entries, head) = (ledger.entries().len(), ledger.head());
    outln!("\n{entries} entries, {} charged and not released (yet), head {head}", unreleased.len())
}

/// Verifies chain, signatures and journal.
pub(super) async fn verify(config: &SiteConfig) -> anyhow::Result<()> {
    let ledger = VerifiedLedger::read(&config.state_dir, &config.journal()).await?;
    let (entries, head) = (ledger.chain.entries().len(), ledger.chain.head());
    outln!("the chain of {entries} entries holds, with its signatures and its journal; head {head}")?;
    match ledger.key {
        Some(key) => Ok(outln!("ledger key {key}")?),
        None => Ok(()),
    }
}

/// Writes the ledger, or the receipts of a study, to a file.
pub(crate) async fn export(config: &SiteConfig, study: Option<&StudyId>, out: &Path) -> anyhow::Result<()> {
    let store = Store::open_read_only(&config.state_dir).await?;
    let key = store.ledger_public_key().await?.context("the agent has not run with this state_dir yet")?;
    let (text, what) = match study {
        None => {
            let entries = store.signed_entries().await?;
            (ledger_file::write(key, &entries), format!("{} entries", entries.len()))
        }
        Some(study) => {
            let file = study_file(config, &store, study, key).await?;
            let (receipts, counts) = (file.receipts.len(), file.counts.len());
            (file.to_text(), format!("{receipts} receipts and {counts} charges of counts"))
        }
    };
    create_atomic(out, text.as_bytes())?;
    Ok(outln!("{what} in {}, signed with ledger key {key}", out.display())?)
}

/// Receipts of a study, and what was charged for its tables of counts: a site may have sent these alone.
async fn study_file(
    config: &SiteConfig,
    store: &Store,
    study: &StudyId,
    key: LedgerPublicKey,
) -> anyhow::Result<ReceiptsFile> {
    let receipts = store.receipts(study).await?;
    let entries = store.signed_entries().await?;
    let counts: Vec<_> = entries.into_iter().filter(|signed| counts_of(study, &signed.entry)).collect();
    let site = match receipts.first() {
        Some(signed) => signed.receipt.site.clone(),
        None if counts.is_empty() => anyhow::bail!(
            "no update of study {study} has left this site, and no table of counts was charged for it; \
             `fusiondp-site ledger show` lists the studies"
        ),
        None => own_id(config)?,
    };
    let file = ReceiptsFile::new(site, study.clone(), key, receipts);
    Ok(file.with_key_statements(store.key_statements().await?).with_counts(counts))
}

/// The site's id, as its certificate says it.
fn own_id(config: &SiteConfig) -> anyhow::Result<SiteId> {
    let credentials = config.tls.load_as(Role::Site).context("the site's id is read from its certificate")?;
    let identity = credentials.identity();
    identity.id().parse().with_context(|| {
        format!("the certificate names {}; use the certificate of this site's kit", identity.dns_name())
    })
}

/// Whether an entry paid for a table of counts of a study.
fn counts_of(study: &StudyId, entry: &LedgerEntry) -> bool {
    let charge = entry.charge();
    charge.study == study.as_str() && matches!(charge.released, Released::Counts { .. })
}

/// Per data set: each study in order of first charge, then all of them.
fn lines(ledger: &Ledger, delta: Delta) -> Result<Vec<Line>, AccountantError> {
    let mut studies: BTreeMap<String, (Digest, Vec<String>)> = BTreeMap::new();
    for entry in ledger.entries() {
        let charge = entry.charge();
        let (_, names) =
            studies.entry(charge.data_set.to_string()).or_insert_with(|| (charge.data_set, Vec::new()));
        if !names.contains(&charge.study) {
            names.push(charge.study.clone());
        }
    }
    let meter = EpsilonMeter::default();
    let line = |data_set, study: Option<String>, events: Vec<DpEvent>| {
        let releases = events.iter().map(|event| u64::from(event.steps().get())).sum();
        let spent = meter.spent(&StepCounts::of(&events), delta)?;
        Ok::<_, AccountantError>(Line { data_set, study, releases, spent })
    };
    let mut lines = Vec::new();
    for (data_set, names) in studies.into_values() {
        for study in names {
            let events = ledger.study_events(&study, data_set);
            let counts = counts(ledger, &study, data_set);
            if !events.is_empty() || counts.is_empty() {
                lines.push(line(data_set, Some(study.clone()), events)?);
            }
            if !counts.is_empty() {
                lines.push(line(data_set, Some(format!("{study}, counts")), counts)?);
            }
        }
        lines.push(line(data_set, None, ledger.events(data_set))?);
    }
    Ok(lines)
}

/// The tables of counts of one study on one data set.
fn counts(ledger: &Ledger, study: &str, data_set: Digest) -> Vec<DpEvent> {
    let charges = ledger.entries().iter().map(LedgerEntry::charge);
    let of_study = charges.filter(|charge| charge.study == study && charge.data_set == data_set);
    of_study
        .filter(|charge| matches!(charge.released, Released::Counts { .. }))
        .map(|charge| charge.event)
        .collect()
}

fn line_json(line: &Line) -> serde_json::Value {
    json!({
        "data_set": line.data_set,
        "study": line.study,
        "releases": line.releases,
        "epsilon": { "replace": line.spent.replace, "zero_out": line.spent.zero_out },
    })
}

fn print_entry(entry: &LedgerEntry, unreleased: bool) -> Result<(), OutputError> {
    let charge = entry.charge();
    let time = i64::try_from(charge.time_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    let time = time
        .map_or_else(|| charge.time_ms.to_string(), |time| time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
    outln!(
        "{:>6}  {time:20}  {:32}  {:>6}  {:>4}  {:>10.6}  {:>10.6}  {:>9}  {}  {}{}",
        entry.sequence(),
        charge.study,
        charge.round,
        charge.local_step,
        charge.event.noise_multiplier().get(),
        charge.event.sampling_probability().get(),
        charge.clip_norm.get(),
        charge.update_id,
        what(&charge.released),
        if unreleased { "  not released" } else { "" },
    )
}

/// What noise was added to.
fn what(released: &Released) -> String {
    match released {
        Released::PrivateSum => "private sum".to_owned(),
        Released::PublicSum => "public sum".to_owned(),
        Released::Counts { cohort } => format!("counts of cohort {cohort}"),
    }
}

fn figure(epsilon: fusiondp_dp::Epsilon) -> String {
    if epsilon.is_finite() { format!("{:.4}", epsilon.rounded_up(DECIMALS)) } else { "infinity".to_owned() }
}
