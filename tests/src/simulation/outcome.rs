//! The figures of a run, as JSON and as a table.

use std::collections::BTreeMap;

use fusiondp_protocol::study::StudyDocument;
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::exact::ExactMetrics;
use super::federation::Finished;
use super::imputation::ChosenImputer;
use super::{SimulationError, SimulationOptions};

/// Epsilon under both relations.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct EpsilonFigures {
    /// Sensitive values of one unit change from any to any.
    pub replace: f64,
    /// The private contribution of one unit is present or absent.
    pub zero_out: f64,
}

/// Metrics pooled from the sites' histograms, as a federation without a data holder sees them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PooledMetrics {
    /// Area under the receiver operating characteristic.
    pub auroc: Option<f64>,
    /// Average precision.
    pub aupr: Option<f64>,
    /// Mean squared error of the probability.
    pub brier: Option<f64>,
}

/// Figures of one simulated study. The names are those of a deployed study's report.json.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcome {
    /// Always true: noise came from a seed and protects nobody.
    pub simulation: bool,
    /// The seed.
    pub simulation_seed: u64,
    /// Name of the study.
    pub study: String,
    /// SHA-256 of the study document as submitted.
    pub study_sha256: String,
    /// Number of sites.
    pub sites: usize,
    /// Rounds applied.
    pub rounds: u32,
    /// From the start of coordinator and agents to the end of the study, in seconds.
    pub seconds: f64,
    /// Exact AUROC on all sites' rows of the final cohort.
    pub auroc: Option<f64>,
    /// Exact average precision.
    pub aupr: Option<f64>,
    /// Exact Brier score.
    pub brier: Option<f64>,
    /// The cohort, its rows and positives.
    pub evaluation: Option<ExactMetrics>,
    /// The same metrics as the federation pooled them from histograms.
    pub federated: PooledMetrics,
    /// Largest epsilon of a site, as reported by the coordinator.
    pub epsilon: EpsilonFigures,
    /// Probability mass the guarantee leaves out.
    pub delta: f64,
    /// Each site's own figures.
    pub site_epsilon: BTreeMap<String, EpsilonFigures>,
    /// Noise deviation over the clip norm.
    pub noise_multiplier: Option<f64>,
    /// Rate of the secret Poisson sample.
    pub sampling_probability: Option<f64>,
    /// Imputer of the hybrid view.
    pub imputer: ChosenImputer,
    /// SHA-256 of the final parameters, little-endian f32.
    pub model_sha256: String,
    /// The report's files, not part of the JSON.
    #[serde(skip)]
    pub report: BTreeMap<String, Vec<u8>>,
    /// Final parameters, not part of the JSON.
    #[serde(skip)]
    pub parameters: Vec<f32>,
}

pub(super) fn collect(
    options: &SimulationOptions,
    document: &StudyDocument,
    imputer: &ChosenImputer,
    finished: Finished,
    exact: Option<ExactMetrics>,
    seconds: f64,
) -> Result<Outcome, SimulationError> {
    let report = report(&finished)?;
    let number = |path: &str| report.pointer(path).and_then(Value::as_f64);
    let required =
        |path: &str| number(path).ok_or_else(|| SimulationError::Report(format!("no number at {path}")));
    let site_epsilon = finished.status.sites.iter().map(|site| {
        let (replace, zero_out) = (site.epsilon_replace.get(), site.epsilon_zero_out.get());
        (site.site_id.to_string(), EpsilonFigures { replace, zero_out })
    });
    Ok(Outcome {
        simulation: true,
        simulation_seed: options.seed,
        study: document.study().study.name.clone(),
        study_sha256: document.digest().to_string(),
        sites: finished.status.sites.len(),
        rounds: finished.status.round,
        seconds,
        auroc: exact.as_ref().map(|exact| exact.auroc),
        aupr: exact.as_ref().map(|exact| exact.aupr),
        brier: exact.as_ref().map(|exact| exact.brier),
        evaluation: exact,
        federated: PooledMetrics { auroc: number("/auroc"), aupr: number("/aupr"), brier: number("/brier") },
        epsilon: EpsilonFigures {
            replace: required("/epsilon/replace")?,
            zero_out: required("/epsilon/zero_out")?,
        },
        delta: required("/delta")?,
        site_epsilon: site_epsilon.collect(),
        noise_multiplier: number("/noise_multiplier"),
        sampling_probability: number("/sampling_probability"),
        imputer: imputer.clone(),
        model_sha256: model_sha256(&finished.parameters),
        report: finished.report,
        parameters: finished.parameters,
    })
}

fn report(finished: &Finished) -> Result<Value, SimulationError> {
    let bytes = finished.report.get("report.json");
    let bytes = bytes.ok_or_else(|| SimulationError::Report("missing in the export".to_owned()))?;
    serde_json::from_slice(bytes).map_err(|e| SimulationError::Report(e.to_string()))
}

fn model_sha256(parameters: &[f32]) -> String {
    let mut hash = Sha256::new();
    for value in parameters {
        hash.update(value.to_le_bytes());
    }
    hex::encode(hash.finalize())
}

impl Outcome {
    /// The figures for people.
    #[must_use]
    pub fn table(&self) -> String {
        let metric = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.4}"));
        let mut text = format!(
            "simulation of \"{}\", seed {}: {} sites, {} rounds, {:.1} s\n\n",
            self.study, self.simulation_seed, self.sites, self.rounds, self.seconds
        );
        text.push_str("            exact   pooled from histograms\n");
        for (name, exact, pooled) in [
            ("AUROC", self.auroc, self.federated.auroc),
            ("AUPR", self.aupr, self.federated.aupr),
            ("Brier", self.brier, self.federated.brier),
        ] {
            text.push_str(&format!("{name:8} {:>8}   {}\n", metric(exact), metric(pooled)));
        }
        text.push_str(&format!(
            "\nepsilon   replace {:.4}   zero_out {:.4}   at delta {:e}\n",
            rounded_up(self.epsilon.replace),
            rounded_up(self.epsilon.zero_out),
            self.delta
        ));
        text.push_str("A simulation protects nobody: its noise follows from the seed.\n");
        text
    }
}

/// Outward at four decimals.
fn rounded_up(epsilon: f64) -> f64 {
    (epsilon * 1e4).ceil() / 1e4
}
