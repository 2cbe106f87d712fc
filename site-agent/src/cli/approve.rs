//! `fusiondp-site approve` and `reject`: a person decides about a study.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use fusiondp_dp::Released;
use fusiondp_protocol::study::StudyDocument;
use fusiondp_runtime::clock::{Clock, SystemClock};
use fusiondp_runtime::{out, outln};

use super::difference::difference;
use super::offers::Offers;
use super::text::time;
use super::{ApproveArgs, RejectArgs, plan_text};
use crate::config::SiteConfig;
use crate::imputer::{ImputerProvider, ProviderSettings};
use crate::policy::forecast::{self, Forecast};
use crate::policy::{EpsilonMeter, Past, Policy, Purpose, Verdict};
use crate::store::{Decision, Look, OfferedStudy, Store};

/// Shows the plan, asks, and records the approval; exit code 1 where the study was not approved.
pub(super) async fn approve(config: &SiteConfig, args: &ApproveArgs) -> anyhow::Result<ExitCode> {
    let decided_by = person(args.by.as_deref())?;
    let store = Store::open_for_decisions(&config.state_dir).await?;
    let offers = Offers::read(&store).await?;
    let offered = offers.find(&args.study)?;
    let document = StudyDocument::from_bytes(&offered.document)?;
    show(config, &offers, offered, &document)?;
    if let Err(refusal) = permitted(config, offered, &document) {
        outln!(
            "\nThe policy of this site refuses the study, and an approval would not change that:\n  {refusal}"
        )?;
        return Ok(ExitCode::FAILURE);
    }
    if !args.yes && !asked("\nApprove this study? [y/N] ")? {
        outln!("not approved; nothing was recorded")?;
        return Ok(ExitCode::FAILURE);
    }
    let decision = decision(offered, Verdict::Approved, decided_by);
    store.record_decision(&decision).await?;
    outln!("\napproved by {}; the agent joins with the next offer", decision.decided_by)?;
    Ok(ExitCode::SUCCESS)
}

/// Records that a study may not run, or no more.
pub(super) async fn reject(config: &SiteConfig, args: &RejectArgs) -> anyhow::Result<ExitCode> {
    let decided_by = person(args.by.as_deref())?;
    if args.reason.trim().is_empty() {
        bail!("--reason is empty; say why, for those at this site who ask later");
    }
    let store = Store::open_for_decisions(&config.state_dir).await?;
    let offers = Offers::read(&store).await?;
    let offered = offers.find(&args.study)?;
    let verdict = Verdict::Rejected { reason: args.reason.trim().to_owned() };
    let decision = decision(offered, verdict, decided_by);
    store.record_decision(&decision).await?;
    outln!(
        "{} rejected by {}; the agent refuses every further task of it. What has left stays spent.",
        offered.study,
        decision.decided_by
    )?;
    Ok(ExitCode::SUCCESS)
}

fn person(by: Option<&str>) -> anyhow::Result<String> {
    match by.map(str::trim).filter(|name| !name.is_empty()) {
        Some(name) => Ok(name.to_owned()),
        None => bail!("who decides? give --by NAME, or set USER"),
    }
}

fn decision(offered: &OfferedStudy, verdict: Verdict, decided_by: String) -> Decision {
    Decision {
        study: offered.study.clone(),
        digest: offered.digest,
        verdict,
        decided_by,
        decided_ms: SystemClock.now_ms(),
    }
}

fn permitted(
    config: &SiteConfig,
    offered: &OfferedStudy,
    document: &StudyDocument,
) -> Result<(), crate::policy::Refusal> {
    let policy = Policy::new(config.policy.clone(), Purpose::Production);
    match &offered.look {
        Some((Look::Ready { units, .. }, _)) => policy.check_study(document.study(), *units),
        _ => policy.check_document(document.study()),
    }
}

fn show(
    config: &SiteConfig,
    offers: &Offers,
    offered: &OfferedStudy,
    document: &StudyDocument,
) -> anyhow::Result<()> {
    let settings = ProviderSettings::from(config.imputer.clone());
    let imputers = ImputerProvider::new(settings, Purpose::Production, Arc::new(SystemClock));
    outln!("Study {}, \"{}\"\n", offered.study, document.study().study.name)?;
    out!("{}", plan_text::facts(config, offered, document, &imputers))?;
    if let Some((Look::Ready { units, data_set, .. }, _)) = &offered.look {
        let past = Past::of(offers.entries(), *data_set, offered.study.as_str(), SystemClock.now_ms());
        let meter = EpsilonMeter::default();
        const NO_EPSILON: &str = "no epsilon can be computed for this study";
        let is_other = |cohort: &_| config.data.cohort_identity.contains_key(cohort);
        let counts = forecast::counts_of(document.study(), is_other);
        let forecast = Forecast::of(document.study(), *units, (&past, counts), &config.policy, &meter);
        let forecast = forecast.context(NO_EPSILON)?;
        if let Some(forecast) = &forecast {
            out!("{}", plan_text::figures(document.study(), forecast))?;
        }
        out!("{}", plan_text::counts(counts))?;
        let limits = match (forecast, counts) {
            (Some(forecast), _) => forecast.limits,
            (None, None) => Vec::new(),
            (None, Some(counts)) => {
                let releases = [(Released::PrivateSum, counts)];
                forecast::lines(&past, &releases, &config.policy, &meter).context(NO_EPSILON)?
            }
        };
        if !limits.is_empty() {
            out!("{}", plan_text::limits(&limits, config.policy.delta))?;
        }
    }
    show_difference(offers, document)
}

fn show_difference(offers: &Offers, document: &StudyDocument) -> anyhow::Result<()> {
    let Some((decision, before)) = offers.approved_before(document) else {
        outln!("\nNo other study was approved at this site before.")?;
        return Ok(());
    };
    let (by, when) = (&decision.decided_by, time(decision.decided_ms));
    outln!("\nDifference from {}, approved by {by} on {when}:", decision.study)?;
    let lines = difference(before.study(), document.study());
    if lines.is_empty() {
        outln!("  no setting; comments or layout alone")?;
    }
    for line in lines {
        outln!("  {line}")?;
    }
    Ok(())
}

fn asked(question: &str) -> anyhow::Result<bool> {
    out!("{question}")?;
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin()
        .read_line(&mut answer)
        .context("the answer cannot be read; use --yes where nobody can be asked")?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
