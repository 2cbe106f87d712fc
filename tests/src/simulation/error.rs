//! Why a simulated federation did not reach its end.

use std::io;
use std::path::PathBuf;

use fusiondp_learn::encode::EncodeError;
use fusiondp_learn::metrics::MetricError;
use fusiondp_learn::model::ModelError;
use fusiondp_protocol::convert::ConvertError;
use fusiondp_protocol::ids::IdError;
use fusiondp_protocol::study::StudyError;
use fusiondp_site_agent::data::DataError;
use thiserror::Error;

use crate::split::SplitError;

/// Why a simulated federation did not reach its end.
#[derive(Debug, Error)]
pub enum SimulationError {
    /// The data folder cannot be split into the sites asked for.
    #[error(transparent)]
    Split(#[from] SplitError),
    /// The study document.
    #[error("study: {0}")]
    Study(#[from] StudyError),
    /// The study names an imputer by digest, and no file with this digest was given.
    #[error(
        "the study pins the imputer {wanted}{}; give that file with --imputer FILE, or remove sha256 from the study to have one fitted",
        given.as_ref().map_or(String::new(), |given| format!(", --imputer has {given}"))
    )]
    Imputer {
        /// Digest in the study.
        wanted: String,
        /// Digest of the file given.
        given: Option<String>,
    },
    /// No support data to fit an imputer on.
    #[error("{} is missing: an imputer is fitted on it; put it there, or give a model with --imputer FILE", path.display())]
    NoSupport {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// Fitting the imputer failed.
    #[error("fitting the imputer: {0}")]
    Fit(String),
    /// A site has no file of precomputed imputations, or more than one.
    #[error("site {site} has {count} files train_imputed*.csv in {}; the study needs exactly one", folder.display())]
    Precomputed {
        /// Site.
        site: String,
        /// Files found.
        count: usize,
        /// Where it was looked for.
        folder: PathBuf,
    },
    /// An id.
    #[error(transparent)]
    Id(#[from] IdError),
    /// A service could not be started.
    #[error("{service} did not start: {problem}")]
    Start {
        /// Which one.
        service: String,
        /// Why.
        problem: String,
    },
    /// The coordinator refused a call.
    #[error("the coordinator refused: {0}")]
    Call(String),
    /// The coordinator answered what does not stand.
    #[error("answer of the coordinator: {0}")]
    Answer(#[from] ConvertError),
    /// The study ended without a result.
    #[error("the study {state}: {detail}")]
    Ended {
        /// State it ended in.
        state: String,
        /// Why.
        detail: String,
    },
    /// An agent ended before the study.
    #[error("the agent of {site} ended: {problem}")]
    Agent {
        /// Site.
        site: String,
        /// Why.
        problem: String,
    },
    /// Data to compute exact metrics on.
    #[error(transparent)]
    Data(#[from] DataError),
    /// Data that does not fit the schema.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// A model that does not fit its input.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// Metrics that are not defined on the cohort.
    #[error("cohort {cohort}: {source}")]
    Metric {
        /// Cohort.
        cohort: String,
        /// Why.
        source: MetricError,
    },
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The report lacks something.
    #[error("report.json: {0}")]
    Report(String),
}

impl SimulationError {
    pub(super) fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}

impl From<tonic::Status> for SimulationError {
    fn from(status: tonic::Status) -> Self {
        Self::Call(status.message().to_owned())
    }
}
