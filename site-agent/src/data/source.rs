//! Where a site's records come from.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
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
    held_out: Option<HeldOut>,
    unfit: UnfitCells,
    clock: Arc<dyn Clock>,
}

/// Cohorts that are made of the training files' own units.
struct HeldOut {
    cohorts: Vec<CohortName>,
    of: u16,
}

impl FileSource {
    /// A source of these files.
    pub fn new(
        train: RecordFiles,
        cohorts: BTreeMap<CohortName, RecordFiles>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { train, cohorts, held_out: None, unfit: UnfitCells::Mend, clock }
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

    /// Makes these cohorts of the training files' own units, of which each gets one of `of` equal shares; the rest is
    /// trained on, so no unit is in two of them. `None` if nothing would be left to train on.
    pub fn holding_out(self, cohorts: Vec<CohortName>, of: u16) -> Option<Self> {
        let left = cohorts.len() < usize::from(of);
        left.then(|| Self { held_out: Some(HeldOut { cohorts, of }), ..self })
    }

    /// Every table's files with what they are for, training first.
    pub fn files(&self) -> impl Iterator<Item = (String, &RecordFiles)> {
        let cohorts = self.cohorts.iter().map(|(name, files)| (format!("cohort {name}"), files));
        std::iter::once(("train".to_owned(), &self.train)).chain(cohorts)
    }

    fn files_of(&self, records: &Records) -> Result<(&RecordFiles, Option<Part>), DataError> {
        if let Some(part) = self.held_out.as_ref().and_then(|held_out| held_out.part(records)) {
            return Ok((&self.train, Some(part)));
        }
        match records {
            Records::Train => Ok((&self.train, None)),
            Records::Cohort(name) => {
                let unknown = || DataError::UnknownCohort { cohort: name.to_string() };
                Ok((self.cohorts.get(name).ok_or_else(unknown)?, None))
            }
        }
    }
}

impl HeldOut {
    /// The units of these records; `None` for a cohort with files of its own.
    fn part(&self, records: &Records) -> Option<Part> {
        match records {
            Records::Train => Part::span(u16::try_from(self.cohorts.len()).ok()?..self.of, self.of),
            Records::Cohort(name) => {
                let index = self.cohorts.iter().position(|cohort| cohort == name)?;
                Part::new(u16::try_from(index).ok()?, self.of)
            }
        }
    }
}

impl DataSource for FileSource {
    fn read(&self, records: &Records, study: &Study) -> Result<Dataset, DataError> {
        let (files, part) = self.files_of(records)?;
        let options = ReadOptions {
            schema: &study.schema,
            unit_column: study.privacy.unit_column.as_deref(),
            part,
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

/// One or several of equal shares of a file's units, chosen by a hash of the unit id: a unit stays in its share whatever
/// else is in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    first: u16,
    end: u16,
    of: u16,
}

impl Part {
    /// Share `index` of `of`, counted from 0; `None` unless `index < of`.
    pub fn new(index: u16, of: u16) -> Option<Self> {
        Self::span(index..index.checked_add(1)?, of)
    }

    /// Several shares of `of`, counted from 0; `None` if there is none among them, or one that does not exist.
    pub fn span(shares: Range<u16>, of: u16) -> Option<Self> {
        (shares.start < shares.end && shares.end <= of).then_some(Self {
            first: shares.start,
            end: shares.end,
            of,
        })
    }

    /// Whether a unit belongs to this part.
    pub fn holds(self, unit_id: &str) -> bool {
        let digest = Digest::of(unit_id.as_bytes());
        let mut word = [0; 8];
        word.copy_from_slice(&digest.as_bytes()[..8]);
        let share = u64::from_le_bytes(word) % u64::from(self.of);
        (u64::from(self.first)..u64::from(self.end)).contains(&share)
    }

    /// Digest of this part of a file with that digest.
    pub(crate) fn digest_of(self, file: Digest) -> Digest {
        let mut bytes = file.as_bytes().to_vec();
        for number in [self.first, self.end, self.of] {
            bytes.extend(number.to_le_bytes());
        }
        Digest::of(&bytes)
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "shares {} to {} of {}", u64::from(self.first) + 1, self.end, self.of)
    }
}
