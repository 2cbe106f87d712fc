//! A fitted imputer.

use ndarray::ArrayView2;

use super::{FeatureQuality, Head, HeadKind, ImputerError, imputed_column, quality};
use crate::{
    encode::Encoder,
    network::{Mlp, Tape},
    schema::{Column, Schema},
    table::{ImputedFeatures, PublicFeatures, SensitiveFeatures},
};

/// Records per forward pass.
const BLOCK: usize = 4096;

/// One network that imputes all sensitive features of a schema from its public ones.
#[derive(Clone)]
pub struct ImputerNetwork {
    pub(super) schema: Schema,
    pub(super) encoder: Encoder,
    pub(super) heads: Vec<Head>,
    pub(super) network: Mlp,
    pub(super) params: Vec<f32>,
    pub(super) quality: Vec<FeatureQuality>,
}

impl ImputerNetwork {
    /// Imputes every sensitive feature of N records.
    ///
    /// # Errors
    /// The table is of another schema, or an output is not finite.
    pub fn impute(&self, public: &PublicFeatures) -> Result<ImputedFeatures, ImputerError> {
        let scores = self.scores(public)?;
        let columns =
            self.schema.sensitive().zip(&scores).zip(&self.heads).map(|((column, scores), head)| {
                imputed_column(column, scores, head.range.len())
                    .map_err(|source| ImputerError::Output { column: column.name.clone(), source })
            });
        Ok(ImputedFeatures::new(&self.schema, columns.collect::<Result<_, _>>()?)?)
    }

    /// How well held-out support cells were predicted, per sensitive feature in schema order.
    pub fn quality(&self) -> &[FeatureQuality] {
        &self.quality
    }

    /// The schema it was fitted for.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// Number of parameters.
    pub fn parameters(&self) -> usize {
        self.params.len()
    }

    pub(crate) fn encoder(&self) -> &Encoder {
        &self.encoder
    }

    pub(crate) fn heads(&self) -> &[Head] {
        &self.heads
    }

    pub(crate) fn network(&self) -> (&Mlp, &[f32]) {
        (&self.network, &self.params)
    }

    /// Scores under the imputer contract, per sensitive feature `[N, width]` row-major.
    pub(super) fn scores(&self, public: &PublicFeatures) -> Result<Vec<Vec<f32>>, ImputerError> {
        let input = self.encoder.public_only(public)?;
        let mut scores: Vec<Vec<f32>> = self.heads.iter().map(|_| Vec::new()).collect();
        let mut tape = Tape::default();
        for start in (0..input.nrows()).step_by(BLOCK) {
            let block = input.slice_axis(ndarray::Axis(0), (start..input.nrows().min(start + BLOCK)).into());
            let output = self.network.forward(&self.params, block, None, &mut tape)?;
            self.append_scores(output, &mut scores);
        }
        Ok(scores)
    }

    fn append_scores(&self, output: ArrayView2<'_, f32>, scores: &mut [Vec<f32>]) {
        for row in output.rows() {
            let row = row.to_vec();
            for (head, scores) in self.heads.iter().zip(scores.iter_mut()) {
                let start = scores.len();
                scores.resize(start + head.range.len(), 0.0);
                head.scores(&row[head.range.clone()], &mut scores[start..]);
            }
        }
    }

    /// Measures the network on records it was not fitted on.
    pub(super) fn assess(
        &mut self,
        public: &PublicFeatures,
        sensitive: &SensitiveFeatures,
    ) -> Result<(), ImputerError> {
        let scores = self.scores(public)?;
        let columns = self.schema.sensitive().zip(&self.heads).zip(&scores).enumerate();
        self.quality = columns
            .map(|(index, ((column, head), scores))| assess(column, head, scores, sensitive.column(index)))
            .collect::<Result<_, _>>()?;
        Ok(())
    }
}

fn assess(
    column: &Column,
    head: &Head,
    scores: &[f32],
    cells: &[f32],
) -> Result<FeatureQuality, ImputerError> {
    let width = head.range.len();
    let present: Vec<usize> = (0..cells.len()).filter(|&row| !cells[row].is_nan()).collect();
    let actual: Vec<f32> = present.iter().map(|&row| cells[row]).collect();
    let values = imputed_column(column, scores, width)
        .map_err(|source| ImputerError::Output { column: column.name.clone(), source })?;
    let predicted = |values: &[f32]| -> Vec<f32> { present.iter().map(|&row| values[row]).collect() };
    let quality = match head.kind {
        HeadKind::Value(_) => quality::regression(&predicted(&values), &actual),
        HeadKind::Logit => quality::binary(&predicted(scores), &actual),
        HeadKind::Words => quality::categorical(&predicted(&values), &actual),
    };
    Ok(FeatureQuality { feature: column.name.clone(), cells: actual.len(), quality })
}
