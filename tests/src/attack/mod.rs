//! Attacks on a trained model and on the updates that made it, and how the model holds.
//!
//! Everything here is computed in a simulation, on data at hand; a site never runs it.
//!
//! | module | question |
//! |---|---|
//! | [`membership`] | was a record in the training data? (not protected) |
//! | [`reconstruction`] | which sensitive value, from public features, label and model? |
//! | [`inversion`] | which sensitive value, from all noised private sums and all other patients? |
//! | [`robustness`] | how does the model do on changed inputs, and on its worst group? |
//! | [`slots`] | what there is to guess |
//! | `data`, `training` | cohorts with their cells; one training run, watched |
//! | [`report`] | Markdown and a drawing |

mod data;
pub mod inversion;
pub mod membership;
pub mod reconstruction;
pub mod report;
pub mod robustness;
pub mod slots;
#[cfg(test)]
mod tests;
mod training;

use std::path::Path;

use fusiondp_learn::metrics::{MetricError, auroc};
use serde::Serialize;

use self::data::{Cohort, Known};
use self::inversion::Inversion;
use self::membership::{Membership, membership};
use self::reconstruction::{Reconstruction, reconstruct};
use self::robustness::{Group, Perturbed, perturb, worst_group};
use self::training::Run;
use crate::audit::attribute::AttributeError;

/// Smallest number of records of either label in a group.
const SMALLEST_GROUP: usize = 20;
/// Largest changes of encoded inputs.
const RADII: [f32; 3] = [0.05, 0.1, 0.25];
/// Records whose values are reconstructed, at most.
const RECONSTRUCTED: usize = 4_000;

/// Why attacks could not be made.
#[derive(Debug, thiserror::Error)]
pub enum AttackError {
    /// Training, or the study.
    #[error(transparent)]
    Training(#[from] AttributeError),
    /// A cohort or the imputer.
    #[error(transparent)]
    Simulation(#[from] crate::simulation::SimulationError),
    /// Records.
    #[error(transparent)]
    Data(#[from] fusiondp_site_agent::data::DataError),
    /// Cells.
    #[error(transparent)]
    Table(#[from] fusiondp_learn::table::TableError),
    /// Encoding.
    #[error(transparent)]
    Encode(#[from] fusiondp_learn::encode::EncodeError),
    /// The model.
    #[error(transparent)]
    Model(#[from] fusiondp_learn::model::ModelError),
    /// The support data or the fit of the attacker's imputer.
    #[error("support.csv: {0}")]
    Support(String),
    /// A metric.
    #[error("{what}: {source}")]
    Metric {
        /// Which.
        what: &'static str,
        /// Why.
        source: MetricError,
    },
}

impl AttackError {
    fn metric(what: &'static str) -> impl Fn(MetricError) -> Self {
        move |source| Self::Metric { what, source }
    }
}

/// What is trained and attacked.
#[derive(Debug, Clone)]
pub struct AttackOptions<'a> {
    /// Text of the study.
    pub study: &'a str,
    /// Target epsilon under `replace`, in place of the study's.
    pub epsilon: Option<f64>,
    /// One folder per hospital (train.csv and the cohort's file), and support.csv, which the attacker's own imputer is fitted on.
    pub data: &'a Path,
    /// Cohort that the model is judged on.
    pub cohort: &'a str,
    /// Patients whose value is read off the updates.
    pub patients: usize,
    /// Decides samples and noise.
    pub seed: u64,
}

/// What came of the attacks.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Attacks {
    /// The study.
    pub study: String,
    /// What the plan claims under `replace`.
    pub epsilon: f64,
    /// Seed of the run.
    pub seed: u64,
    /// AUROC on the cohort.
    pub auroc: f64,
    /// Membership, which is not protected.
    pub membership: Membership,
    /// Each sensitive column from the model.
    pub reconstruction: Vec<Reconstruction>,
    /// One sensitive column from the first site's updates; `None` in a study without a private part.
    pub inversion: Option<Inversion>,
    /// Changed inputs.
    pub perturbed: Vec<Perturbed>,
    /// The group with the lowest AUROC; `None` where every group is too small.
    pub worst_group: Option<Group>,
}

/// Trains a study and attacks it.
///
/// # Errors
/// [`AttackError`]: study, data or cohort that do not serve.
pub fn attack(options: &AttackOptions<'_>) -> Result<Attacks, AttackError> {
    let run = Run::train(options)?;
    let known = Known::new(&run, options)?;
    let train = Cohort::read(&run, options, "train")?;
    let test = Cohort::read(&run, options, options.cohort)?;
    let (model, params) = (run.model(), &run.parameters[..]);
    let logits = test.logits(model, params)?;
    Ok(Attacks {
        study: run.study().study.name.clone(),
        epsilon: run.epsilon(),
        seed: options.seed,
        auroc: auroc(&logits, &test.labels).map_err(AttackError::metric("AUROC"))?,
        membership: membership(&train.losses(model, params)?, &test.losses(model, params)?)
            .map_err(AttackError::metric("membership"))?,
        reconstruction: known
            .targets(&run, &train, RECONSTRUCTED)?
            .iter()
            .map(|(column, prior, targets)| reconstruct(column, prior, targets))
            .collect(),
        inversion: run.inversion.clone(),
        perturbed: perturbed(&run, &test)?,
        worst_group: worst_group(&logits, &test.labels, &known.groups(&test), SMALLEST_GROUP),
    })
}

fn perturbed(run: &Run, test: &Cohort) -> Result<Vec<Perturbed>, AttackError> {
    let movable = test.movable(run.schema());
    let of = |&radius: &f32| -> Result<Perturbed, AttackError> {
        let view = perturb(run.model(), &run.parameters, &test.view, &test.labels, &movable, radius)?;
        let logits = run.model().logits(&run.parameters, &view, &mut Default::default())?;
        Ok(Perturbed { radius, auroc: auroc(&logits, &test.labels).map_err(AttackError::metric("AUROC"))? })
    };
    RADII.iter().map(of).collect()
}
