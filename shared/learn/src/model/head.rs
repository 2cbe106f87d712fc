//! The additive sensitive head of a split model.

use ndarray::ArrayView2;

use super::{InputShape, ModelError};
use crate::real::Real;

/// One weight per bin of each sensitive feature, summed into the logit.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    /// First weight of each feature, counted from the start of the head.
    offsets: Vec<usize>,
    /// Number of bins of each feature.
    bins: Vec<usize>,
}

impl Head {
    /// A head for the binned features of an input shape.
    pub(crate) fn new(shape: &InputShape) -> Result<Self, ModelError> {
        if shape.bins.is_empty() {
            return Err(ModelError::NoSensitiveFeature);
        }
        let mut offsets = Vec::with_capacity(shape.bins.len());
        let mut next = 0;
        for (feature, &bins) in shape.bins.iter().enumerate() {
            if !(1..=1 << 16).contains(&bins) {
                return Err(ModelError::BinCount { feature, bins });
            }
            offsets.push(next);
            next += bins;
        }
        Ok(Self { offsets, bins: shape.bins.clone() })
    }

    /// Number of bins of each feature.
    pub(crate) fn bins(&self) -> &[usize] {
        &self.bins
    }

    /// Checks that every index names a bin of its feature.
    pub(crate) fn check(&self, bins: ArrayView2<'_, u16>) -> Result<(), ModelError> {
        for (row, indices) in bins.rows().into_iter().enumerate() {
            for (feature, (&index, &bins)) in indices.iter().zip(&self.bins).enumerate() {
                if usize::from(index) >= bins {
                    return Err(ModelError::Bin { row, feature });
                }
            }
        }
        Ok(())
    }

    /// Adds the weights of each row's bins to its logit.
    pub(crate) fn add_logits<F: Real>(&self, weights: &[F], bins: ArrayView2<'_, u16>, logits: &mut [F]) {
        for (logit, indices) in logits.iter_mut().zip(bins.rows()) {
            for (&index, &offset) in indices.iter().zip(&self.offsets) {
                *logit += weights[offset + usize::from(index)];
            }
        }
    }

    /// Adds `residual` to the gradient of each weight that a row's bins name.
    pub(crate) fn scatter<F: Real>(
        &self,
        indices: ndarray::ArrayView1<'_, u16>,
        residual: F,
        gradient: &mut [F],
    ) {
        for (&index, &offset) in indices.iter().zip(&self.offsets) {
            gradient[offset + usize::from(index)] += residual;
        }
    }
}
