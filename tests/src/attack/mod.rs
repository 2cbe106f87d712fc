//! Attacks on a trained model and on the updates that made it, and how the model holds.
//!
//! Everything here is computed in a simulation, on data at hand; a site never runs it.
//!
//! | module | question |
//! |---|---|
//! | [`membership`] | was a record in the training data, by its loss? (not protected) |
//! | [`references`] | the same, by models that were trained with and without it |
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
pub mod references;
pub mod report;
pub mod robustness;
pub mod slots;
#[cfg(test)]
mod tests;
mod training;

use std::path::{Path, PathBuf};

use fusiondp_coordinator::report::evidence::{
    AttackEvidence, AttackFormat, EvidenceError, Membership, Perturbed, ReportFolder, parameters_digest,
};
use fusiondp_dp::Digest;
use fusiondp_learn::encode::Encoder;
use fusiondp_learn::metrics::{MetricError, auroc};
use fusiondp_learn::model::{Model, ParameterFileError};

use fusiondp_protocol::study::Study;

use self::data::{Cohort, Known};
use self::membership::distinguish;
use self::reconstruction::reconstruct;
use self::references::{FEWEST, by_references};
use self::robustness::{perturb, worst_group};
use self::training::Run;
use crate::MADE_WITH;
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
    /// The report, or its model.
    #[error(transparent)]
    Report(#[from] EvidenceError),
    /// A file of parameters.
    #[error("{}: {source}", path.display())]
    Parameters {
        /// The file.
        path: PathBuf,
        /// Why.
        source: ParameterFileError,
    },
    /// A file of parameters that cannot be read.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Too few reference models, or an odd number.
    #[error("{asked} reference models: give an even number of at least {FEWEST}, or 0 for none")]
    References {
        /// Asked for.
        asked: usize,
    },
    /// A CSV file of records.
    #[error("{}: {source}", path.display())]
    Csv {
        /// The file.
        path: PathBuf,
        /// What the reader or writer said.
        source: csv::Error,
    },
    /// Training file and cohort with different headers.
    #[error("{}: its header is not that of train.csv; reference models need the same columns in both", path.display())]
    Header {
        /// The file.
        path: PathBuf,
    },
    /// A hospital with so few patients that some reference model has none of them.
    #[error(
        "{hospital} has too few patients for reference models, each of which takes a random half; leave them out with --references 0"
    )]
    TooFew {
        /// The hospital.
        hospital: String,
    },
    /// A patient of a cohort who was not found again in its file.
    #[error(
        "a patient of {hospital} is not found again in its files: they changed while they were read; attack again"
    )]
    Unknown {
        /// The hospital.
        hospital: String,
    },
    /// Data of another study than the report's.
    #[error(
        "{}: {found} patients with {records} records, and the report's sites have {wanted} with {wanted_records}: give the training \
         data of the report's sites",
        data.display()
    )]
    OtherData {
        /// The data folder.
        data: PathBuf,
        /// Privacy units in it.
        found: u64,
        /// Records in it.
        records: u64,
        /// Privacy units of the report.
        wanted: u64,
        /// Records of the report.
        wanted_records: u64,
    },
    /// The folder of a reference model.
    #[error("no temporary folder for a reference model: {0}")]
    Folder(std::io::Error),
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

/// Whose parameters are attacked.
#[derive(Debug, Clone, Copy)]
pub enum Target<'a> {
    /// Those of a training run made for the attack.
    Trained,
    /// Those of a `model.safetensors`.
    File(&'a Path),
    /// Those of a report.
    Report(&'a ReportFolder),
}

impl Target<'_> {
    /// The parameters; `None` where they are trained here.
    fn parameters(self, model: &Model) -> Result<Option<Vec<f32>>, AttackError> {
        let params = match self {
            Self::Trained => return Ok(None),
            Self::File(path) => {
                let path = path.to_owned();
                match std::fs::read(&path) {
                    Err(source) => return Err(AttackError::File { path, source }),
                    Ok(bytes) => model
                        .from_safetensors(&bytes)
                        .map_err(|source| AttackError::Parameters { path, source })?,
                }
            }
            Self::Report(report) => report.parameters(model)?,
        };
        Ok(Some(params))
    }

    /// Whether the data are those of the report.
    fn check(self, run: &Run, data: &Path) -> Result<(), AttackError> {
        let Self::Report(report) = self else { return Ok(()) };
        let (found, records) = run.sizes();
        let wanted = report.sizes().iter().map(|size| size.units).sum();
        let wanted_records = report.sizes().iter().map(|size| size.records).sum();
        if (found, records) == (wanted, wanted_records) {
            return Ok(());
        }
        Err(AttackError::OtherData { data: data.to_owned(), found, records, wanted, wanted_records })
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
    /// The ONNX imputer that the study pins; without it one is fitted on support.csv.
    pub imputer: Option<&'a Path>,
    /// Folder for copies of halves of the data, one at a time; whoever makes it removes it, also after an interruption.
    pub work: &'a Path,
    /// Whose parameters are attacked; the run is trained in any case, for its updates.
    pub target: Target<'a>,
    /// Cohort that the model is judged on.
    pub cohort: &'a str,
    /// Patients whose value is read off the updates.
    pub patients: usize,
    /// Reference models for membership, an even number of at least 4; 0 for none.
    pub references: usize,
    /// Decides samples and noise.
    pub seed: u64,
}

/// Trains a study and attacks it; `progress` is told the number of reference models that are trained.
///
/// # Errors
/// [`AttackError`]: study, data, model or cohort that do not serve.
pub fn attack(
    options: &AttackOptions<'_>,
    progress: &mut dyn FnMut(usize),
) -> Result<AttackEvidence, AttackError> {
    if options.references > 0 && (options.references < FEWEST || !options.references.is_multiple_of(2)) {
        return Err(AttackError::References { asked: options.references });
    }
    // What can be refused is refused before anything is trained.
    let given = options.target.parameters(&model_of(options.study)?)?;
    let mut run = Run::train(options, usize::MAX)?;
    options.target.check(&run, options.data)?;
    let model_digest = given.as_deref().map(parameters_digest);
    run.parameters = given.unwrap_or(run.parameters);
    let known = Known::new(&run, options)?;
    let train = Cohort::read(&run, options, "train")?;
    let test = Cohort::read(&run, options, options.cohort)?;
    let logits = test.logits(run.model(), &run.parameters)?;
    Ok(AttackEvidence {
        format: AttackFormat::V1,
        made_with: MADE_WITH.to_owned(),
        study_digest: Digest::of(options.study.as_bytes()),
        model_digest,
        study: run.study().study.name.clone(),
        epsilon: run.epsilon(),
        seed: options.seed,
        cohort: options.cohort.to_owned(),
        auroc: auroc(&logits, &test.labels).map_err(AttackError::metric("AUROC"))?,
        membership: membership(&run, options, [&train, &test], progress)?,
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

fn model_of(study: &str) -> Result<Model, AttackError> {
    let study = Study::parse(study).map_err(AttributeError::from)?;
    let encoder = Encoder::new(&study.schema, &study.model)?;
    Ok(Model::new(&study.model, encoder.input_shape())?)
}

fn membership(
    run: &Run,
    options: &AttackOptions<'_>,
    cohorts: [&Cohort; 2],
    progress: &mut dyn FnMut(usize),
) -> Result<Membership, AttackError> {
    let [members, others] = [
        cohorts[0].confidences(run.model(), &run.parameters)?,
        cohorts[1].confidences(run.model(), &run.parameters)?,
    ];
    // The loss falls as the log-odds of the true label rise, so they order records alike.
    let narrow = |confidences: &[f64]| confidences.iter().map(|&value| value as f32).collect::<Vec<f32>>();
    let by_loss =
        distinguish(&narrow(&members), &narrow(&others)).map_err(AttackError::metric("membership"))?;
    let by_references = match options.references {
        0 => None,
        _ => Some(by_references(run, options, cohorts, [&members, &others], progress)?),
    };
    Ok(Membership { members: members.len(), others: others.len(), by_loss, by_references })
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
