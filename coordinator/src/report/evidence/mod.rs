//! What attacks on a study's releases and on its model came to, as files beside its report.
//!
//! | file | holds | made by |
//! |---|---|---|
//! | `audit.json` | [`AuditEvidence`]: canaries sent through the releases that the study planned | `fusiondp-simulate audit --report` |
//! | `attacks.json` | [`AttackEvidence`]: attacks on the trained model, and how it holds | `fusiondp-simulate attack --report` |
//!
//! Both name the study document, and the second the model's parameters, by SHA-256. [`ReportFolder`] puts into a report what
//! belongs to it and nothing else. The coordinator holds no patient's record, so it can neither make this evidence nor check
//! it: the page says who has to be believed.

mod folder;
mod page;
#[cfg(test)]
mod tests;

use fusiondp_dp::{Delta, Digest, Epsilon, NeighboringRelation};
use serde::{Deserialize, Serialize};

pub use folder::{EvidenceError, ReportFolder};
pub(super) use page::unattacked;

/// SHA-256 of parameters `[P]` as the coordinator stores them: little-endian float32 in the layout's order.
#[must_use]
pub fn parameters_digest(params: &[f32]) -> Digest {
    let bytes: Vec<u8> = params.iter().flat_map(|value| value.to_le_bytes()).collect();
    Digest::of(&bytes)
}

/// Form of `audit.json`; a later one has another name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum AuditFormat {
    /// This one.
    #[serde(rename = "fusiondp/audit/v1")]
    V1,
}

/// Form of `attacks.json`; a later one has another name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum AttackFormat {
    /// This one.
    #[serde(rename = "fusiondp/attacks/v1")]
    V1,
}

/// What canaries in the releases of a study have shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditEvidence {
    /// Form of this file.
    pub format: AuditFormat,
    /// Program and version that attacked.
    pub made_with: String,
    /// SHA-256 of the study document.
    pub study_digest: Digest,
    /// Decides bits and, in this simulation, noise.
    pub seed: u64,
    /// Probability with which a bound may be wrong, for each.
    pub error_probability: f64,
    /// One line for each mechanism and planted fault.
    pub results: Vec<AuditLine>,
}

/// One attack by canaries.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditLine {
    /// What released: for example `private sum`.
    pub mechanism: String,
    /// The fault that was planted; null for the code as it is.
    pub fault: Option<String>,
    /// What a canary's bit decides.
    pub relation: NeighboringRelation,
    /// Upper bound that the accountant gives for what was charged.
    pub claim: Epsilon,
    /// Delta of claim and bounds.
    pub delta: Delta,
    /// Secret bits.
    pub canaries: usize,
    /// Guesses, a number fixed beforehand: the surest.
    pub guesses: usize,
    /// Right ones.
    pub right: usize,
    /// Wrong ones where all canaries are guessed.
    pub wrong: usize,
    /// Epsilon is at least this, whatever the mechanism is.
    pub lower_bound: f64,
    /// Epsilon is at least this by `wrong`, if the mechanism is as private as some Gaussian one and outcomes are independent.
    pub gaussian_bound: f64,
}

impl AuditLine {
    /// Whether a bound exceeds the claim.
    #[must_use]
    pub fn exceeds(&self) -> bool {
        self.lower_bound.max(self.gaussian_bound) > self.claim.get()
    }
}

/// What attacks on a trained model have shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttackEvidence {
    /// Form of this file.
    pub format: AttackFormat,
    /// Program and version that attacked.
    pub made_with: String,
    /// SHA-256 of the study document.
    pub study_digest: Digest,
    /// SHA-256 of the parameters that were attacked; null for a model that was trained for the attack.
    pub model_digest: Option<Digest>,
    /// Name of the study.
    pub study: String,
    /// What the plan of the watched training run claims under `replace`.
    pub epsilon: f64,
    /// Seed of that run, and of the reference models.
    pub seed: u64,
    /// Cohort that the model was judged on.
    pub cohort: String,
    /// AUROC on it.
    pub auroc: f64,
    /// Membership, which no study protects but by its second tier.
    pub membership: Membership,
    /// Each sensitive column, from the model.
    pub reconstruction: Vec<Reconstruction>,
    /// One sensitive column, from the first site's updates; null in a study without a private part.
    pub inversion: Option<Inversion>,
    /// AUROC on changed inputs.
    pub perturbed: Vec<Perturbed>,
    /// The group with the lowest AUROC; null where every group is too small.
    pub worst_group: Option<Group>,
}

/// How well records of the training data and of the cohort are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Membership {
    /// Records of the training data.
    pub members: usize,
    /// Records of the cohort.
    pub others: usize,
    /// By the loss alone.
    pub by_loss: Distinction,
    /// By comparison with reference models; null where none were trained.
    pub by_references: Option<References>,
}

/// Membership by comparison with models that were trained with and without each record.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct References {
    /// Models.
    pub models: usize,
    /// What they tell.
    pub found: Distinction,
}

/// How well two kinds are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Distinction {
    /// Probability that a member's score is above another's; 0.5: nothing is seen.
    pub auroc: f64,
    /// Largest difference of true and false positive rate over all thresholds; 0: nothing is seen.
    pub advantage: f64,
    /// Members found where 1 % of the others are taken for members; 0.01: nothing is seen.
    pub hits_at_one_percent: f64,
}

/// How often one sensitive column is guessed right, as a share of all records.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reconstruction {
    /// The column.
    pub column: String,
    /// Records.
    pub records: usize,
    /// Slots to choose among, the one for missing included.
    pub slots: usize,
    /// Always the most frequent slot of the support data.
    pub mode: f64,
    /// The imputer's own value.
    pub imputer: f64,
    /// The slot that most often goes with the imputer's value.
    pub baseline: f64,
    /// The same, weighed by the model's likelihood of the label.
    pub with_model: f64,
    /// The model's likelihood alone.
    pub model_alone: f64,
}

/// How often a column's slot is read off the updates.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inversion {
    /// The column.
    pub column: String,
    /// Patients tried.
    pub patients: usize,
    /// Slots to choose among.
    pub slots: usize,
    /// Share of right guesses with noise as released.
    pub noised: f64,
    /// What the same attacker reads off sums without noise.
    pub without_noise: f64,
    /// Share of the most frequent slot among these patients.
    pub mode: f64,
}

/// AUROC when every continuous public input may move by so much.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Perturbed {
    /// Largest change of an encoded input: standard deviations, where the schema scales by them.
    pub radius: f32,
    /// AUROC.
    pub auroc: f64,
}

/// AUROC of a group of records.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// Column.
    pub column: String,
    /// What its values have in common: a range, a word, or `missing`.
    pub values: String,
    /// Records.
    pub records: usize,
    /// Positive ones.
    pub positives: usize,
    /// AUROC within the group.
    pub auroc: f64,
}
