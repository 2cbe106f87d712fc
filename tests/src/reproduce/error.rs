//! Why a reproduction did not reach its end.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::cell::Cell;
use crate::simulation::SimulationError;
use crate::split::SplitError;

/// Why a reproduction did not reach its end. What is finished stays in the results file.
#[derive(Debug, Error)]
pub enum ReproduceError {
    /// The folder of shared data lacks a data set.
    #[error("{} is missing; --shared names the folder that holds data/sepsis and data/bank, --data leaves one out", path.display())]
    NoData {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// An imputer that a cell asks for cannot be had.
    #[error("no imputer \"{imputer}\" for {data}: {} is missing; {remedy}", path.display())]
    NoImputer {
        /// Data set.
        data: String,
        /// Imputer.
        imputer: &'static str,
        /// Where it was looked for.
        path: PathBuf,
        /// How to get it.
        remedy: &'static str,
    },
    /// The settings file.
    #[error("settings: {problem}")]
    Settings {
        /// What is wrong, with the place.
        problem: String,
    },
    /// A file or folder.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A CSV file.
    #[error("{}: {source}", path.display())]
    Csv {
        /// The file.
        path: PathBuf,
        /// What the reader said.
        source: csv::Error,
    },
    /// A JSON file.
    #[error("{} line {line}: {source}; remove the file to start over", path.display())]
    Results {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What the reader said.
        source: serde_json::Error,
    },
    /// The scaling constants.
    #[error("{}: {problem}", path.display())]
    Scaling {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// Hospitals cannot be cut.
    #[error(transparent)]
    Split(#[from] SplitError),
    /// Imputer, data or metrics, as in a simulation.
    #[error(transparent)]
    Simulation(#[from] SimulationError),
    /// A run failed.
    #[error("{cell}: {problem}")]
    Cell {
        /// Which run.
        cell: Box<Cell>,
        /// What it said.
        #[source]
        problem: CellError,
    },
    /// The tables cannot be written as JSON.
    #[error("results.json: {0}")]
    Json(#[from] serde_json::Error),
}

/// Why one run failed.
#[derive(Debug, Error)]
pub enum CellError {
    /// The study that the settings make.
    #[error("the settings make no valid study: {0}")]
    Study(#[from] fusiondp_protocol::study::StudyError),
    /// The plan.
    #[error(transparent)]
    Plan(#[from] fusiondp_protocol::plan::PlanError),
    /// A site's part.
    #[error(transparent)]
    Train(#[from] fusiondp_site_agent::train::TrainError),
    /// A site refuses.
    #[error(transparent)]
    Refusal(#[from] fusiondp_site_agent::policy::Refusal),
    /// A ledger.
    #[error(transparent)]
    Ledger(#[from] fusiondp_site_agent::store::ledger::SiteLedgerError),
    /// A ledger's store.
    #[error(transparent)]
    Store(#[from] fusiondp_site_agent::store::StoreError),
    /// No randomness.
    #[error(transparent)]
    Seed(#[from] fusiondp_dp::SeedError),
    /// An update's bytes.
    #[error(transparent)]
    Chunk(#[from] fusiondp_protocol::chunks::ChunkError),
    /// The server's step.
    #[error(transparent)]
    Server(#[from] fusiondp_learn::server::ServerError),
    /// The accountant.
    #[error(transparent)]
    Accountant(#[from] fusiondp_dp::AccountantError),
    /// A site's name.
    #[error(transparent)]
    Id(#[from] fusiondp_protocol::ids::IdError),
    /// Metrics of the final model.
    #[error(transparent)]
    Simulation(#[from] SimulationError),
    /// A cohort has no metric.
    #[error("cohort {cohort}: {source}")]
    Metric {
        /// Cohort.
        cohort: String,
        /// Why.
        source: fusiondp_learn::metrics::MetricError,
    },
    /// Files of imputed values.
    #[error(transparent)]
    Files(Box<ReproduceError>),
    /// No asynchronous runtime for the ledgers.
    #[error("no runtime: {0}")]
    Runtime(#[source] io::Error),
    /// A thread ended early.
    #[error("a worker thread panicked; please report this")]
    Panicked,
}

impl ReproduceError {
    /// For `map_err` on a file or folder.
    pub(super) fn io(path: &Path) -> impl Fn(io::Error) -> Self + '_ {
        move |source| Self::Io { path: path.to_owned(), source }
    }

    /// For `map_err` on a CSV file.
    pub(super) fn csv(path: &Path) -> impl Fn(csv::Error) -> Self + '_ {
        move |source| Self::Csv { path: path.to_owned(), source }
    }
}
