//! Raw cells of records, checked against the schema.
//!
//! A cell is one f32: the value of a continuous column, 0 or 1 of a binary one, the index of a categorical word; NaN
//! where missing. Tables are column-major and hold features of one role only, so that what reads public features
//! cannot reach sensitive ones. None has `Debug` or serialization: they hold patients' values.

use thiserror::Error;

use crate::schema::{Column, ColumnKind, Schema, Transform};

/// Why cells do not make a table. Names columns and rows, never a value.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TableError {
    /// The number of columns differs from the schema's.
    #[error(
        "{found} {table} columns given, the schema declares {wanted}; pass one per {table} column, in schema order"
    )]
    ColumnCount {
        /// `public` or `sensitive`.
        table: &'static str,
        /// Columns given.
        found: usize,
        /// Columns declared.
        wanted: usize,
    },
    /// Columns differ in length.
    #[error(
        "column \"{column}\" has {found} rows, the first column has {wanted}; pass columns of equal length"
    )]
    RowCount {
        /// Name of the column.
        column: String,
        /// Its rows.
        found: usize,
        /// Rows of the first column.
        wanted: usize,
    },
    /// A cell that the schema does not admit.
    #[error(
        "column \"{column}\", row {row} (from 0): the cell is missing or outside what the schema declares; parse cells \
         with Column::parse, and imputer output with imputed_value"
    )]
    Cell {
        /// Name of the column.
        column: String,
        /// Row, counted from 0.
        row: usize,
    },
    /// A label other than 0 and 1.
    #[error("label of row {row} (from 0) is neither 0 nor 1; parse labels with Column::parse")]
    Label {
        /// Row, counted from 0.
        row: usize,
    },
}

/// Public features of N records; all that an imputer sees.
#[derive(Clone)]
pub struct PublicFeatures(Cells);

/// True sensitive features of N records.
#[derive(Clone)]
pub struct SensitiveFeatures(Cells);

/// Imputed sensitive features of N records: a function of public features, and never missing.
#[derive(Clone)]
pub struct ImputedFeatures(Cells);

/// Labels of N records, each 0 or 1.
#[derive(Clone)]
pub struct Labels(Vec<f32>);

#[derive(Clone)]
struct Cells {
    rows: usize,
    columns: Vec<Vec<f32>>,
}

macro_rules! feature_table {
    ($table:ident) => {
        impl $table {
            /// Number of records N. A table of a schema without such columns has 0.
            pub fn rows(&self) -> usize {
                self.0.rows
            }

            /// Number of columns.
            pub fn columns(&self) -> usize {
                self.0.columns.len()
            }

            /// The cells of one column, `[N]`, columns counted in schema order; empty beyond the last.
            pub fn column(&self, index: usize) -> &[f32] {
                self.0.columns.get(index).map_or(&[], Vec::as_slice)
            }

            /// The records at `rows`, in that order; a row may repeat.
            ///
            /// # Panics
            /// If a row does not exist.
            pub fn select(&self, rows: &[usize]) -> Self {
                Self(self.0.select(rows))
            }
        }
    };
}

feature_table!(PublicFeatures);
feature_table!(SensitiveFeatures);
feature_table!(ImputedFeatures);

impl PublicFeatures {
    /// Takes one vector of cells per public column, in schema order.
    ///
    /// # Errors
    /// [`TableError`] for a wrong number of columns, unequal lengths, or a cell that the schema does not admit.
    pub fn new(schema: &Schema, columns: Vec<Vec<f32>>) -> Result<Self, TableError> {
        Cells::new("public", schema.public(), columns, Column::admits).map(Self)
    }
}

impl SensitiveFeatures {
    /// Takes one vector of cells per sensitive column, in schema order.
    ///
    /// # Errors
    /// [`TableError`] for a wrong number of columns, unequal lengths, or a cell that the schema does not admit.
    pub fn new(schema: &Schema, columns: Vec<Vec<f32>>) -> Result<Self, TableError> {
        Cells::new("sensitive", schema.sensitive(), columns, Column::admits).map(Self)
    }
}

impl ImputedFeatures {
    /// Takes one vector of cells per sensitive column, in schema order. A binary cell may be a probability where
    /// the transform is not one-hot.
    ///
    /// # Errors
    /// [`TableError`] for a wrong number of columns, unequal lengths, or a cell that is missing or outside its
    /// column's range or vocabulary.
    pub fn new(schema: &Schema, columns: Vec<Vec<f32>>) -> Result<Self, TableError> {
        Cells::new("sensitive", schema.sensitive(), columns, admits_imputed).map(Self)
    }
}

impl Labels {
    /// Takes one label per record.
    ///
    /// # Errors
    /// [`TableError::Label`] for a label other than 0 and 1.
    pub fn new(values: Vec<f32>) -> Result<Self, TableError> {
        match values.iter().position(|&value| value != 0.0 && value != 1.0) {
            Some(row) => Err(TableError::Label { row }),
            None => Ok(Self(values)),
        }
    }

    /// Labels by record, `[N]`, each 0 or 1.
    pub fn values(&self) -> &[f32] {
        &self.0
    }

    /// Number of records with label 1.
    pub fn positives(&self) -> usize {
        self.0.iter().filter(|&&value| value == 1.0).count()
    }

    /// The labels at `rows`, in that order; a row may repeat.
    ///
    /// # Panics
    /// If a row does not exist.
    pub fn select(&self, rows: &[usize]) -> Self {
        Self(rows.iter().map(|&row| self.0[row]).collect())
    }
}

impl Cells {
    fn new<'s>(
        table: &'static str,
        declared: impl Iterator<Item = &'s Column> + Clone,
        columns: Vec<Vec<f32>>,
        admits: fn(&Column, f32) -> bool,
    ) -> Result<Self, TableError> {
        let wanted = declared.clone().count();
        if columns.len() != wanted {
            return Err(TableError::ColumnCount { table, found: columns.len(), wanted });
        }
        let rows = columns.first().map_or(0, Vec::len);
        for (column, cells) in declared.zip(&columns) {
            check_column(column, cells, rows, admits)?;
        }
        Ok(Self { rows, columns })
    }

    fn select(&self, rows: &[usize]) -> Self {
        let pick = |cells: &Vec<f32>| rows.iter().map(|&row| cells[row]).collect();
        let columns: Vec<Vec<f32>> = self.columns.iter().map(pick).collect();
        Self { rows: columns.first().map_or(0, Vec::len), columns }
    }
}

fn check_column(
    column: &Column,
    cells: &[f32],
    rows: usize,
    admits: fn(&Column, f32) -> bool,
) -> Result<(), TableError> {
    if cells.len() != rows {
        return Err(TableError::RowCount { column: column.name.clone(), found: cells.len(), wanted: rows });
    }
    match cells.iter().position(|&cell| !admits(column, cell)) {
        Some(row) => Err(TableError::Cell { column: column.name.clone(), row }),
        None => Ok(()),
    }
}

fn admits_imputed(column: &Column, cell: f32) -> bool {
    match &column.kind {
        Some(ColumnKind::Binary {}) if !matches!(column.transform, Some(Transform::OneHot {})) => {
            (0.0..=1.0).contains(&cell)
        }
        Some(kind) => kind.admits(cell),
        None => false,
    }
}
