//! From a cell, text or typed, to its number.

use std::borrow::Cow;

use thiserror::Error;

use super::{Column, ColumnKind, MissingPolicy, OutOfRange, Role};

/// Texts that stand for a missing cell, unless the column's vocabulary holds the same word.
const MISSING_TEXTS: [&str; 4] = ["", "NA", "NaN", "nan"];

/// Why a cell was refused. Never holds the cell's text: the reader adds file, row and column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum CellProblem {
    /// Empty where the schema refuses it.
    #[error("the cell is empty; fill it, or declare missing = \"allow\" for this column")]
    Missing,
    /// Not a finite number.
    #[error(
        "the cell is not a finite number; write digits with a decimal point, or leave it empty if missing"
    )]
    NotANumber,
    /// A number outside the declared range.
    #[error(
        "the value is outside the declared range; correct it, widen range, or declare out_of_range = \"clip\""
    )]
    OutOfRange,
    /// Neither 0 nor 1.
    #[error("the value is neither 0 nor 1; correct it, or declare the column continuous or categorical")]
    NotBinary,
    /// A word that the vocabulary does not hold.
    #[error(
        "the word is not in the declared vocabulary; correct it, extend vocabulary, or declare out_of_range = \"clip\" \
         to treat it as missing"
    )]
    UnknownWord,
    /// The column is the unit id, which is text.
    #[error("the column holds unit ids, which have no numeric value; read it as text")]
    UnitId,
}

/// A cell as a file holds it. No `Debug`: it may be a patient's value.
#[derive(Clone, Copy)]
pub enum Value<'a> {
    /// No value at all, such as a null.
    Missing,
    /// Text, read as a cell of a text file is.
    Text(&'a str),
    /// A whole number of any width; of a categorical column, the word of its digits.
    Integer(i128),
    /// A floating-point number, missing if NaN; of a categorical column, the word of its shortest decimal digits.
    Number(f64),
}

impl Column {
    /// The number that a cell stands for: of text as [`Column::parse`] reads it, of a typed value as its decimal digits
    /// would be read.
    ///
    /// # Errors
    /// [`CellProblem`], which never quotes the value.
    pub fn read(&self, value: Value<'_>) -> Result<f32, CellProblem> {
        let kind = self.kind.as_ref().ok_or(CellProblem::UnitId)?;
        match kind.number_or_text(value) {
            Ok(number) => kind.bounded(number, self.out_of_range),
            Err(text) => self.parse(&text),
        }
    }

    /// The number that a cell of a sensitive column is read as, whatever it holds, and whether it was mended; see
    /// [`Column::parse_total`].
    pub fn read_total(&self, value: Value<'_>) -> (f32, bool) {
        let Some(kind) = &self.kind else { return (f32::NAN, true) };
        match kind.number_or_text(value) {
            Ok(number) => match kind.bounded(number, self.out_of_range) {
                Ok(cell) => (cell, false),
                Err(_) => (kind.bounded(number, OutOfRange::Clip).unwrap_or(f32::NAN), true),
            },
            Err(text) => self.parse_total(&text),
        }
    }

    /// The number that a cell's text stands for: the value, 0 or 1, or the index of the word; NaN if missing. For
    /// a categorical label, 1 for the positive word and 0 for the others.
    ///
    /// # Errors
    /// [`CellProblem`], which never quotes the text.
    pub fn parse(&self, text: &str) -> Result<f32, CellProblem> {
        let kind = self.kind.as_ref().ok_or(CellProblem::UnitId)?;
        let text = text.trim();
        if MISSING_TEXTS.contains(&text) && !kind.has_word(text) {
            return self.missing_cell();
        }
        match kind.parse(text, self.out_of_range)? {
            Some(cell) if self.role == Role::Label => Ok(self.label_value(kind, cell)),
            Some(cell) => Ok(cell),
            None => self.missing_cell(),
        }
    }

    /// The number that a cell of a sensitive column is read as, whatever it holds: a number outside the range moves to
    /// the nearer end, and what is no value of the column counts as missing. True when the cell was mended that way.
    ///
    /// A cell that is refused tells whoever wrote the schema something about the value, and nothing pays for that.
    /// Errors of [`Column::parse`] on sensitive columns are therefore for the eyes of the data's owner alone; everything
    /// whose outcome others can see reads with this.
    pub fn parse_total(&self, text: &str) -> (f32, bool) {
        if let Ok(cell) = self.parse(text) {
            return (cell, false);
        }
        let clipped =
            self.kind.as_ref().and_then(|kind| kind.parse(text.trim(), OutOfRange::Clip).ok().flatten());
        (clipped.unwrap_or(f32::NAN), true)
    }

    /// Whether a stored number is one that [`Column::parse`] can return for this column.
    pub(crate) fn admits(&self, cell: f32) -> bool {
        match &self.kind {
            None => false,
            Some(_) if cell.is_nan() => self.missing_policy() == MissingPolicy::Allow,
            Some(kind) => kind.admits(cell),
        }
    }

    fn missing_cell(&self) -> Result<f32, CellProblem> {
        match self.missing_policy() {
            MissingPolicy::Allow => Ok(f32::NAN),
            MissingPolicy::Refuse => Err(CellProblem::Missing),
        }
    }

    fn label_value(&self, kind: &ColumnKind, cell: f32) -> f32 {
        match (kind, &self.positive) {
            (ColumnKind::Categorical { vocabulary }, Some(positive)) => {
                let hit = vocabulary.get(cell as usize).is_some_and(|word| word == positive);
                f32::from(u8::from(hit))
            }
            _ => cell,
        }
    }
}

impl ColumnKind {
    /// Parses a cell that is not missing. `None`: an unknown word that counts as missing under
    /// [`OutOfRange::Clip`].
    ///
    /// # Errors
    /// [`CellProblem`], which never quotes the text.
    pub fn parse(&self, text: &str, out_of_range: OutOfRange) -> Result<Option<f32>, CellProblem> {
        match self {
            ColumnKind::Continuous { .. } | ColumnKind::Binary {} => {
                let number = text.parse().map_err(|_| CellProblem::NotANumber)?;
                self.bounded(number, out_of_range).map(Some)
            }
            ColumnKind::Categorical { vocabulary } => {
                match (vocabulary.iter().position(|word| word == text), out_of_range) {
                    (Some(index), _) => Ok(Some(index as f32)),
                    (None, OutOfRange::Clip) => Ok(None),
                    (None, OutOfRange::Refuse) => Err(CellProblem::UnknownWord),
                }
            }
        }
    }

    /// A typed value as a number, or as the text that is read in its place: what is missing, and of a categorical column
    /// every value.
    fn number_or_text<'a>(&self, value: Value<'a>) -> Result<f64, Cow<'a, str>> {
        let words = matches!(self, ColumnKind::Categorical { .. });
        match value {
            Value::Missing => Err(Cow::Borrowed("")),
            Value::Text(text) => Err(Cow::Borrowed(text)),
            Value::Number(number) if number.is_nan() => Err(Cow::Borrowed("NaN")),
            Value::Integer(number) if words => Err(Cow::Owned(number.to_string())),
            Value::Number(number) if words => Err(Cow::Owned(number.to_string())),
            Value::Integer(number) => Ok(number as f64),
            Value::Number(number) => Ok(number),
        }
    }

    /// A number within what the column may hold.
    fn bounded(&self, number: f64, out_of_range: OutOfRange) -> Result<f32, CellProblem> {
        if !number.is_finite() {
            return Err(CellProblem::NotANumber);
        }
        match (self, out_of_range) {
            (ColumnKind::Continuous { range: [low, high] }, OutOfRange::Clip) => {
                Ok(number.clamp(*low, *high) as f32)
            }
            (ColumnKind::Continuous { range: [low, high] }, OutOfRange::Refuse) => {
                if (*low..=*high).contains(&number) {
                    Ok(number as f32)
                } else {
                    Err(CellProblem::OutOfRange)
                }
            }
            (ColumnKind::Binary {}, _) if number == 0.0 => Ok(0.0),
            (ColumnKind::Binary {}, _) if number == 1.0 => Ok(1.0),
            (ColumnKind::Binary {}, _) => Err(CellProblem::NotBinary),
            (ColumnKind::Categorical { .. }, _) => Err(CellProblem::UnknownWord),
        }
    }

    fn has_word(&self, text: &str) -> bool {
        matches!(self, ColumnKind::Categorical { vocabulary } if vocabulary.iter().any(|word| word == text))
    }

    /// Whether a number that is not NaN is a possible cell. Range ends are rounded to f32 as cells are.
    pub(crate) fn admits(&self, cell: f32) -> bool {
        match self {
            ColumnKind::Continuous { range: [low, high] } => (*low as f32..=*high as f32).contains(&cell),
            ColumnKind::Binary {} => cell == 0.0 || cell == 1.0,
            ColumnKind::Categorical { vocabulary } => {
                cell >= 0.0 && cell.fract() == 0.0 && cell < vocabulary.len() as f32
            }
        }
    }
}
