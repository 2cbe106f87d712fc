//! From raw cells to model input.
//!
//! An [`Encoder`] is built once from a schema and a model. `linear` and `mlp` models read the public block followed
//! by the sensitive block as one dense row; `split` models read the public block densely and each sensitive feature
//! as the index of its bin.
//!
//! Cells are f32 and bin edges are rounded to f32 before any comparison, so an exported model, which compares in
//! f32, puts every value in the same bin.

mod column;

pub(crate) use column::{BINARY_THRESHOLD, ColumnCode, ColumnEncoder, NumericMap};
use std::collections::BTreeMap;

use ndarray::{Array2, Axis, Slice};
use thiserror::Error;

use crate::{
    model::{HeadFeature, InputShape, ModelSpec, View},
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
    #[error("model.head_weights.\"{column}\" is {weight}: it must be finite and above 0")]
    HeadWeight {
        /// Name of the column.
        column: String,
        /// The value.
        weight: String,
    },
    /// A head weight of a column that the head does not have.
    #[error(
        "model.head_weights names \"{column}\", which is no sensitive column; correct the name or remove it"
    )]
    HeadWeightUnknown {
        /// The name.
        column: String,
    },
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
    /// The head's features of a split model; `None` for other models.
    head: Option<Vec<HeadFeature>>,
}

impl Encoder {
    /// An encoder for a schema and a model.
    ///
    /// # Errors
    /// The schema is invalid, or a split model meets a sensitive column that is neither bins nor one-hot.
    pub fn new(schema: &Schema, spec: &ModelSpec) -> Result<Self, EncodeError> {
        schema.validate()?;
        let sensitive: Vec<ColumnEncoder> = schema.sensitive().map(ColumnEncoder::new).collect();
        let head = match spec {
            ModelSpec::Split { head_weights, .. } => Some(head_features(schema, &sensitive, head_weights)?),
            _ => None,
        };
        Ok(Self { public: schema.public().map(ColumnEncoder::new).collect(), sensitive, head })
    }

    /// Widths of the model input: dense D, and for a split model the bins of each sensitive feature.
    pub fn input_shape(&self) -> InputShape {
        if let Some(bins) = &self.head {
            return InputShape { dense: self.public_width(), bins: bins.clone() };
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

    /// Whether sensitive features are bin indices rather than part of the dense block.
    pub(crate) fn is_split(&self) -> bool {
        self.head.is_some()
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
        if self.head.is_some() {
            write_bins(&self.sensitive, sensitive, &mut view.bins);
        } else {
            write_block(&self.sensitive, sensitive, &mut view.dense, self.public_width());
        }
        Ok(view)
    }
}

/// The sensitive columns as features of a head.
fn head_features(
    schema: &Schema,
    sensitive: &[ColumnEncoder],
    weights: &BTreeMap<String, f64>,
) -> Result<Vec<HeadFeature>, EncodeError> {
    schema.sensitive().try_for_each(require_discrete)?;
    if let Some(name) = weights.keys().find(|name| schema.sensitive().all(|column| column.name != **name)) {
        return Err(EncodeError::HeadWeightUnknown { column: name.clone() });
    }
    let feature = |column: &ColumnEncoder| {
        let weight = weights.get(column.name()).copied().unwrap_or(1.0);
        if !(weight > 0.0 && weight.is_finite()) {
            return Err(EncodeError::HeadWeight {
                column: column.name().to_owned(),
                weight: weight.to_string(),
            });
        }
        let ordered = matches!(column.code(), ColumnCode::Bins { .. });
        Ok(HeadFeature { bins: column.width(), weight: weight as f32, ordered })
    };
    sensitive.iter().map(feature).collect()
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

fn write_bins(columns: &[ColumnEncoder], cells: &[&[f32]], bins: &mut Array2<u16>) {
    for (index, (column, cells)) in columns.iter().zip(cells).enumerate() {
        for (bin, &cell) in bins.column_mut(index).iter_mut().zip(*cells) {
            *bin = column.slot(cell) as u16;
        }
    }
}
