//! The report folder of a study: what was done, by whom, at what privacy cost, and what that does not cover.
//!
//! | file | holds |
//! |---|---|
//! | `report.html` | everything for people, self-contained: no script, no font, no image from elsewhere |
//! | `report.json` | the same for programs |
//! | `model.onnx` | the trained model with the schema's transforms, from raw columns to a probability |
//! | `model.safetensors` | its parameters by name, as training left them |
//! | `model-card.md` | what somebody needs to know who meets the model without the study |
//! | `study.toml` | the study document as submitted |
//! | `receipts-SITE.jsonl` | what each site has stated in writing of its updates and of its key, and charged for tables of counts |
//!
//! Who attacks the study adds `audit.json` and `attacks.json`: [`evidence`].
//!
//! `facts` reads the store once; `json`, `html` and the drawings are pure functions of it. Epsilons are rounded up
//! wherever they are shown.

mod card;
pub mod chart;
mod curves;
mod drawing;
pub mod evidence;
mod facts;
mod html;
mod json;
mod matrix;
mod plain;
pub(crate) mod profile;
mod spent;
mod text;

use std::collections::BTreeMap;

use fusiondp_learn::model::ParameterFileError;
use fusiondp_learn::onnx::{OnnxError, export_model};
use fusiondp_protocol::chunks::{ChunkError, decode_f32};
use fusiondp_protocol::receipt::ReceiptsFile;
use fusiondp_protocol::{SignedKeyStatement, SignedReceipt, SiteId};

pub(crate) use facts::Facts;

use crate::error::CoordinatorError;
use crate::shared::Core;
use crate::study::SharedContext;
use crate::text::epsilon;

/// Files that a report folder can hold, beside the receipts of each site.
const FILES: [&str; 6] =
    [REPORT_PAGE, REPORT_JSON, "model-card.md", "model.onnx", MODEL_PARAMETERS, STUDY_TEXT];
const REPORT_PAGE: &str = "report.html";
const REPORT_JSON: &str = "report.json";
const MODEL_PARAMETERS: &str = "model.safetensors";
const STUDY_TEXT: &str = "study.toml";

/// Whether a file of this name is part of a report folder, so that a new report replaces it.
pub(crate) fn is_report_file(name: &str) -> bool {
    FILES.contains(&name) || (name.starts_with("receipts-") && name.ends_with(".jsonl"))
}

/// One file of a report folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportedFile {
    /// A plain file name.
    pub name: String,
    /// Its content.
    pub bytes: Vec<u8>,
}

/// Why a report cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The model cannot be written as ONNX.
    #[error("model.onnx: {0}")]
    Onnx(#[from] OnnxError),
    /// The model's parameters cannot be written.
    #[error("model.safetensors: {0}")]
    ParameterFile(#[from] ParameterFileError),
    /// The stored parameters are damaged.
    #[error("the stored model is damaged: {0}; restore a backup")]
    Parameters(#[from] ChunkError),
    /// The accountant refuses the mirrored charges.
    #[error("the mirrored charges cannot be accounted: {0}")]
    Accountant(#[from] fusiondp_dp::AccountantError),
    /// The report cannot be written as JSON.
    #[error("report.json: {0}")]
    Json(#[from] serde_json::Error),
}

/// Makes every file of the folder, for a study in whatever state. Without a model there is no `model.onnx`.
pub(crate) async fn export(
    core: &Core,
    context: &SharedContext,
) -> Result<Vec<ExportedFile>, CoordinatorError> {
    let facts = Facts::read(core, context).await?;
    let receipts = core.store.receipts(context.id()).await?;
    let statements = core.store.study_key_statements(context.id()).await?;
    let context = context.clone();
    let write = move || {
        let mut files = write(&context, &facts)?;
        files.extend(receipt_files(&context, &facts, receipts, statements));
        Ok::<_, ReportError>(files)
    };
    Ok(tokio::task::spawn_blocking(write).await??)
}

/// One file for each site that has a receipt, or has paid for a table of counts.
fn receipt_files(
    context: &SharedContext,
    facts: &Facts,
    receipts: Vec<(SiteId, SignedReceipt)>,
    mut statements: BTreeMap<SiteId, Vec<SignedKeyStatement>>,
) -> Vec<ExportedFile> {
    let mut by_site: BTreeMap<SiteId, Vec<SignedReceipt>> = BTreeMap::new();
    for (site, receipt) in receipts {
        by_site.entry(site).or_default().push(receipt);
    }
    let keys = facts.sites.iter().filter_map(|row| Some((row.site.clone(), row.ledger_key?)));
    let file = |(site, key): (SiteId, _)| {
        let receipts = by_site.remove(&site).unwrap_or_default();
        let counts = facts.counts.iter().filter(|(other, _)| *other == site);
        let counts: Vec<_> = counts.map(|(_, charge)| charge.clone()).collect();
        if receipts.is_empty() && counts.is_empty() {
            return None;
        }
        let name = ReceiptsFile::name(&site);
        let statements = statements.remove(&site).unwrap_or_default();
        let file = ReceiptsFile::new(site, context.id().clone(), key, receipts);
        let file = file.with_key_statements(statements).with_counts(counts);
        Some(ExportedFile { name, bytes: file.to_text().into_bytes() })
    };
    keys.filter_map(file).collect()
}

fn write(context: &SharedContext, facts: &Facts) -> Result<Vec<ExportedFile>, ReportError> {
    let summary = json::summary(context, facts)?;
    let mut files = vec![
        ExportedFile { name: REPORT_PAGE.into(), bytes: html::page(context, facts, &summary).into_bytes() },
        ExportedFile { name: REPORT_JSON.into(), bytes: serde_json::to_vec_pretty(&summary)? },
        ExportedFile { name: STUDY_TEXT.into(), bytes: context.document().text().as_bytes().to_vec() },
    ];
    if let Some(model) = &facts.model {
        let parameters = decode_f32(&model.parameters)?;
        let metadata = metadata(facts, &summary);
        let bytes = export_model(&context.study().schema, context.model(), &parameters, &metadata)?;
        files.push(ExportedFile { name: "model.onnx".into(), bytes });
        let note = ("fusiondp.study.digest", &*facts.study.digest.to_string());
        let bytes = context.model().to_safetensors(&parameters, note)?;
        files.push(ExportedFile { name: MODEL_PARAMETERS.into(), bytes });
        let card = card::markdown(context, &summary);
        files.push(ExportedFile { name: "model-card.md".into(), bytes: card.into_bytes() });
    }
    Ok(files)
}

/// What the model's file says of its origin.
fn metadata(facts: &Facts, summary: &json::Summary) -> BTreeMap<String, String> {
    let mut metadata = BTreeMap::from([
        ("fusiondp.study".to_owned(), facts.study.id.to_string()),
        ("fusiondp.study.digest".to_owned(), facts.study.digest.to_string()),
        ("fusiondp.rounds".to_owned(), facts.study.rounds_applied.to_string()),
        ("fusiondp.epsilon.replace".to_owned(), epsilon(summary.epsilon.replace)),
        ("fusiondp.epsilon.zero_out".to_owned(), epsilon(summary.epsilon.zero_out)),
    ]);
    if let Some(model) = &facts.model {
        metadata.insert("fusiondp.parameters.digest".to_owned(), model.digest.to_string());
    }
    if let Some(plan) = &facts.plan {
        metadata.insert("fusiondp.delta".to_owned(), plan.delta.to_string());
    }
    metadata
}

#[cfg(test)]
mod tests;
