//! Checked tables of one file, rows grouped by privacy unit.

use std::path::Path;

use fusiondp_dp::Digest;
use fusiondp_learn::schema::{Column, Role, Schema};
use fusiondp_learn::table::{Labels, PublicFeatures, SensitiveFeatures, TableError};

use super::csv::{CsvFile, Line};
use super::source::Part;
use super::units::Grouping;
use super::{DataError, Progress, Units};

/// Longest text of a public cell that an error quotes, in characters.
const MAX_QUOTED: usize = 40;

/// N records of one file.
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
    /// Reads a file. Columns that the schema does not declare are ignored.
    ///
    /// # Errors
    /// [`DataError`] with file, line, column and remedy; no message holds a sensitive value.
    pub fn read(path: &Path, options: &ReadOptions<'_>, progress: &mut Progress) -> Result<Self, DataError> {
        let file = CsvFile::open(path)?;
        let mut cells = Cells::new(&file, options)?;
        let name = file.name().to_owned();
        let digest = file.read(|line| {
            progress.advance(cells.records, None);
            cells.take(&line)
        })?;
        cells.finish(&name, digest, options)
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

    /// SHA-256 of the file, and of the part where only a part was kept.
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
    file: String,
    features: Vec<FeatureColumn<'a>>,
    label: (usize, &'a Column, Vec<f32>),
    unit: Option<(usize, &'a str)>,
    ids: Vec<String>,
    part: Option<Part>,
    unfit: UnfitCells,
    records: usize,
}

struct FeatureColumn<'a> {
    place: usize,
    column: &'a Column,
    cells: Vec<f32>,
    /// A cell was read as something else than it holds.
    mended: bool,
}

impl<'a> Cells<'a> {
    fn new(file: &CsvFile, options: &ReadOptions<'a>) -> Result<Self, DataError> {
        let schema = options.schema;
        let features = schema.columns.iter().filter(|column| column.is_feature());
        let features = features
            .map(|column| {
                let place = file.require(&column.name, role_name(column.role))?;
                Ok(FeatureColumn { place, column, cells: Vec::new(), mended: false })
            })
            .collect::<Result<Vec<_>, DataError>>()?;
        let label = schema.label().ok_or_else(|| DataError::MissingColumn {
            file: file.name().to_owned(),
            column: String::new(),
            role: role_name(Role::Label),
        })?;
        Ok(Self {
            file: file.name().to_owned(),
            features,
            label: (file.require(&label.name, role_name(Role::Label))?, label, Vec::new()),
            unit: unit_place(file, options)?,
            ids: Vec::new(),
            part: options.part,
            unfit: options.unfit,
            records: 0,
        })
    }

    fn take(&mut self, line: &Line<'_>) -> Result<(), DataError> {
        if let Some((place, column)) = self.unit {
            let id = line.cells.get(place).unwrap_or_default().trim();
            if id.is_empty() {
                let (file, line, column) = (self.file.clone(), line.number, column.to_owned());
                return Err(DataError::EmptyUnit { file, line, column });
            }
            if self.part.is_some_and(|part| !part.holds(id)) {
                return Ok(());
            }
            self.ids.push(id.to_owned());
        }
        for feature in &mut self.features {
            feature.take(&self.file, line, self.unfit)?;
        }
        let (place, column, cells) = &mut self.label;
        cells.push(parse(&self.file, column, *place, line)?);
        self.records += 1;
        Ok(())
    }

    fn finish(self, file: &str, digest: Digest, options: &ReadOptions<'_>) -> Result<Dataset, DataError> {
        if let (0, Some(part)) = (self.records, self.part) {
            return Err(DataError::EmptyPart { file: file.to_owned(), index: part.index(), of: part.of() });
        }
        let Grouping { units, order } = match options.unit_column {
            Some(_) => Units::group(self.ids),
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
            labels: Labels::new(reorder(self.label.2, order.as_deref())).map_err(table)?,
            units,
            digest: options.part.map_or(digest, |part| part.digest_of(digest)),
        })
    }
}

impl FeatureColumn<'_> {
    fn take(&mut self, file: &str, line: &Line<'_>, unfit: UnfitCells) -> Result<(), DataError> {
        let cell = match (self.column.role, unfit) {
            (Role::Sensitive, UnfitCells::Mend) => {
                let (cell, mended) = self.column.parse_total(line.cells.get(self.place).unwrap_or_default());
                self.mended |= mended;
                cell
            }
            _ => parse(file, self.column, self.place, line)?,
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
fn unit_place<'a>(file: &CsvFile, options: &ReadOptions<'a>) -> Result<Option<(usize, &'a str)>, DataError> {
    let declared = options.schema.unit_id().map(|column| column.name.as_str());
    if let Some(column) = options.unit_column {
        if declared != Some(column) {
            return Err(DataError::UnitColumn { column: column.to_owned() });
        }
        return Ok(Some((file.require(column, role_name(Role::UnitId))?, column)));
    }
    if options.part.is_none() {
        return Ok(None);
    }
    let without_units = || DataError::PartWithoutUnits {
        file: file.name().to_owned(),
        column: declared.unwrap_or("patient_id").to_owned(),
    };
    let column = declared.ok_or_else(without_units)?;
    let place = file.find(column)?.ok_or_else(without_units)?;
    Ok(Some((place, column)))
}

fn parse(file: &str, column: &Column, place: usize, line: &Line<'_>) -> Result<f32, DataError> {
    let text = line.cells.get(place).unwrap_or_default();
    column.parse(text).map_err(|problem| DataError::Cell {
        file: file.to_owned(),
        line: line.number,
        column: column.name.clone(),
        problem,
        public_value: (column.role == Role::Public).then(|| text.chars().take(MAX_QUOTED).collect()),
    })
}

fn reorder(cells: Vec<f32>, order: Option<&[usize]>) -> Vec<f32> {
    match order {
        Some(order) => order.iter().map(|&row| cells[row]).collect(),
        None => cells,
    }
}

fn role_name(role: Role) -> &'static str {
    match role {
        Role::Public => "public",
        Role::Sensitive => "sensitive",
        Role::Label => "label",
        Role::UnitId => "unit-id",
    }
}
