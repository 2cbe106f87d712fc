//! From raw cells to model input.
//!
//! An [`Encoder`] is built once from a schema and a model. `linear` and `mlp` models read the public block followed
//! by the sensitive block as one dense row; `split` models read the public block densely and each sensitive feature
//! as the index of its bin.
//!
//! Cells are f32 and bin edges are rounded to f32 before any comparison, so an exported model, which compares in
//! f32, puts every value in the same bin.

mod column;
mod head;

pub(crate) use column::{BINARY_THRESHOLD, ColumnCode, ColumnEncoder, NumericMap};
pub(crate) use head::HeadSource;

use ndarray::{Array2, Axis, Slice};
use thiserror::Error;

use crate::{
    model::{InputShape, ModelSpec, View},
    schema::{Column, Schema, SchemaError},
    table::{ImputedFeatures, PublicFeatures, SensitiveFeatures},
};

/// Why a schema, a model and tables do not fit together.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EncodeError {
    /// The schema itself is invalid.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// A split model and a sensitive column without slots.
    #[error(
        "schema column \"{column}\", transform = \"{transform}\": a split model has one weight per bin of a sensitive \
         feature; declare transform = {{ type = \"bins\", edges = [...] }} for numbers or \"one-hot\" for 0/1 and \
         words, or use an mlp model"
    )]
    NotDiscrete {
        /// Name of the column.
        column: String,
        /// The transform as it is spelled.
        transform: &'static str,
    },
    /// A head weight that is none.
    #[error(
        "model.head.\"{column}\".weight is {weight}: it must be finite and at least 0, and 0 leaves the column out"
    )]
    HeadWeight {
        /// Name of the column.
        column: String,
        /// The value.
        weight: String,
    },
    /// A declaration for a column that the head does not have.
    #[error("model.head names \"{column}\", which is no sensitive column; correct the name or remove it")]
    HeadColumnUnknown {
        /// The name.
        column: String,
    },
    /// Groups by a column that is none of the public ones.
    #[error(
        "model.head.\"{column}\".by is \"{by}\", which is no public column: only public values may tell groups apart"
    )]
    HeadGroup {
        /// Name of the sensitive column.
        column: String,
        /// The name given.
        by: String,
    },
    /// A head without columns.
    #[error(
        "model.head gives every sensitive column the weight 0: give one of them a weight above 0, or use an mlp model"
    )]
    HeadEmpty,
    /// A table of another schema.
    #[error(
        "the {table} table has {found} columns, the encoder's schema {wanted}; build both from one schema"
    )]
    ColumnCount {
        /// `public`, `sensitive` or `imputed`.
        table: &'static str,
        /// Columns of the table.
        found: usize,
        /// Columns of the schema.
        wanted: usize,
    },
    /// Tables of different records.
    #[error(
        "the public table has {public} rows and the {table} table {found}; pass tables of the same records"
    )]
    RowCount {
        /// `sensitive` or `imputed`.
        table: &'static str,
        /// Rows of the public table.
        public: usize,
        /// Rows of the other table.
        found: usize,
    },
}

/// Encodes tables of one schema for one kind of model.
#[derive(Debug, Clone, PartialEq)]
pub struct Encoder {
    public: Vec<ColumnEncoder>,
    sensitive: Vec<ColumnEncoder>,
    /// The columns of a split model's head; `None` for other models.
    head: Option<Vec<HeadSource>>,
}

impl Encoder {
    /// An encoder for a schema and a model.
    ///
    /// # Errors
    /// The schema is invalid, or a split model meets a sensitive column that is neither bins nor one-hot.
    pub fn new(schema: &Schema, spec: &ModelSpec) -> Result<Self, EncodeError> {
        schema.validate()?;
        let public: Vec<ColumnEncoder> = schema.public().map(ColumnEncoder::new).collect();
        let sensitive: Vec<ColumnEncoder> = schema.sensitive().map(ColumnEncoder::new).collect();
        let head = match spec {
            ModelSpec::Split { head, .. } => Some(HeadSource::of_schema(schema, &public, &sensitive, head)?),
            _ => None,
        };
        Ok(Self { public, sensitive, head })
    }

    /// Widths of the model input: dense D, and for a split model the bins of each feature of its head.
    pub fn input_shape(&self) -> InputShape {
        if let Some(head) = &self.head {
            let bins = head.iter().map(|source| source.feature).collect();
            return InputShape { dense: self.public_width(), bins };
        }
        InputShape { dense: self.public_width() + total_width(&self.sensitive), bins: Vec::new() }
    }

    /// Width of the public block Dp, which is also the input width of an imputer network.
    pub fn public_width(&self) -> usize {
        total_width(&self.public)
    }

    /// The real view of N records: public and true sensitive features.
    ///
    /// # Errors
    /// The tables do not fit the schema or each other.
    pub fn real(
        &self,
        public: &PublicFeatures,
        sensitive: &SensitiveFeatures,
    ) -> Result<View<f32>, EncodeError> {
        let cells: Vec<&[f32]> = (0..sensitive.columns()).map(|index| sensitive.column(index)).collect();
        self.view(public, "sensitive", sensitive.rows(), &cells)
    }

    /// The hybrid view of N records: public and imputed sensitive features.
    ///
    /// # Errors
    /// The tables do not fit the schema or each other.
    pub fn hybrid(
        &self,
        public: &PublicFeatures,
        imputed: &ImputedFeatures,
    ) -> Result<View<f32>, EncodeError> {
        let cells: Vec<&[f32]> = (0..imputed.columns()).map(|index| imputed.column(index)).collect();
        self.view(public, "imputed", imputed.rows(), &cells)
    }

    /// The public block alone, `[N, Dp]`.
    ///
    /// # Errors
    /// The table is of another schema.
    pub fn public_only(&self, public: &PublicFeatures) -> Result<Array2<f32>, EncodeError> {
        check_columns("public", public.columns(), self.public.len())?;
        let mut dense = Array2::zeros((public.rows(), self.public_width()));
        let cells: Vec<&[f32]> = (0..public.columns()).map(|index| public.column(index)).collect();
        write_block(&self.public, &cells, &mut dense, 0);
        Ok(dense)
    }

    /// Encoders of the public columns, in schema order.
    pub(crate) fn public_columns(&self) -> &[ColumnEncoder] {
        &self.public
    }

    /// Encoders of the sensitive columns, in schema order.
    pub(crate) fn sensitive_columns(&self) -> &[ColumnEncoder] {
        &self.sensitive
    }

    /// The columns of a split model's head; `None` where sensitive features are part of the dense block.
    pub(crate) fn head(&self) -> Option<&[HeadSource]> {
        self.head.as_deref()
    }

    fn view(
        &self,
        public: &PublicFeatures,
        table: &'static str,
        rows: usize,
        sensitive: &[&[f32]],
    ) -> Result<View<f32>, EncodeError> {
        check_columns("public", public.columns(), self.public.len())?;
        check_columns(table, sensitive.len(), self.sensitive.len())?;
        if !sensitive.is_empty() && rows != public.rows() {
            return Err(EncodeError::RowCount { table, public: public.rows(), found: rows });
        }
        let InputShape { dense, bins } = self.input_shape();
        let mut view = View {
            dense: Array2::zeros((public.rows(), dense)),
            bins: Array2::zeros((public.rows(), bins.len())),
        };
        let cells: Vec<&[f32]> = (0..public.columns()).map(|index| public.column(index)).collect();
        write_block(&self.public, &cells, &mut view.dense, 0);
        if let Some(head) = &self.head {
            let (public, sensitive) = ((&self.public[..], &cells[..]), (&self.sensitive[..], sensitive));
            head::write_bins(head, public, sensitive, &mut view.bins);
        } else {
            write_block(&self.sensitive, sensitive, &mut view.dense, self.public_width());
        }
        Ok(view)
    }
}

fn require_discrete(column: &Column) -> Result<(), EncodeError> {
    let transform = column.effective_transform();
    if transform.is_discrete() {
        return Ok(());
    }
    Err(EncodeError::NotDiscrete { column: column.name.clone(), transform: transform.name() })
}

fn check_columns(table: &'static str, found: usize, wanted: usize) -> Result<(), EncodeError> {
    if found == wanted { Ok(()) } else { Err(EncodeError::ColumnCount { table, found, wanted }) }
}

fn total_width(columns: &[ColumnEncoder]) -> usize {
    columns.iter().map(ColumnEncoder::width).sum()
}

fn write_block(columns: &[ColumnEncoder], cells: &[&[f32]], dense: &mut Array2<f32>, mut offset: usize) {
    for (column, cells) in columns.iter().zip(cells) {
        let width = column.width();
        let mut block = dense.slice_axis_mut(Axis(1), Slice::from(offset..offset + width));
        for (mut row, &cell) in block.rows_mut().into_iter().zip(*cells) {
            column.write(cell, &mut row);
        }
        offset += width;
    }
}
