//! Which types fit a column of the schema, and their cells.

use std::fmt::Write as _;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type,
    UInt64Type,
};
use arrow_array::{Array, ArrayRef, ArrowPrimitiveType, StringArray};
use arrow_schema::DataType;
use fusiondp_learn::schema::{Column, ColumnKind, Value};

/// Cells of one column of a batch. No `Debug`: they are patients' values.
pub(super) enum Cells {
    /// Nulls, all of them.
    Missing,
    /// Whole numbers; a boolean is 0 or 1.
    Integers(Vec<Option<i128>>),
    /// Floating-point numbers.
    Numbers(Vec<Option<f64>>),
    /// Text.
    Texts(StringArray),
}

impl Cells {
    /// `None` for a type that [`misfit`] refuses for every column.
    pub(super) fn of(array: &ArrayRef) -> Option<Self> {
        Some(match array.data_type() {
            DataType::Null => Self::Missing,
            DataType::Boolean => {
                let cells = array.as_boolean_opt()?.iter();
                Self::Integers(cells.map(|cell| cell.map(i128::from)).collect())
            }
            DataType::Int8 => integers::<Int8Type>(array)?,
            DataType::Int16 => integers::<Int16Type>(array)?,
            DataType::Int32 => integers::<Int32Type>(array)?,
            DataType::Int64 => integers::<Int64Type>(array)?,
            DataType::UInt8 => integers::<UInt8Type>(array)?,
            DataType::UInt16 => integers::<UInt16Type>(array)?,
            DataType::UInt32 => integers::<UInt32Type>(array)?,
            DataType::UInt64 => integers::<UInt64Type>(array)?,
            DataType::Float32 => {
                let mut digits = String::new();
                let cells = array.as_primitive_opt::<Float32Type>()?.iter();
                Self::Numbers(cells.map(|cell| cell.map(|cell| of_single(cell, &mut digits))).collect())
            }
            DataType::Float64 => Self::Numbers(array.as_primitive_opt::<Float64Type>()?.iter().collect()),
            DataType::Utf8 => Self::Texts(array.as_string_opt::<i32>()?.clone()),
            _ => return None,
        })
    }

    /// The cell of one row of the batch; missing beyond the last.
    pub(super) fn value(&self, row: usize) -> Value<'_> {
        match self {
            Self::Missing => Value::Missing,
            Self::Integers(cells) => cells.get(row).copied().flatten().map_or(Value::Missing, Value::Integer),
            Self::Numbers(cells) => cells.get(row).copied().flatten().map_or(Value::Missing, Value::Number),
            Self::Texts(cells) if row < cells.len() && cells.is_valid(row) => Value::Text(cells.value(row)),
            Self::Texts(_) => Value::Missing,
        }
    }
}

fn integers<T>(array: &ArrayRef) -> Option<Cells>
where
    T: ArrowPrimitiveType,
    T::Native: Into<i128>,
{
    let cells = array.as_primitive_opt::<T>()?.iter();
    Some(Cells::Integers(cells.map(|cell| cell.map(Into::into)).collect()))
}

/// The number that the shortest digits of a single-precision cell mean, as a text file would hold it: 0.1 is 0.1, and
/// so within a range that ends there, and not 0.100000001490116.
fn of_single(cell: f32, digits: &mut String) -> f64 {
    if cell.fract() == 0.0 || !cell.is_finite() {
        return f64::from(cell);
    }
    digits.clear();
    // Writing to a string does not fail.
    let _ = write!(digits, "{cell}");
    digits.parse().unwrap_or(f64::from(cell))
}

/// What the schema wants of a column and which types can be read as that, if this type cannot.
///
/// A type tells nothing of a single cell, as long as every type that exporters choose by looking at the cells is
/// accepted: text and nulls for any feature, and floating-point numbers for words of digits.
pub(super) fn misfit(column: &Column, found: &DataType) -> Option<(&'static str, &'static str)> {
    let found = match found {
        DataType::Dictionary(_, values) => values.as_ref(),
        plain => plain,
    };
    let text = matches!(found, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    let integer = found.is_integer();
    let float = matches!(found, DataType::Float32 | DataType::Float64);
    let open = text || *found == DataType::Null;
    let (fits, wanted, remedy) = match &column.kind {
        None => (integer || text, "a unit id", "text or a whole number"),
        Some(ColumnKind::Continuous { .. }) => {
            (integer || float || open, "a continuous column", "a float, a double, a whole number or text")
        }
        Some(ColumnKind::Binary {}) => {
            let fits = integer || float || open || *found == DataType::Boolean;
            (fits, "a binary column", "a boolean, a number that is 0 or 1, or text")
        }
        Some(ColumnKind::Categorical { .. }) => (
            integer || float || open,
            "a categorical column",
            "text, or a whole number where the words are digits",
        ),
    };
    (!fits).then_some((wanted, remedy))
}
