//! Attribute canaries over a whole training run.
//!
//! Some units of a study's data have every sensitive value replaced: a secret bit per unit chooses between two values that
//! the schema holds far apart (`replace`), or between the imputer's value and one far from it (`zero_out`). Each of them has its
//! records with both labels, which no model can fit, and the labels take the two values crosswise: so the bit turns the unit's
//! contribution around (docs/adr/0015-attribute-canaries.md). The study is trained through the sites' own step,
//! with charges, secret samples and noise, and the server's own step. The attacker sees every release and every model version
//! ([`attacker`]), or the last model alone.
//!
//! Rounds without a private part depend on no bit. They are computed once, and the private rounds after them as often as
//! asked for, each time with fresh bits, samples and noise: a run of many canaries whose contributions overlap proves less than
//! several runs of a few. Canaries of all runs are pooled; each bit enters one run only, so the bound holds as for one run.
//!
//! | module | content |
//! |---|---|
//! | [`records`] | records with replaced values |
//! | [`attacker`] | contributions under either bit, and the likelihood |
//! | `run` | warm-up, canaries, private rounds |

pub mod attacker;
pub mod records;
mod run;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::{Path, PathBuf};

use fusiondp_dp::{Delta, Epsilon, NeighboringRelation};
use serde::{Deserialize, Serialize};

use super::attack::{Canary, right_guesses};
use super::{ERROR_PROBABILITY, GUESSED_SHARE, bound};
use crate::harness::HarnessError;
use crate::reproduce::{CellError, ReproduceError};
use crate::simulation::SimulationError;

pub(crate) use run::edited;
pub use run::{Warm, audit_run};

/// Why an attack by attribute canaries could not be made.
#[derive(Debug, thiserror::Error)]
pub enum AttributeError {
    /// A CSV file.
    #[error("{}: {source}", path.display())]
    Csv {
        /// The file.
        path: PathBuf,
        /// What the reader or writer said.
        source: csv::Error,
    },
    /// Files with different headers.
    #[error("{}: its header is not that of the first file; give every hospital the same columns", path.display())]
    Header {
        /// The file.
        path: PathBuf,
    },
    /// A column that is not there.
    #[error("{}: no column \"{column}\", which the study's schema names", path.display())]
    Column {
        /// The file.
        path: PathBuf,
        /// The column.
        column: String,
    },
    /// Too many canaries.
    #[error("{canaries} canaries in each run of {units} units: give 1 to the number of units")]
    Canaries {
        /// Asked for.
        canaries: usize,
        /// There are.
        units: usize,
    },
    /// True against imputed where imputed values contribute too.
    #[error(
        "fusion.private_loss: true against imputed values is zero_out under the difference loss alone; attack this study under \
         replace"
    )]
    DirectLoss,
    /// Nothing to attack.
    #[error("the study has no private part; there is nothing to attack")]
    NoPrivatePart,
    /// A study whose releases are no sums of gradients.
    #[error(
        "training.{field}: this attack reads private sums of gradients, of one step a round and not projected"
    )]
    Releases {
        /// Field of the study.
        field: &'static str,
    },
    /// Training.
    #[error(transparent)]
    Train(#[from] CellError),
    /// The model.
    #[error(transparent)]
    Model(#[from] fusiondp_learn::model::ModelError),
    /// The study's text.
    #[error(transparent)]
    Text(#[from] HarnessError),
    /// The study.
    #[error(transparent)]
    Study(#[from] fusiondp_protocol::study::StudyError),
    /// The imputer or the data folder.
    #[error(transparent)]
    Simulation(#[from] SimulationError),
    /// Data.
    #[error(transparent)]
    Data(#[from] ReproduceError),
    /// A temporary folder.
    #[error("no temporary folder: {0}")]
    Folder(#[from] std::io::Error),
}

impl From<fusiondp_learn::server::ServerError> for AttributeError {
    fn from(error: fusiondp_learn::server::ServerError) -> Self {
        Self::Train(error.into())
    }
}

/// What is done wrong over the whole run, and claimed as if it were not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunFault {
    /// The noise has half of the deviation that is claimed.
    HalfNoise,
    /// `replace` is claimed with the sensitivity C, where it is 2C.
    HalfSensitivity,
}

impl RunFault {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::HalfNoise, Self::HalfSensitivity];
}

impl fmt::Display for RunFault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::HalfNoise => "half-noise",
            Self::HalfSensitivity => "half-sensitivity",
        })
    }
}

/// What is attacked.
#[derive(Debug, Clone)]
pub struct AttributeSetting<'a> {
    /// Text of the study.
    pub study: &'a str,
    /// What a bit decides: one of two values (`replace`), or the imputer's value against one far from it (`zero_out`).
    pub relation: NeighboringRelation,
    /// Target epsilon under that relation, in place of the study's.
    pub epsilon: Option<f64>,
    /// Hospitals' folders below it, and support.csv where the study needs an imputer.
    pub data: &'a Path,
    /// The ONNX imputer that the study pins; without it one is fitted on support.csv.
    pub imputer: Option<&'a Path>,
    /// Folder for copies of the data; whoever makes it removes it, also after an interruption.
    pub work: &'a Path,
    /// Units that take part; the canaries are among them.
    pub units: usize,
    /// Canaries of a run.
    pub canaries: usize,
    /// Times that the private rounds are trained.
    pub runs: usize,
    /// Decides bits, samples and noise.
    pub seed: u64,
}

/// What an attacker proved who saw this much.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Proved {
    /// Right guesses of all bits.
    pub right: usize,
    /// Surest guesses, a number fixed beforehand, and how many of them are right.
    pub surest: (usize, usize),
    /// Epsilon is at least this, confidence 99 %, whatever the mechanism is.
    pub lower_bound: f64,
    /// The same if the mechanism is as private as some Gaussian one.
    pub gaussian_bound: f64,
}

impl Proved {
    fn of(canaries: &[Canary], delta: f64) -> Self {
        let count = canaries.len();
        let guesses = count.div_ceil(GUESSED_SHARE).max(count.min(100));
        let (right, surest) = (right_guesses(canaries, count), right_guesses(canaries, guesses));
        Self {
            right,
            surest: (guesses, surest),
            lower_bound: bound::epsilon((count, guesses, surest), delta, ERROR_PROBABILITY),
            gaussian_bound: bound::gaussian_epsilon((count, count - right), delta, ERROR_PROBABILITY),
        }
    }
}

/// What an attack by attribute canaries showed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AttributeResult {
    /// `None` for the code as it is.
    pub fault: Option<RunFault>,
    /// What the canaries' bits decided.
    pub relation: NeighboringRelation,
    /// What the accountant claims of the whole run.
    pub claim: Epsilon,
    /// Delta of claim and bounds.
    pub delta: Delta,
    /// Canaries over all runs.
    pub canaries: usize,
    /// How far a canary's two contributions were apart (root mean square), over the largest distance that the relation allows: 0 to
    /// 1. Where it is small the attack is weak, whatever the code does.
    pub reach: f64,
    /// From every release and model version.
    pub releases: Proved,
    /// From the last model alone.
    pub final_model: Proved,
}

impl AttributeResult {
    /// Whether a bound that assumes nothing exceeds the claim.
    #[must_use]
    pub fn refutes(&self) -> bool {
        self.releases.lower_bound.max(self.final_model.lower_bound) > self.claim.get()
    }

    /// Whether any bound does.
    #[must_use]
    pub fn alarms(&self) -> bool {
        let gaussian = self.releases.gaussian_bound.max(self.final_model.gaussian_bound);
        self.refutes() || gaussian > self.claim.get()
    }
}
