//! Exact metrics over all hospitals' rows together. Only a simulation can compute them: it holds the data.

use fusiondp_learn::encode::Encoder;
use fusiondp_learn::metrics::{aupr, auroc, brier};
use fusiondp_learn::model::{Model, Workspace};
use fusiondp_protocol::study::Study;
use serde::Serialize;

use super::{SimulationError, records};
use crate::split::SiteFolder;

/// Metrics of the final model on one cohort.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExactMetrics {
    /// Cohort.
    pub cohort: String,
    /// Rows of all sites.
    pub records: usize,
    /// Rows with a positive label.
    pub positives: usize,
    /// Area under the receiver operating characteristic.
    pub auroc: f64,
    /// Average precision.
    pub aupr: f64,
    /// Mean squared error of the probability.
    pub brier: f64,
}

/// Logits and labels of one cohort over all sites, in site order.
pub struct Scored {
    /// Logits.
    pub logits: Vec<f32>,
    /// Labels, 0 or 1.
    pub labels: Vec<f32>,
}

/// Metrics on the study's final cohort; `None` when it names none.
///
/// # Errors
/// Unreadable data, or a cohort with one class only.
pub fn metrics(
    study: &Study,
    parameters: &[f32],
    sites: &[SiteFolder],
) -> Result<Option<ExactMetrics>, SimulationError> {
    let Some(cohort) = &study.evaluation.final_cohort else { return Ok(None) };
    let Scored { logits, labels } = score(study, parameters, sites, cohort.as_str())?;
    let failed = |source| SimulationError::Metric { cohort: cohort.to_string(), source };
    Ok(Some(ExactMetrics {
        cohort: cohort.to_string(),
        records: labels.len(),
        positives: labels.iter().filter(|&&label| label > 0.5).count(),
        auroc: auroc(&logits, &labels).map_err(failed)?,
        aupr: aupr(&logits, &labels).map_err(failed)?,
        brier: brier(&logits, &labels).map_err(failed)?,
    }))
}

/// Logits of the model on true values of a cohort at every site.
///
/// # Errors
/// Unreadable data.
pub fn score(
    study: &Study,
    parameters: &[f32],
    sites: &[SiteFolder],
    cohort: &str,
) -> Result<Scored, SimulationError> {
    let encoder = Encoder::new(&study.schema, &study.model)?;
    let model = Model::new(&study.model, encoder.input_shape())?;
    let mut workspace = Workspace::default();
    let mut scored = Scored { logits: Vec::new(), labels: Vec::new() };
    for site in sites {
        let dataset = records::cohort(study, site, cohort)?;
        let view = encoder.real(dataset.public(), dataset.sensitive())?;
        scored.logits.extend(model.logits(parameters, &view, &mut workspace)?);
        scored.labels.extend_from_slice(dataset.labels().values());
    }
    Ok(scored)
}
