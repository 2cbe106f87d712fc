//! Where a site's records come from.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use fusiondp_dp::Digest;
use fusiondp_protocol::ids::CohortName;
use fusiondp_protocol::study::Study;
use fusiondp_runtime::clock::Clock;

use super::dataset::{ReadOptions, UnfitCells};
use super::files::RecordFiles;
use super::{DataError, Dataset, Progress};

/// Which of a site's records to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Records {
    /// The records that are trained on.
    Train,
    /// A named cohort to evaluate on.
    Cohort(CohortName),
}

/// A store of records. Blocking: callers stay off the async threads.
pub trait DataSource: Send + Sync {
    /// Reads records under a study's schema, grouped by the study's privacy unit.
    ///
    /// # Errors
    /// [`DataError`] with file, line or row, column and remedy.
    fn read(&self, records: &Records, study: &Study) -> Result<Dataset, DataError>;
}

/// Files, one table for training and one per cohort.
pub struct FileSource {
    train: RecordFiles,
    cohorts: BTreeMap<CohortName, RecordFiles>,
    part: Option<Part>,
    unfit: UnfitCells,
    clock: Arc<dyn Clock>,
}

impl FileSource {
    /// A source of these files.
    pub fn new(
        train: RecordFiles,
        cohorts: BTreeMap<CohortName, RecordFiles>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { train, cohorts, part: None, unfit: UnfitCells::Mend, clock }
    }

    /// A source of comma-separated files, one per table.
    pub fn csv(train: PathBuf, cohorts: BTreeMap<CohortName, PathBuf>, clock: Arc<dyn Clock>) -> Self {
        let cohorts = cohorts.into_iter().map(|(name, path)| (name, RecordFiles::csv(path))).collect();
        Self::new(RecordFiles::csv(train), cohorts, clock)
    }

    /// Refuses files with sensitive cells that the schema refuses, naming the first: for the site's own eyes, never for
    /// an answer to the coordinator.
    pub fn strict(self) -> Self {
        Self { unfit: UnfitCells::Refuse, ..self }
    }

    /// Keeps one part of the units of every file, so that one hospital's files serve several simulated sites.
    pub fn with_part(self, part: Part) -> Self {
        Self { part: Some(part), ..self }
    }

    /// Every table's files with what they are for, training first.
    pub fn files(&self) -> impl Iterator<Item = (String, &RecordFiles)> {
        let cohorts = self.cohorts.iter().map(|(name, files)| (format!("cohort {name}"), files));
        std::iter::once(("train".to_owned(), &self.train)).chain(cohorts)
    }

    fn files_of(&self, records: &Records) -> Result<&RecordFiles, DataError> {
        match records {
            Records::Train => Ok(&self.train),
            Records::Cohort(name) => {
                self.cohorts.get(name).ok_or_else(|| DataError::UnknownCohort { cohort: name.to_string() })
            }
        }
    }
}

impl DataSource for FileSource {
    fn read(&self, records: &Records, study: &Study) -> Result<Dataset, DataError> {
        let files = self.files_of(records)?;
        let options = ReadOptions {
            schema: &study.schema,
            unit_column: study.privacy.unit_column.as_deref(),
            part: self.part,
            unfit: self.unfit,
        };
        let mut progress = Progress::start(Arc::clone(&self.clock), "reading records");
        let dataset = Dataset::read(files, &options, &mut progress)?;
        tracing::info!(
            files = files.names(),
            records = dataset.records(),
            units = dataset.units().count(),
            "read records"
        );
        Ok(dataset)
    }
}

/// One of several equal shares of a file's units, chosen by a hash of the unit id: a unit stays in its part whatever
/// else is in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    index: u32,
    of: u32,
}

impl Part {
    /// Part `index` of `of`, counted from 0; `None` unless `index < of`.
    pub fn new(index: u32, of: u32) -> Option<Self> {
        (index < of).then_some(Self { index, of })
    }

    /// Index of the part, from 0.
    pub fn index(self) -> u32 {
        self.index
    }

    /// Number of parts.
    pub fn of(self) -> u32 {
        self.of
    }

    /// Whether a unit belongs to this part.
    pub fn holds(self, unit_id: &str) -> bool {
        let digest = Digest::of(unit_id.as_bytes());
        let mut word = [0; 8];
        word.copy_from_slice(&digest.as_bytes()[..8]);
        u64::from_le_bytes(word) % u64::from(self.of) == u64::from(self.index)
    }

    /// Digest of this part of a file with that digest.
    pub(crate) fn digest_of(self, file: Digest) -> Digest {
        let mut bytes = file.as_bytes().to_vec();
        bytes.extend(self.index.to_le_bytes());
        bytes.extend(self.of.to_le_bytes());
        Digest::of(&bytes)
    }
}
