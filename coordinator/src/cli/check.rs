//! `study check`: a study document without a coordinator.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use fusiondp_protocol::study::{MAX_STUDY_BYTES, StudyDocument};
use fusiondp_protocol::{Plan, SiteId, SiteSize, Study};
use fusiondp_runtime::console::OutputError;
use fusiondp_runtime::outln;
use serde_json::{Value, json};

use super::admin;
use crate::study::model_of;
use crate::text::epsilon;

/// Validate a study document and preview its plan, without a coordinator.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fusiondp-coordinator study check study.toml
  fusiondp-coordinator study check study.toml --units 8000,6293 --json")]
pub(super) struct Check {
    /// Study document.
    #[arg(value_name = "STUDY.toml")]
    document: PathBuf,
    /// Privacy units of each site, to preview the plan: noise, sampling rate and both epsilons.
    #[arg(long, value_name = "N,N,…", value_delimiter = ',')]
    units: Vec<u64>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Check {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let bytes = admin::read(&self.document, MAX_STUDY_BYTES as u64)?;
        let document =
            StudyDocument::from_bytes(&bytes).with_context(|| self.document.display().to_string())?;
        let parameters = model_of(document.study())?.parameters();
        let submission = document.study().validate_for_submission().err().map(|error| error.to_string());
        let plan = self.plan(&document)?;
        if self.json {
            let report = json!({
                "study_id": document.id().as_str(),
                "digest": document.digest().to_string(),
                "parameters": parameters,
                "not_ready": submission,
                "plan": plan.as_ref().map(plan_json),
            });
            outln!("{}", serde_json::to_string_pretty(&report)?)?;
            return Ok(());
        }
        print(&document, parameters, submission.as_deref())?;
        if let Some(plan) = &plan {
            print_plan(document.study(), plan)?;
        }
        Ok(())
    }

    fn plan(&self, document: &StudyDocument) -> anyhow::Result<Option<Plan>> {
        if self.units.is_empty() {
            return Ok(None);
        }
        // Records only weigh the public part; a preview needs none.
        let size = |(index, units): (usize, &u64)| -> anyhow::Result<SiteSize> {
            Ok(SiteSize { site: SiteId::new(format!("site-{}", index + 1))?, units: *units, records: *units })
        };
        let sizes = self.units.iter().enumerate().map(size).collect::<anyhow::Result<Vec<_>>>()?;
        Ok(Some(Plan::derive(document, &sizes)?))
    }
}

fn print(document: &StudyDocument, parameters: usize, not_ready: Option<&str>) -> Result<(), OutputError> {
    let study = document.study();
    let columns = &study.schema;
    outln!("{}: valid", document.id())?;
    outln!("digest      {}", document.digest())?;
    outln!("mode        {}", study.fusion.mode)?;
    outln!("columns     {} public, {} sensitive", columns.public().count(), columns.sensitive().count())?;
    outln!("parameters  {parameters}")?;
    outln!("rounds      {}", study.training.rounds)?;
    match not_ready {
        None => outln!("ready to be submitted")?,
        Some(reason) => outln!("not ready to be submitted: {reason}")?,
    }
    Ok(())
}

fn print_plan(study: &Study, plan: &Plan) -> anyhow::Result<()> {
    let noise =
        plan.noise_multiplier.map_or_else(|| "none".to_owned(), |noise| format!("{:.5}", noise.get()));
    outln!("\nplan for {} privacy units:", plan.total_units)?;
    outln!("noise multiplier      {noise} (deviation of the noise on a sum, in clip norms)")?;
    outln!("sampling probability  {:.6} (of each unit, in each round)", plan.sampling_probability.get())?;
    outln!("epsilon, replace      {}", epsilon(plan.epsilon_replace.get()))?;
    outln!("epsilon, zero_out     {}", epsilon(plan.epsilon_zero_out.get()))?;
    outln!("delta                 {}", plan.delta)?;
    if let Some(records) = &plan.records {
        outln!("\nwhole records, public gradients noised too:")?;
        outln!("noise multiplier      {:.5}", records.noise_multiplier.get())?;
        outln!(
            "sampling probability  {:.6} (of each unit, in each public part)",
            records.sampling_probability.get()
        )?;
        outln!("epsilon, replace      {} (both parts)", epsilon(records.epsilon_replace.get()))?;
        outln!("epsilon, zero_out     {} (both parts)", epsilon(records.epsilon_zero_out.get()))?;
    }
    let overlap = study.federation.max_overlap;
    if overlap > 1 {
        let worst = plan.epsilon(overlap, fusiondp_dp::NeighboringRelation::Replace)?;
        outln!("epsilon, replace, for a patient of {overlap} sites: {}", epsilon(worst.get()))?;
    }
    Ok(())
}

/// The plan under the names of the wire specification.
pub(super) fn plan_json(plan: &Plan) -> Value {
    json!({
        "study_id": plan.study_id.as_str(),
        "study_digest": plan.study_digest.to_string(),
        "sampling_probability": plan.sampling_probability.get(),
        "noise_multiplier": plan.noise_multiplier.map(|noise| noise.get()),
        "clip_norm": plan.clip_norm.get(),
        "rounds": plan.rounds,
        "warmup_rounds": plan.warmup_rounds,
        "local_steps": plan.local_steps,
        "total_units": plan.total_units,
        "total_records": plan.total_records,
        "delta": plan.delta.get(),
        "epsilon_replace": plan.epsilon_replace,
        "epsilon_zero_out": plan.epsilon_zero_out,
        "records": plan.records.as_ref().map(|records| json!({
            "sampling_probability": records.sampling_probability.get(),
            "noise_multiplier": records.noise_multiplier.get(),
            "clip_norm": records.clip_norm.get(),
            "public_rounds": records.public_rounds,
            "epsilon_replace": records.epsilon_replace,
            "epsilon_zero_out": records.epsilon_zero_out,
        })),
    })
}
