//! `study submit, list, status, stop`, and the names of the other commands on studies.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use fusiondp_proto::v1;
use fusiondp_protocol::convert::listed_studies;
use fusiondp_protocol::study::{MAX_STUDY_BYTES, StudyDocument};
use fusiondp_protocol::{Metric, MetricFigures, SiteStatus, StudyStatus, SubmittedStudy};
use fusiondp_runtime::console::OutputError;
use fusiondp_runtime::{errln, out, outln};
use serde_json::{Value, json};

use super::table::Table;
use super::watch::watch;
use super::{AdminKit, admin, block_on, check, export};
use crate::text::{epsilon, time};

/// Submit, follow, stop and export studies.
#[derive(Debug, Subcommand)]
pub(super) enum StudyCommand {
    /// Validate a study document and preview its plan, without a coordinator.
    Check(check::Check),
    /// Submit a study. Submitting the same bytes again answers the same id.
    Submit(Submit),
    /// List all studies, oldest first.
    List(List),
    /// Show one study.
    Status(OneStudy),
    /// Follow a study until it has ended.
    Watch(NamedStudy),
    /// End a study after its current round.
    Stop(NamedStudy),
    /// Write the report folder of a study.
    Export(export::Export),
}

/// Submit a study.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  fusiondp-coordinator study submit study.toml --admin kits/admin")]
pub(super) struct Submit {
    /// Study document.
    #[arg(value_name = "STUDY.toml")]
    document: PathBuf,
    #[command(flatten)]
    kit: AdminKit,
}

/// List all studies.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  fusiondp-coordinator study list --admin kits/admin")]
pub(super) struct List {
    #[command(flatten)]
    kit: AdminKit,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Show one study.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  fusiondp-coordinator study status sepsis-1a2b3c4d --admin kits/admin --json")]
pub(super) struct OneStudy {
    /// Id as `study submit` and `study list` print it.
    #[arg(value_name = "ID")]
    study: String,
    #[command(flatten)]
    kit: AdminKit,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Name one study.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fusiondp-coordinator study watch sepsis-1a2b3c4d --admin kits/admin
  fusiondp-coordinator study stop sepsis-1a2b3c4d --admin kits/admin")]
pub(super) struct NamedStudy {
    /// Id as `study submit` and `study list` print it.
    #[arg(value_name = "ID")]
    study: String,
    #[command(flatten)]
    kit: AdminKit,
}

impl StudyCommand {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self {
            StudyCommand::Check(command) => command.run(),
            StudyCommand::Submit(command) => block_on(command.run()),
            StudyCommand::List(command) => block_on(command.run()),
            StudyCommand::Status(command) => block_on(command.run()),
            StudyCommand::Watch(command) => block_on(watch(&command.kit, command.study)),
            StudyCommand::Stop(command) => block_on(command.stop()),
            StudyCommand::Export(command) => block_on(command.run()),
        }
    }
}

impl Submit {
    async fn run(self) -> anyhow::Result<()> {
        let bytes = admin::read(&self.document, MAX_STUDY_BYTES as u64)?;
        // Found here, a mistake costs no round trip; the coordinator checks again.
        StudyDocument::from_bytes(&bytes).with_context(|| self.document.display().to_string())?;
        let mut admin = self.kit.connect().await?;
        let request = v1::SubmitStudyRequest { study_toml: bytes.into() };
        let answer = admin.submit_study(request).await.map_err(admin::refusal)?;
        let submitted = SubmittedStudy::try_from(answer.into_inner())?;
        if !submitted.created {
            errln!("the same document was submitted before");
        }
        outln!("{}", submitted.study_id)?;
        Ok(())
    }
}

impl List {
    async fn run(self) -> anyhow::Result<()> {
        let mut admin = self.kit.connect().await?;
        let answer = admin.list_studies(v1::ListStudiesRequest {}).await.map_err(admin::refusal)?;
        let studies = listed_studies(answer.into_inner())?;
        if self.json {
            let studies: Vec<Value> = studies.iter().map(as_json).collect();
            outln!("{}", serde_json::to_string_pretty(&studies)?)?;
            return Ok(());
        }
        let mut table = Table::new(["STUDY", "STATE", "ROUND", "SITES", "SUBMITTED", "DETAIL"]);
        for study in &studies {
            let enrolled = study.sites.iter().filter(|site| site.units > 0).count();
            table.row([
                study.study_id.to_string(),
                study.state.to_string(),
                format!("{}/{}", study.round, study.rounds),
                format!("{enrolled}/{}", study.sites.len()),
                time(study.submitted_ms),
                study.detail.clone(),
            ]);
        }
        out!("{table}")?;
        Ok(())
    }
}

impl OneStudy {
    async fn run(self) -> anyhow::Result<()> {
        let mut admin = self.kit.connect().await?;
        let request = v1::GetStudyStatusRequest { study_id: self.study };
        let answer = admin.get_study_status(request).await.map_err(admin::refusal)?;
        let status = StudyStatus::try_from(answer.into_inner())?;
        if self.json {
            outln!("{}", serde_json::to_string_pretty(&as_json(&status))?)?;
        } else {
            print_status(&status)?;
        }
        Ok(())
    }
}

impl NamedStudy {
    async fn stop(self) -> anyhow::Result<()> {
        let mut admin = self.kit.connect().await?;
        let request = v1::StopStudyRequest { study_id: self.study };
        let answer = admin.stop_study(request).await.map_err(admin::refusal)?;
        let status = StudyStatus::try_from(answer.into_inner())?;
        match status.state {
            fusiondp_protocol::StudyState::Running => {
                outln!("{} ends after the current round", status.study_id)?
            }
            state if state.has_ended() => outln!("{} has ended: {state}", status.study_id)?,
            state => outln!("{} ends now; it is {state}", status.study_id)?,
        }
        Ok(())
    }
}

pub(super) fn print_status(status: &StudyStatus) -> Result<(), OutputError> {
    outln!("{}  ({})", status.name, status.study_id)?;
    outln!("{}, round {}/{}", status.state, status.round, status.rounds)?;
    if !status.detail.is_empty() {
        outln!("{}", status.detail)?;
    }
    if let Some(plan) = &status.plan {
        outln!(
            "plan: epsilon {} (replace), {} (zero_out) at delta {}; {} units, each sampled with probability {:.5}",
            epsilon(plan.epsilon_replace.get()),
            epsilon(plan.epsilon_zero_out.get()),
            plan.delta,
            plan.total_units,
            plan.sampling_probability.get()
        )?;
        if let Some(records) = &plan.records {
            outln!(
                "whole records: epsilon {} (replace), {} (zero_out), public gradients noised too",
                epsilon(records.epsilon_replace.get()),
                epsilon(records.epsilon_zero_out.get())
            )?;
        }
    }
    out!("\n{}", site_table(&status.sites))?;
    if !status.metrics.is_empty() {
        out!("\n{}", metric_table(&status.metrics))?;
    }
    Ok(())
}

fn site_table(sites: &[SiteStatus]) -> Table {
    let mut table = Table::new([
        "SITE",
        "STATE",
        "UNITS",
        "ROUNDS",
        "MISSED",
        "EPSILON REPLACE",
        "EPSILON ZERO_OUT",
        "DETAIL",
    ]);
    for site in sites {
        table.row([
            site.site_id.to_string(),
            site.state.to_string(),
            site.units.to_string(),
            site.rounds_contributed.to_string(),
            site.rounds_missed.to_string(),
            epsilon(site.epsilon_replace.get()),
            epsilon(site.epsilon_zero_out.get()),
            site.detail.clone(),
        ]);
    }
    table
}

pub(super) fn metric_table(metrics: &[Metric]) -> Table {
    let mut table = Table::new(["COHORT", "ROUND", "SITE", "RECORDS", "POSITIVES", "AUROC", "AUPR", "BRIER"]);
    for metric in metrics {
        table.row([
            metric.cohort.to_string(),
            metric.round.to_string(),
            metric.site_id.as_ref().map_or_else(|| "pooled".to_owned(), ToString::to_string),
            metric.records.to_string(),
            metric.positives.to_string(),
            metric_auroc(metric),
            exact(metric).map_or_else(|| "-".to_owned(), |(aupr, _)| format!("{aupr:.4}")),
            exact(metric).map_or_else(|| "-".to_owned(), |(_, brier)| format!("{brier:.4}")),
        ]);
    }
    table
}

/// The AUROC, with its standard error where counts have noise.
pub(crate) fn metric_auroc(metric: &Metric) -> String {
    match metric.figures {
        MetricFigures::Exact { .. } => format!("{:.4}", metric.auroc),
        MetricFigures::Noisy { auroc_error } => format!("{:.4} ± {auroc_error:.4}, with noise", metric.auroc),
    }
}

/// AUPR and Brier score, which counts with noise do not give.
fn exact(metric: &Metric) -> Option<(f64, f64)> {
    match metric.figures {
        MetricFigures::Exact { aupr, brier } => Some((aupr, brier)),
        MetricFigures::Noisy { .. } => None,
    }
}

/// The status under the names of the wire specification.
fn as_json(status: &StudyStatus) -> Value {
    json!({
        "study_id": status.study_id.as_str(),
        "name": status.name,
        "state": status.state.as_str(),
        "detail": status.detail,
        "phase": status.phase.map(|phase| phase.as_str()),
        "round": status.round,
        "rounds": status.rounds,
        "plan": status.plan.as_ref().map(check::plan_json),
        "sites": status.sites.iter().map(site_json).collect::<Vec<_>>(),
        "metrics": status.metrics.iter().map(metric_json).collect::<Vec<_>>(),
        "submitted_ms": status.submitted_ms,
        "started_ms": status.started_ms,
        "ended_ms": status.ended_ms,
        "public_loss": status.public_loss,
        "rounds_per_s": status.rounds_per_s,
    })
}

fn site_json(site: &SiteStatus) -> Value {
    json!({
        "site_id": site.site_id.as_str(),
        "state": site.state.as_str(),
        "detail": site.detail,
        "rounds_contributed": site.rounds_contributed,
        "rounds_missed": site.rounds_missed,
        "units": site.units,
        "epsilon_replace": site.epsilon_replace,
        "epsilon_zero_out": site.epsilon_zero_out,
        "last_seen_ms": site.last_seen_ms,
    })
}

fn metric_json(metric: &Metric) -> Value {
    json!({
        "round": metric.round,
        "cohort": metric.cohort.as_str(),
        "site_id": metric.site_id.as_ref().map(ToString::to_string),
        "records": metric.records,
        "positives": metric.positives,
        "auroc": metric.auroc,
        "auroc_error": match metric.figures {
            MetricFigures::Exact { .. } => None,
            MetricFigures::Noisy { auroc_error } => Some(auroc_error),
        },
        "aupr": exact(metric).map(|(aupr, _)| aupr),
        "brier": exact(metric).map(|(_, brier)| brier),
    })
}
