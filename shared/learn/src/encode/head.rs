//! Which bins of a split model's head a record falls into.

use std::collections::BTreeMap;

use ndarray::Array2;

use super::{ColumnCode, ColumnEncoder, EncodeError, require_discrete};
use crate::{
    model::{HeadColumn, HeadFeature},
    schema::Schema,
};

/// One sensitive column of a head.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct HeadSource {
    /// Place among the sensitive columns.
    pub(crate) sensitive: usize,
    /// Place among the public columns of the one that tells the groups apart.
    pub(crate) by: Option<usize>,
    /// Shape and weight.
    pub(crate) feature: HeadFeature,
}

impl HeadSource {
    /// The sensitive columns that a head has, in schema order.
    ///
    /// # Errors
    /// A sensitive column that is not discrete; a declared name that is no such column, a weight out of range, or none above 0.
    pub(super) fn of_schema(
        schema: &Schema,
        public: &[ColumnEncoder],
        sensitive: &[ColumnEncoder],
        declared: &BTreeMap<String, HeadColumn>,
    ) -> Result<Vec<Self>, EncodeError> {
        schema.sensitive().try_for_each(require_discrete)?;
        if let Some(name) = declared.keys().find(|name| sensitive.iter().all(|column| column.name() != *name))
        {
            return Err(EncodeError::HeadColumnUnknown { column: name.clone() });
        }
        let mut sources = Vec::with_capacity(sensitive.len());
        for (index, column) in sensitive.iter().enumerate() {
            let declared = declared.get(column.name()).cloned().unwrap_or_default();
            let source = Self::new(public, (index, column), &declared)?;
            // Of a column without weight nothing could be learned but noise.
            sources.extend(Some(source).filter(|source| source.feature.weight > 0.0));
        }
        if sources.is_empty() && !sensitive.is_empty() {
            return Err(EncodeError::HeadEmpty);
        }
        Ok(sources)
    }

    fn new(
        public: &[ColumnEncoder],
        (index, column): (usize, &ColumnEncoder),
        declared: &HeadColumn,
    ) -> Result<Self, EncodeError> {
        let weight = declared.weight as f32;
        // A weight that is no zero must not become one by rounding.
        if !(declared.weight == 0.0 || weight.is_normal() && weight > 0.0) {
            let (column, weight) = (column.name().to_owned(), declared.weight.to_string());
            return Err(EncodeError::HeadWeight { column, weight });
        }
        let by = declared.by.as_ref().map(|name| place(public, column, name)).transpose()?;
        let groups = by.map_or(1, |by| public[by].groups());
        let ordered = matches!(column.code(), ColumnCode::Bins { .. });
        let feature = HeadFeature { bins: column.width(), groups, weight, ordered };
        Ok(Self { sensitive: index, by, feature })
    }
}

fn place(public: &[ColumnEncoder], column: &ColumnEncoder, by: &str) -> Result<usize, EncodeError> {
    public
        .iter()
        .position(|public| public.name() == by)
        .ok_or_else(|| EncodeError::HeadGroup { column: column.name().to_owned(), by: by.to_owned() })
}

/// Writes the bin of each record and source to `bins`, `[N, S]`.
pub(super) fn write_bins(
    sources: &[HeadSource],
    (public, public_cells): (&[ColumnEncoder], &[&[f32]]),
    (sensitive, sensitive_cells): (&[ColumnEncoder], &[&[f32]]),
    bins: &mut Array2<u16>,
) {
    for (source, mut bins) in sources.iter().zip(bins.columns_mut()) {
        let column = &sensitive[source.sensitive];
        for (bin, &cell) in bins.iter_mut().zip(sensitive_cells[source.sensitive]) {
            *bin = column.slot(cell) as u16;
        }
        let Some(by) = source.by else { continue };
        for (bin, &cell) in bins.iter_mut().zip(public_cells[by]) {
            *bin += (source.feature.bins * public[by].group(cell)) as u16;
        }
    }
}
