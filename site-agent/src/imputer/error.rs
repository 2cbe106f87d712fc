//! Why there are no imputed values.

use fusiondp_dp::Digest;
use fusiondp_learn::imputer::OutputProblem;
use fusiondp_learn::onnx::OnnxError;
use fusiondp_learn::table::TableError;
use fusiondp_protocol::problem::ProblemType;
use fusiondp_protocol::support::SupportError;
use fusiondp_runtime::files::FileError;

use crate::data::DataError;

/// A failed or refused imputation. No message holds a cell's value.
#[derive(Debug, thiserror::Error)]
pub enum ImputerError {
    /// The study computes on imputed values and names no imputer.
    #[error("the study names no imputer and needs one; add an [imputer] section to the study")]
    NotDeclared,
    /// The study does not pin its ONNX model.
    #[error("imputer.sha256 is missing in the study; the site runs only models that the study pins")]
    NotPinned,
    /// No folder is configured.
    #[error("the study needs an ONNX imputer and none is configured; set [imputer] dir in site.toml")]
    NoFolder,
    /// No file has the digest.
    #[error(
        "no file in [imputer] dir has the study's sha256 {wanted} (found: {found}); copy the study's imputer into it"
    )]
    NotFound {
        /// Digest that the study pins.
        wanted: Digest,
        /// File names with the start of their digests.
        found: String,
    },
    /// A file has another digest than the study pins.
    #[error("{file} has sha256 {actual}, the study pins {wanted}; use the file that the study was made with")]
    DigestMismatch {
        /// Name of the file.
        file: String,
        /// Digest of the file.
        actual: Digest,
        /// Digest that the study pins.
        wanted: Digest,
    },
    /// A file cannot be read.
    #[error("the imputer's file cannot be read")]
    File(#[from] FileError),
    /// The file is refused: no ONNX model, custom operators, data outside the file.
    #[error("the ONNX imputer is refused: {0}")]
    Refused(#[from] OnnxError),
    /// The list of support patients cannot be read.
    #[error(transparent)]
    Support(#[from] SupportError),
    /// It was fitted on patients whom the study protects.
    #[error(
        "the imputer was fitted on {units} of this site's patients, whose ids are in its list of support patients: it may give away \
         what the study protects; fit it on other patients, or, if other people have these ids, on support data with ids of its own"
    )]
    SupportOverlap {
        /// How many.
        units: usize,
    },
    /// An input that cannot be fed.
    #[error("input \"{input}\" of the ONNX imputer {problem}; see docs/ONNX_IMPUTERS.md")]
    Input {
        /// Name of the input.
        input: String,
        /// What is wrong.
        problem: String,
    },
    /// A feature without output.
    #[error(
        "sensitive feature \"{feature}\": the ONNX imputer {problem}; map the feature in [imputer.outputs] of site.toml, \
         for example {feature} = \"probabilities[0:2]\""
    )]
    Output {
        /// The sensitive feature.
        feature: String,
        /// What is wrong.
        problem: String,
    },
    /// Scores that are no cells.
    #[error("sensitive feature \"{feature}\": {problem}")]
    Scores {
        /// The sensitive feature.
        feature: String,
        /// What is wrong.
        problem: OutputProblem,
    },
    /// ONNX Runtime is not installed.
    #[error(
        "ONNX Runtime is not found (looked at: {looked_at}); run deploy/onnxruntime/fetch.sh, or set [imputer] onnx_runtime"
    )]
    RuntimeMissing {
        /// Places, in order.
        looked_at: String,
    },
    /// ONNX Runtime does not load.
    #[error(
        "ONNX Runtime cannot be loaded from {path}: {reason}; fetch version 1.24.4 with deploy/onnxruntime/fetch.sh"
    )]
    RuntimeUnusable {
        /// The library.
        path: String,
        /// What the loader said.
        reason: String,
    },
    /// ONNX Runtime failed on the model.
    #[error("ONNX Runtime failed: {reason}")]
    Inference {
        /// What it said.
        reason: String,
    },
    /// No file of imputed values for this study.
    #[error(
        "the study needs imputed values made elsewhere; map their file in [imputer.precomputed] of site.toml under \"{key}\" \
         or \"*\""
    )]
    NotMapped {
        /// Digest that the study pins, or `*`.
        key: String,
    },
    /// A file of imputed values that cannot be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// Units without imputed values.
    #[error(
        "{file}: {units} of the site's units have no imputed values; impute every unit of the training data"
    )]
    UnitsMissing {
        /// Name of the file.
        file: String,
        /// How many.
        units: usize,
    },
    /// Units with another number of rows.
    #[error(
        "{file}: {units} units have another number of rows than in the training data; give one row per record, in the \
         order of the training data"
    )]
    RowsDiffer {
        /// Name of the file.
        file: String,
        /// How many.
        units: usize,
    },
    /// Values that make no table.
    #[error("imputed values do not fit the schema: {0}")]
    Table(#[from] TableError),
    /// The files of imputed values cannot be told apart without units.
    #[error(
        "{file}: {found} rows, the training data has {wanted} records; without unit ids the rows must correspond one to one"
    )]
    RecordCount {
        /// Name of the file.
        file: String,
        /// Rows of the file.
        found: usize,
        /// Records of the training data.
        wanted: usize,
    },
}

impl ImputerError {
    /// The kind under which it is reported.
    pub fn problem_type(&self) -> ProblemType {
        match self {
            ImputerError::Data(_)
            | ImputerError::UnitsMissing { .. }
            | ImputerError::RowsDiffer { .. }
            | ImputerError::RecordCount { .. } => ProblemType::DataError,
            _ => ProblemType::ImputerMismatch,
        }
    }

    /// Whether the site will not use the imputer, rather than it failing.
    pub fn is_refusal(&self) -> bool {
        matches!(
            self,
            ImputerError::NotPinned
                | ImputerError::DigestMismatch { .. }
                | ImputerError::Refused(_)
                | ImputerError::Support(_)
                | ImputerError::SupportOverlap { .. }
        )
    }

    /// The text for the coordinator: without files and folders of the site, and without counts of its patients.
    pub fn told(&self) -> String {
        match self {
            ImputerError::NotFound { wanted, .. } => {
                format!("the site has no file with the study's sha256 {wanted}; send it the study's imputer")
            }
            ImputerError::DigestMismatch { wanted, .. } => {
                format!("the site's file has another digest than the study pins, {wanted}; send it the study's file")
            }
            ImputerError::File(_) => "the imputer's file cannot be read at the site; ask the site".to_owned(),
            ImputerError::SupportOverlap { .. } => {
                "the site does not accept the data that the imputer was fitted on; ask the site, and fit it on other patients"
                    .to_owned()
            }
            ImputerError::RuntimeMissing { .. } | ImputerError::RuntimeUnusable { .. } => {
                "ONNX Runtime does not load at the site; ask the site".to_owned()
            }
            ImputerError::Inference { .. } => "ONNX Runtime failed on the study's imputer; ask the site".to_owned(),
            ImputerError::UnitsMissing { .. }
            | ImputerError::RowsDiffer { .. }
            | ImputerError::RecordCount { .. } => {
                "the site's imputed values are not of its training data; ask the site".to_owned()
            }
            other => other.to_string(),
        }
    }

    pub(super) fn inference(error: impl std::fmt::Display) -> Self {
        ImputerError::Inference { reason: error.to_string() }
    }
}
