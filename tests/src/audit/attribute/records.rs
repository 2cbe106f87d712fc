//! Records of a cohort, with the sensitive values of some units replaced.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use csv::{Reader, StringRecord, Writer};
use fusiondp_learn::schema::{Column, ColumnKind, Schema, Transform};
use fusiondp_protocol::study::Study;

use super::AttributeError;

/// How often a canary has each of its records, with either label. One suffices where a gradient is longer than the clip norm;
/// more lengthen it, and the model sees sooner that these records cannot be fitted.
const COPIES: usize = 4;

/// Training records as text, whole units in order of first appearance. Has no `Debug`: it holds patients' values.
pub struct Records {
    header: StringRecord,
    units: Vec<Vec<StringRecord>>,
    sensitive: Vec<(usize, Column)>,
    label: Option<(usize, Column)>,
    /// Whether a column names the unit of each record, so that a unit may have several.
    grouped: bool,
}

/// The values of a canary that its bit chooses between, as text. Has no `Debug`: imputed values follow from a patient's.
pub struct Pair {
    /// Two values of each sensitive column.
    values: Vec<[String; 2]>,
    /// What a clear bit stands for instead: the imputer's values, by row of the unit and by column.
    imputed: Option<Vec<Vec<String>>>,
}

impl Pair {
    /// The same, but a clear bit gives every row the imputer's values: `cells` by column, over the unit's rows.
    #[must_use]
    pub fn against_imputed(self, schema: &Schema, cells: &[Vec<f32>]) -> Self {
        let rows = cells.first().map_or(0, Vec::len);
        let of_row =
            |row: usize| schema.sensitive().zip(cells).map(|(c, cells)| text(c, cells[row])).collect();
        Self { imputed: Some((0..rows).map(of_row).collect()), ..self }
    }

    /// The gradient of a record is its residual, whose sign the label decides, times a direction that its values decide. So the
    /// two labels take the two values crosswise: a bit turns the sum over a unit's records around.
    fn cell(&self, (row, label): (usize, bool), column: usize, bit: bool) -> &str {
        match &self.imputed {
            Some(imputed) if !bit => &imputed[row][column],
            _ => &self.values[column][usize::from(bit == label)],
        }
    }
}

/// An imputed cell as a site's file would spell it; a probability becomes 0 or 1.
fn text(column: &Column, cell: f32) -> String {
    match &column.kind {
        Some(ColumnKind::Categorical { vocabulary }) => {
            vocabulary.get(cell as usize).cloned().unwrap_or_default()
        }
        Some(ColumnKind::Binary {}) => cell.round().to_string(),
        _ => cell.to_string(),
    }
}

/// A label as a site's file would spell it. `None` if the column has no word for it.
fn label_text(column: &Column, positive: bool) -> Option<String> {
    match &column.kind {
        Some(ColumnKind::Categorical { vocabulary }) => {
            vocabulary.iter().find(|word| (Some(*word) == column.positive.as_ref()) == positive).cloned()
        }
        _ => Some(u8::from(positive).to_string()),
    }
}

impl Records {
    /// Reads the first `most` units of the files, which must have one header.
    ///
    /// # Errors
    /// A file that cannot be read, another header, or a sensitive or unit column that is not there.
    pub fn read(study: &Study, files: &[PathBuf], most: usize) -> Result<Self, AttributeError> {
        let grouped = study.privacy.unit_column.is_some();
        let (header, units, sensitive) = (StringRecord::new(), Vec::new(), Vec::new());
        let mut records = Self { header, units, sensitive, label: None, grouped };
        let mut places: HashMap<String, usize> = HashMap::new();
        let share = most.div_ceil(files.len().max(1));
        for (index, path) in files.iter().enumerate() {
            let failed = |source| AttributeError::Csv { path: path.clone(), source };
            let mut reader = Reader::from_path(path).map_err(failed)?;
            let header = reader.headers().map_err(failed)?.clone();
            if index == 0 {
                records.header = header;
                records.find_columns(study, path)?;
            } else if header != records.header {
                return Err(AttributeError::Header { path: path.clone() });
            }
            let unit = study.privacy.unit_column.as_deref();
            let unit = unit.map(|name| place(&records.header, name, path)).transpose()?;
            for row in reader.records() {
                let row = row.map_err(failed)?;
                records.take(row, unit, &mut places, most.min(share * (index + 1)));
            }
        }
        Ok(records)
    }

    fn find_columns(&mut self, study: &Study, path: &Path) -> Result<(), AttributeError> {
        for column in study.schema.sensitive() {
            self.sensitive.push((place(&self.header, &column.name, path)?, column.clone()));
        }
        if let Some(label) = study.schema.label() {
            self.label = Some((place(&self.header, &label.name, path)?, label.clone()));
        }
        Ok(())
    }

    fn take(
        &mut self,
        row: StringRecord,
        unit: Option<usize>,
        places: &mut HashMap<String, usize>,
        most: usize,
    ) {
        let known = unit.and_then(|unit| places.get(row[unit].trim()).copied());
        if let Some(known) = known {
            return self.units[known].push(row);
        }
        if self.units.len() < most {
            if let Some(unit) = unit {
                places.insert(row[unit].trim().to_owned(), self.units.len());
            }
            self.units.push(vec![row]);
        }
    }

    /// Number of units.
    #[must_use]
    pub fn units(&self) -> usize {
        self.units.len()
    }

    /// Gives these units copies of their records with the same public cells and the opposite label, which no model can tell apart
    /// by what is public. Where every record is a unit, the copies are units of their own.
    pub fn add_opposites(&mut self, units: &[usize]) {
        for &unit in units {
            let own = self.units[unit].clone();
            let opposites = own.iter().filter_map(|row| self.opposite(row));
            let opposites: Vec<StringRecord> = opposites.flat_map(|row| vec![row; COPIES]).collect();
            if self.grouped {
                let more = own.into_iter().flat_map(|row| vec![row; COPIES - 1]);
                self.units[unit].extend(more.chain(opposites));
            } else {
                self.units.extend(opposites.into_iter().map(|row| vec![row]));
            }
        }
    }

    fn opposite(&self, row: &StringRecord) -> Option<StringRecord> {
        let (place, column) = self.label.as_ref()?;
        let text = label_text(column, !self.is_positive(row))?;
        Some(row.iter().enumerate().map(|(index, cell)| if index == *place { &text } else { cell }).collect())
    }

    fn is_positive(&self, row: &StringRecord) -> bool {
        self.label.as_ref().is_some_and(|(place, column)| column.parse(&row[*place]) == Ok(1.0))
    }

    /// Two values of every sensitive column, far apart, and others for other `canary` indices where bins or words are many.
    #[must_use]
    pub fn pair(&self, canary: usize) -> Pair {
        let values = self.sensitive.iter().map(|(_, column)| far_apart(column, canary)).collect();
        Pair { values, imputed: None }
    }

    /// Writes all units; those that `chosen` names with their pair and bit have one value of the pair in every sensitive cell: the
    /// bit's in records with a positive label, the other in those with a negative one.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: &Path, chosen: &HashMap<usize, (&Pair, bool)>) -> Result<(), AttributeError> {
        let failed = |source| AttributeError::Csv { path: path.to_owned(), source };
        let mut writer: Writer<File> = Writer::from_path(path).map_err(failed)?;
        writer.write_record(&self.header).map_err(failed)?;
        for (unit, rows) in self.units.iter().enumerate() {
            for (index, row) in rows.iter().enumerate() {
                let Some((pair, bit)) = chosen.get(&unit) else {
                    writer.write_record(row).map_err(failed)?;
                    continue;
                };
                let mut cells: Vec<&str> = row.iter().collect();
                let label = self.is_positive(row);
                for (column, (place, _)) in self.sensitive.iter().enumerate() {
                    cells[*place] = pair.cell((index, label), column, *bit);
                }
                writer.write_record(cells).map_err(failed)?;
            }
        }
        writer.flush().map_err(|error| failed(error.into()))
    }
}

fn place(header: &StringRecord, name: &str, path: &Path) -> Result<usize, AttributeError> {
    header
        .iter()
        .position(|cell| cell.trim() == name)
        .ok_or_else(|| AttributeError::Column { path: path.to_owned(), column: name.to_owned() })
}

/// Two values of a column as far apart as its schema lets them be.
fn far_apart(column: &Column, canary: usize) -> [String; 2] {
    let slots = |count: usize| [canary % count, (canary + count / 2) % count];
    match (&column.kind, column.effective_transform()) {
        (Some(ColumnKind::Categorical { vocabulary }), _) if vocabulary.len() > 1 => {
            slots(vocabulary.len()).map(|word| vocabulary[word].clone())
        }
        (Some(ColumnKind::Continuous { range }), Transform::Bins { edges }) if !edges.is_empty() => {
            // A value of bin i: the edge that it starts with; of the first bin the lowest value.
            slots(edges.len() + 1).map(|bin| match bin {
                0 => range[0].to_string(),
                bin => edges[bin - 1].to_string(),
            })
        }
        (Some(ColumnKind::Continuous { range }), _) => range.map(|end| end.to_string()),
        _ if canary.is_multiple_of(2) => ["0".to_owned(), "1".to_owned()],
        _ => ["1".to_owned(), "0".to_owned()],
    }
}

#[cfg(test)]
mod tests;
