//! `fusiondp-site status` and `studies`: what the agent does, what was spent, what was asked and refused.

use std::collections::BTreeMap;

use fusiondp_dp::Digest;
use fusiondp_runtime::clock::{Clock, SystemClock};
use fusiondp_runtime::{out, outln};
use serde_json::{Value, json};

use super::offers::Offers;
use super::text::{figure, time};
use crate::config::SiteConfig;
use crate::policy::forecast::{ForecastLine, lines};
use crate::policy::{Approval, EpsilonMeter, Past, Verdict};
use crate::store::{Look, OfferedStudy, RefusalRow, Store};

/// Refusals that are shown.
const SHOWN_REFUSALS: u32 = 10;

/// Everything that `status` says.
struct Status {
    agent: Option<String>,
    offers: Offers,
    spent: Vec<SpentOn>,
    refusals: Vec<RefusalRow>,
}

/// What was spent on one data set against each limit.
struct SpentOn {
    data_set: Digest,
    /// The study that was charged last, which the limit per study is shown for.
    study: Option<String>,
    lines: Vec<ForecastLine>,
}

/// Lists offered studies with their approval.
pub(super) async fn studies(config: &SiteConfig, as_json: bool) -> anyhow::Result<()> {
    let store = Store::open_read_only(&config.state_dir).await?;
    let offers = Offers::read(&store).await?;
    if as_json {
        return Ok(outln!(
            "{}",
            serde_json::to_string_pretty(&studies_json(&offers, config.policy.approval))?
        )?);
    }
    Ok(out!("{}", studies_text(&offers, config.policy.approval))?)
}

/// Shows agent, budget, studies and newest refusals.
pub(super) async fn status(config: &SiteConfig, as_json: bool) -> anyhow::Result<()> {
    let store = Store::open_read_only(&config.state_dir).await?;
    let offers = Offers::read(&store).await?;
    let status = Status {
        agent: Store::agent_of(&config.state_dir)?,
        spent: spent(config, &offers)?,
        refusals: store.newest_refusals(SHOWN_REFUSALS).await?,
        offers,
    };
    if as_json {
        return Ok(outln!("{}", serde_json::to_string_pretty(&status_json(config, &status))?)?);
    }
    show(config, &status)
}

fn spent(config: &SiteConfig, offers: &Offers) -> anyhow::Result<Vec<SpentOn>> {
    let mut newest: BTreeMap<String, (Digest, Option<String>)> = BTreeMap::new();
    for offered in &offers.offered {
        if let Some((Look::Ready { data_set, .. }, _)) = offered.look {
            newest.entry(data_set.to_string()).or_insert((data_set, None));
        }
    }
    for charge in offers.entries().iter().map(|entry| entry.charge()) {
        newest.insert(charge.data_set.to_string(), (charge.data_set, Some(charge.study.clone())));
    }
    let (meter, now_ms) = (EpsilonMeter::default(), SystemClock.now_ms());
    let of = |(data_set, study): (Digest, Option<String>)| {
        let past = Past::of(offers.entries(), data_set, study.as_deref().unwrap_or_default(), now_ms);
        let lines = lines(&past, [], &config.policy, &meter)?;
        Ok(SpentOn { data_set, study, lines })
    };
    newest.into_values().map(of).collect()
}

fn show(config: &SiteConfig, status: &Status) -> anyhow::Result<()> {
    match &status.agent {
        Some(process) => outln!("agent       runs, process {process}")?,
        None => outln!("agent       does not run")?,
    }
    outln!("approval    {}", approval(config.policy.approval))?;
    let ledger = &status.offers.ledger;
    outln!("ledger      {} entries, head {}", ledger.entries().len(), ledger.head())?;
    for SpentOn { data_set, study, lines } in &status.spent {
        outln!("\ndata set {data_set}")?;
        if let Some(study) = study {
            outln!("this study is {study}, which was charged last")?;
        }
        out!("{}", spent_text(lines, config.policy.delta))?;
    }
    outln!("\nstudies")?;
    out!("{}", studies_text(&status.offers, config.policy.approval))?;
    outln!("\nnewest refusals and failures")?;
    if status.refusals.is_empty() {
        outln!("  none")?;
    }
    for row in &status.refusals {
        outln!(
            "  {}  {}  {} {} ({}, {} times)\n    {}",
            time(row.newest_ms),
            row.study,
            row.stage,
            row.decline,
            row.problem,
            row.times,
            row.text
        )?;
    }
    Ok(())
}

fn approval(approval: Approval) -> &'static str {
    match approval {
        Approval::ByHand => "by-hand",
        Approval::Automatic => "automatic",
    }
}

fn spent_text(lines: &[ForecastLine], delta: fusiondp_dp::Delta) -> String {
    let mut text = format!(
        "  epsilon at delta {delta}, rounded up\n  {:26}{:10}{:>10}{:>10}\n",
        "counted over", "relation", "spent", "limit"
    );
    for line in lines {
        let limit = line.limit.map_or_else(|| "none".to_owned(), |limit| limit.to_string());
        text.push_str(&format!(
            "  {:26}{:10}{:>10}{:>10}\n",
            line.scope,
            line.relation.to_string(),
            figure(line.spent),
            limit
        ));
    }
    text
}

fn studies_text(offers: &Offers, approval: Approval) -> String {
    if offers.offered.is_empty() {
        return "  none was offered yet\n".to_owned();
    }
    let mut text = String::new();
    for offered in &offers.offered {
        let state = offers.state(offered, approval);
        text.push_str(&format!("  {:40}{state:20}offered {}", offered.study, time(offered.first_ms)));
        if let Some(decision) = offers.decision(offered) {
            text.push_str(&format!(", {state} by {} on {}", decision.decided_by, time(decision.decided_ms)));
            if let Verdict::Rejected { reason } = &decision.verdict {
                text.push_str(&format!(": {reason}"));
            }
        }
        text.push('\n');
    }
    text
}

fn studies_json(offers: &Offers, approval: Approval) -> Value {
    let study = |offered: &OfferedStudy| {
        let decision = offers.decision(offered);
        let reason = decision.and_then(|decision| match &decision.verdict {
            Verdict::Rejected { reason } => Some(reason),
            Verdict::Approved => None,
        });
        json!({
            "study": offered.study,
            "digest": offered.digest,
            "state": offers.state(offered, approval),
            "asked_by": offered.asked_by,
            "first_offered_ms": offered.first_ms,
            "open_until_ms": offered.deadline_ms,
            "decided_by": decision.map(|decision| &decision.decided_by),
            "decided_ms": decision.map(|decision| decision.decided_ms),
            "reason": reason,
        })
    };
    offers.offered.iter().map(study).collect()
}

fn status_json(config: &SiteConfig, status: &Status) -> Value {
    let line = |line: &ForecastLine| {
        json!({
            "section": line.scope.section(),
            "relation": line.relation,
            "spent": line.spent,
            "limit": line.limit,
        })
    };
    let data_set = |SpentOn { data_set, study, lines }: &SpentOn| {
        json!({
            "data_set": data_set,
            "newest_study": study,
            "limits": lines.iter().map(line).collect::<Vec<_>>(),
        })
    };
    let refusal = |row: &RefusalRow| {
        json!({
            "study": row.study,
            "stage": row.stage,
            "decline": row.decline,
            "problem": row.problem,
            "text": row.text,
            "times": row.times,
            "newest_ms": row.newest_ms,
        })
    };
    json!({
        "agent": { "running": status.agent.is_some(), "process": status.agent },
        "approval": approval(config.policy.approval),
        "delta": config.policy.delta,
        "ledger": { "entries": status.offers.entries().len(), "head": status.offers.ledger.head() },
        "data_sets": status.spent.iter().map(data_set).collect::<Vec<_>>(),
        "studies": studies_json(&status.offers, config.policy.approval),
        "refusals": status.refusals.iter().map(refusal).collect::<Vec<_>>(),
    })
}
