//! Checked tables of one file or several, rows grouped by privacy unit.

use fusiondp_dp::Digest;
use fusiondp_learn::schema::{Column, Role, Schema, Value};
use fusiondp_learn::table::{Labels, PublicFeatures, SensitiveFeatures, TableError};

use sha2::Digest as _;

use super::files::RecordFiles;
use super::record::{Hasher, Record, RecordFile, role_name};
use super::source::Part;
use super::units::{Grouping, UnitRows};
use super::{DataError, Progress, Units};

/// Longest text of a public cell that an error quotes, in characters.
const MAX_QUOTED: usize = 40;

/// N records of one table.
///
/// Has no `Debug` and no serialization: it holds patients' values.
pub struct Dataset {
    public: PublicFeatures,
    sensitive: SensitiveFeatures,
    labels: Labels,
    units: Units,
    digest: Digest,
}

/// What to read a file as.
pub struct ReadOptions<'a> {
    /// The study's columns.
    pub schema: &'a Schema,
    /// Column that names the privacy unit; `None`: every record is a unit.
    pub unit_column: Option<&'a str>,
    /// The share of the units to keep; `None`: all.
    pub part: Option<Part>,
    /// What a sensitive cell does that the schema refuses.
    pub unfit: UnfitCells,
}

/// What becomes of a sensitive cell that the schema refuses. Public cells and labels are refused in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnfitCells {
    /// The file is refused, with line and column: for the site's own eyes.
    Refuse,
    /// It is read by [`Column::parse_total`]: whether the site takes part then depends on no sensitive value.
    Mend,
}

impl Dataset {
    /// Reads files as one table. Columns that the schema does not declare are ignored.
    ///
    /// # Errors
    /// [`DataError`] with file, line or row, column and remedy; no message holds a sensitive value.
    pub fn read(
        files: &RecordFiles,
        options: &ReadOptions<'_>,
        progress: &mut Progress,
    ) -> Result<Self, DataError> {
        let hasher = Hasher::default();
        let mut cells = Cells::new(files.names(), options)?;
        for path in files.paths() {
            let file = RecordFile::open(path, files.format(), &hasher, progress)?;
            cells.bind(&file, options)?;
            let total = file.records().filter(|_| files.paths().len() == 1);
            file.read(&cells.places(), |record| {
                progress.advance(cells.records, total);
                cells.take(record)
            })?;
        }
        let digest = hasher.borrow_mut().finalize_reset();
        cells.finish(Digest::from_bytes(digest.into()), options)
    }

    /// Public features, `[N]` rows.
    pub fn public(&self) -> &PublicFeatures {
        &self.public
    }

    /// True sensitive features, `[N]` rows.
    pub fn sensitive(&self) -> &SensitiveFeatures {
        &self.sensitive
    }

    /// Labels, `[N]`.
    pub fn labels(&self) -> &Labels {
        &self.labels
    }

    /// Which rows belong to which unit.
    pub fn units(&self) -> &Units {
        &self.units
    }

    /// SHA-256 of the files' bytes in order, and of the part where only a part was kept.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Number of records N.
    pub fn records(&self) -> usize {
        self.labels.values().len()
    }
}

/// Columns under construction.
struct Cells<'a> {
    /// Name of the file that is being read; of all files at the end.
    file: String,
    names: String,
    features: Vec<FeatureColumn<'a>>,
    label: FeatureColumn<'a>,
    unit: Option<(usize, &'a str)>,
    units: UnitRows,
    part: Option<Part>,
    unfit: UnfitCells,
    records: usize,
}

struct FeatureColumn<'a> {
    /// Place in the file that is being read.
    place: usize,
    column: &'a Column,
    cells: Vec<f32>,
    /// A cell was read as something else than it holds.
    mended: bool,
}

impl<'a> Cells<'a> {
    fn new(names: String, options: &ReadOptions<'a>) -> Result<Self, DataError> {
        let schema = options.schema;
        let label = schema.label().ok_or_else(|| DataError::MissingColumn {
            file: names.clone(),
            column: String::new(),
            role: role_name(Role::Label),
        })?;
        let features = schema.columns.iter().filter(|column| column.is_feature());
        Ok(Self {
            file: names.clone(),
            names,
            features: features.map(FeatureColumn::new).collect(),
            label: FeatureColumn::new(label),
            unit: None,
            units: UnitRows::default(),
            part: options.part,
            unfit: options.unfit,
            records: 0,
        })
    }

    /// Finds the columns of the next file.
    fn bind(&mut self, file: &RecordFile, options: &ReadOptions<'a>) -> Result<(), DataError> {
        file.name().clone_into(&mut self.file);
        for feature in self.features.iter_mut().chain([&mut self.label]) {
            feature.place = file.require(feature.column)?;
        }
        self.unit = unit_place(file, options)?;
        let Some(records) = file.records() else { return Ok(()) };
        for feature in self.features.iter_mut().chain([&mut self.label]) {
            // Only spares growing: a count that is wrong shows when the records are read.
            let _ = feature.cells.try_reserve_exact(records);
        }
        if self.unit.is_some() {
            self.units.reserve(records);
        }
        Ok(())
    }

    /// Places of the columns that are read.
    fn places(&self) -> Vec<usize> {
        let columns = self.features.iter().chain([&self.label]).map(|feature| feature.place);
        columns.chain(self.unit.map(|(place, _)| place)).collect()
    }

    fn take(&mut self, record: &dyn Record) -> Result<(), DataError> {
        if let Some((place, column)) = self.unit {
            let digits;
            let id = match record.cell(place) {
                Value::Text(text) => text.trim(),
                Value::Integer(number) => {
                    digits = number.to_string();
                    &digits
                }
                Value::Missing | Value::Number(_) => "",
            };
            if id.is_empty() {
                let (file, at, column) = (self.file.clone(), record.at(), column.to_owned());
                return Err(DataError::EmptyUnit { file, at, column });
            }
            if self.part.is_some_and(|part| !part.holds(id)) {
                return Ok(());
            }
            let file = &self.file;
            self.units.push(id).ok_or_else(|| DataError::TooManyUnits { file: file.clone() })?;
        }
        for feature in self.features.iter_mut().chain([&mut self.label]) {
            feature.take(&self.file, record, self.unfit)?;
        }
        self.records += 1;
        Ok(())
    }

    fn finish(self, digest: Digest, options: &ReadOptions<'_>) -> Result<Dataset, DataError> {
        let file = self.names.as_str();
        if let (0, Some(part)) = (self.records, self.part) {
            return Err(DataError::EmptyPart { file: file.to_owned(), part });
        }
        let Grouping { units, order } = match options.unit_column {
            Some(_) => Units::group(self.units),
            None => Grouping { units: Units::of_records(self.records), order: None },
        };
        let (mut public, mut sensitive) = (Vec::new(), Vec::new());
        for feature in self.features {
            feature.report(file);
            let cells = reorder(feature.cells, order.as_deref());
            if feature.column.role == Role::Public { public.push(cells) } else { sensitive.push(cells) }
        }
        let table = |source: TableError| DataError::Table { file: file.to_owned(), source };
        Ok(Dataset {
            public: PublicFeatures::new(options.schema, public).map_err(table)?,
            sensitive: SensitiveFeatures::new(options.schema, sensitive).map_err(table)?,
            labels: Labels::new(reorder(self.label.cells, order.as_deref())).map_err(table)?,
            units,
            digest: options.part.map_or(digest, |part| part.digest_of(digest)),
        })
    }
}

impl<'a> FeatureColumn<'a> {
    fn new(column: &'a Column) -> Self {
        Self { place: 0, column, cells: Vec::new(), mended: false }
    }

    fn take(&mut self, file: &str, record: &dyn Record, unfit: UnfitCells) -> Result<(), DataError> {
        let value = record.cell(self.place);
        let cell = match (self.column.role, unfit) {
            (Role::Sensitive, UnfitCells::Mend) => {
                let (cell, mended) = self.column.read_total(value);
                self.mended |= mended;
                cell
            }
            _ => self.column.read(value).map_err(|problem| DataError::Cell {
                file: file.to_owned(),
                at: record.at(),
                column: self.column.name.clone(),
                problem,
                public_value: (self.column.role == Role::Public).then(|| quoted(value).into()),
            })?,
        };
        self.cells.push(cell);
        Ok(())
    }

    /// Tells the site, and nobody else, that its file and the schema differ. Not how often: the schema is the study's, and
    /// counts under one range after another would measure the column in the log.
    fn report(&self, file: &str) {
        if self.mended {
            tracing::warn!(
                file,
                column = self.column.name,
                "sensitive cells outside the schema were clipped or count as missing; `fusiondp-site check --study` names \
                 the first"
            );
        }
    }
}

/// Where the unit ids stand: needed if the study or a split by unit asks for them.
fn unit_place<'a>(
    file: &RecordFile,
    options: &ReadOptions<'a>,
) -> Result<Option<(usize, &'a str)>, DataError> {
    let declared = options.schema.unit_id();
    let named = |column: &'a Column| column.name.as_str();
    if let Some(wanted) = options.unit_column {
        let column = declared.filter(|column| column.name == wanted);
        let column = column.ok_or_else(|| DataError::UnitColumn { column: wanted.to_owned() })?;
        return Ok(Some((file.require(column)?, named(column))));
    }
    if options.part.is_none() {
        return Ok(None);
    }
    let without_units = || DataError::PartWithoutUnits {
        file: file.name().to_owned(),
        column: declared.map_or("patient_id", named).to_owned(),
    };
    let column = declared.ok_or_else(without_units)?;
    let place = file.find(column)?.ok_or_else(without_units)?;
    Ok(Some((place, named(column))))
}

/// What an error may say of a public cell.
fn quoted(value: Value<'_>) -> String {
    let text = match value {
        Value::Missing => String::new(),
        Value::Text(text) => return text.chars().take(MAX_QUOTED).collect(),
        Value::Integer(number) => number.to_string(),
        Value::Number(number) => number.to_string(),
    };
    text.chars().take(MAX_QUOTED).collect()
}

fn reorder(cells: Vec<f32>, order: Option<&[usize]>) -> Vec<f32> {
    match order {
        Some(order) => order.iter().map(|&row| cells[row]).collect(),
        None => cells,
    }
}
