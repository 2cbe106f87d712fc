//! A whole federation in one process: the real coordinator, real site agents, real gRPC over in-memory connections.
//!
//! Nothing is modelled. The agents read the same files, check the same policies, write the same ledgers and send the
//! same bytes as deployed ones; only the pipe is memory instead of TLS, the identities are declared instead of
//! certified, and noise comes from a seed. The last makes a run reproducible and **worthless as protection**: whoever
//! knows the seed can take the noise off, so a simulation is marked as one in everything it writes.
//!
//! ```text
//! study + data folder -> split -> one agent per site ---+
//!                          |                            | gRPC in memory
//!                     fitted imputer      coordinator --+--> report, final parameters -> exact metrics
//! ```
//!
//! | module | content |
//! |---|---|
//! | [`federation`] | coordinator and agents in this process |
//! | [`imputation`] | the imputer: given, pinned, or fitted on the support data |
//! | [`records`] | where a site's training records and cohorts come from |
//! | [`exact`] | metrics over all hospitals' rows together, from the final parameters |
//! | [`outcome`] | the figures of a run, as JSON and as a table |

mod error;
pub mod exact;
pub mod federation;
pub mod imputation;
pub mod outcome;
mod records;
pub(crate) mod support;

use std::path::PathBuf;

use fusiondp_protocol::messages::StudyStatus;
use fusiondp_protocol::study::{Study, StudyDocument};
use tokio::time::Instant;

use crate::harness::toml_text::TomlText;
use crate::split::{SiteFolder, SplitOptions, split};

pub use error::SimulationError;
pub use outcome::Outcome;

use federation::{InMemory, InMemoryOptions};
use imputation::{ChosenImputer, ImputerSource};

/// What to simulate.
#[derive(Debug, Clone)]
pub struct SimulationOptions {
    /// Text of the study document.
    pub study: String,
    /// One folder per hospital with train.csv and the cohorts, or one Parquet file per hospital; `support.csv` to fit an
    /// imputer on.
    pub data: PathBuf,
    /// Number of sites.
    pub sites: usize,
    /// Seed of split, imputer, samples and noise.
    pub seed: u64,
    /// ONNX imputer in place of a fitted one.
    pub imputer: Option<PathBuf>,
    /// Rounds in place of the study's; see [`TomlText::set_rounds`].
    pub rounds: Option<u32>,
    /// Folder of databases, ledgers and cut data; kept.
    pub state: PathBuf,
}

/// What a simulation is doing.
#[derive(Debug)]
pub enum Progress<'a> {
    /// A step before the study, in words.
    Step(&'a str),
    /// The study moves.
    Study(&'a StudyStatus),
}

/// Runs a study from its document to its figures.
///
/// # Errors
/// [`SimulationError`]; every service is ended.
pub async fn simulate(
    options: &SimulationOptions,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Outcome, SimulationError> {
    let mut text = TomlText::new(&options.study);
    if let Some(rounds) = options.rounds {
        text.set_rounds(rounds).map_err(|e| SimulationError::Report(e.to_string()))?;
    }
    let study = Study::parse(text.text())?;
    let sites = cut(options, &study)?;
    let source = ImputerSource {
        given: options.imputer.as_deref(),
        data: &options.data,
        folder: &options.state.join("imputers"),
        seed: options.seed,
    };
    let imputer = imputation::choose(&study, &source, &mut |step| progress(Progress::Step(step)))?;
    let document = pinned(text, &imputer)?;
    let started = Instant::now();
    let in_memory = InMemoryOptions {
        sites: &sites,
        study: document.study(),
        state: &options.state,
        imputers: options.state.join("imputers"),
        seed: options.seed,
    };
    let mut federation = InMemory::start(in_memory).await?;
    let finished = federation.run(&document, &mut |status| progress(Progress::Study(status))).await?;
    let seconds = started.elapsed().as_secs_f64();
    federation.stop().await?;
    let exact = exact::metrics(document.study(), &finished.parameters, &sites)?;
    outcome::collect(options, &document, &imputer, finished, exact, seconds)
}

fn cut(options: &SimulationOptions, study: &Study) -> Result<Vec<SiteFolder>, SimulationError> {
    let split_options = SplitOptions {
        sites: options.sites,
        seed: options.seed,
        unit_column: study.privacy.unit_column.as_deref(),
    };
    Ok(split(&options.data, split_options, &options.state.join("data"))?)
}

/// The document with the chosen imputer's digest in it, so that sites refuse any other.
fn pinned(mut text: TomlText, imputer: &ChosenImputer) -> Result<StudyDocument, SimulationError> {
    if let ChosenImputer::Fitted { sha256, .. } | ChosenImputer::Given { sha256 } = imputer {
        let body = format!("kind = \"onnx\"\nsha256 = \"{sha256}\"");
        text.replace_section("imputer", &body).map_err(|e| SimulationError::Report(e.to_string()))?;
    }
    Ok(StudyDocument::from_bytes(text.text().as_bytes())?)
}
