//! From the text of a cell to its number.

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

impl Column {
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
            ColumnKind::Continuous { range } => parse_number(text, *range, out_of_range).map(Some),
            ColumnKind::Binary {} => match number(text)? {
                0.0 => Ok(Some(0.0)),
                1.0 => Ok(Some(1.0)),
                _ => Err(CellProblem::NotBinary),
            },
            ColumnKind::Categorical { vocabulary } => {
                match (vocabulary.iter().position(|word| word == text), out_of_range) {
                    (Some(index), _) => Ok(Some(index as f32)),
                    (None, OutOfRange::Clip) => Ok(None),
                    (None, OutOfRange::Refuse) => Err(CellProblem::UnknownWord),
                }
            }
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

fn parse_number(text: &str, [low, high]: [f64; 2], out_of_range: OutOfRange) -> Result<f32, CellProblem> {
    let value = number(text)?;
    match out_of_range {
        OutOfRange::Clip => Ok(value.clamp(low, high) as f32),
        OutOfRange::Refuse if (low..=high).contains(&value) => Ok(value as f32),
        OutOfRange::Refuse => Err(CellProblem::OutOfRange),
    }
}

fn number(text: &str) -> Result<f64, CellProblem> {
    let value: f64 = text.parse().map_err(|_| CellProblem::NotANumber)?;
    if value.is_finite() { Ok(value) } else { Err(CellProblem::NotANumber) }
}
