//! The additive sensitive head of a split model.

use ndarray::ArrayView2;

use super::{HeadFeature, InputShape, ModelError};
use crate::real::Real;

/// One parameter per bin of each sensitive feature; the logit gets those of a record's bins, each times its feature's weight.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    /// First parameter of each feature, counted from the start of the head.
    offsets: Vec<usize>,
    features: Vec<HeadFeature>,
}

impl Head {
    /// A head for the binned features of an input shape.
    pub(crate) fn new(shape: &InputShape) -> Result<Self, ModelError> {
        if shape.bins.is_empty() {
            return Err(ModelError::NoSensitiveFeature);
        }
        let mut offsets = Vec::with_capacity(shape.bins.len());
        let mut next = 0;
        for (feature, one) in shape.bins.iter().enumerate() {
            let (bins, weight) = (one.parameters(), one.weight);
            if !(1..=1 << 16).contains(&bins) {
                return Err(ModelError::BinCount { feature, bins });
            }
            if !(weight > 0.0 && weight.is_finite()) {
                return Err(ModelError::HeadWeight { feature, weight });
            }
            offsets.push(next);
            next += bins;
        }
        Ok(Self { offsets, features: shape.bins.clone() })
    }

    /// The features in schema order.
    pub(crate) fn features(&self) -> &[HeadFeature] {
        &self.features
    }

    /// Checks that every index names a bin of its feature.
    pub(crate) fn check(&self, bins: ArrayView2<'_, u16>) -> Result<(), ModelError> {
        for (row, indices) in bins.rows().into_iter().enumerate() {
            for (place, (&index, feature)) in indices.iter().zip(&self.features).enumerate() {
                if usize::from(index) >= feature.parameters() {
                    return Err(ModelError::Bin { row, feature: place });
                }
            }
        }
        Ok(())
    }

    /// Adds the weights of each row's bins to its logit.
    pub(crate) fn add_logits<F: Real>(&self, weights: &[F], bins: ArrayView2<'_, u16>, logits: &mut [F]) {
        for (logit, indices) in logits.iter_mut().zip(bins.rows()) {
            for ((&index, &offset), feature) in indices.iter().zip(&self.offsets).zip(&self.features) {
                *logit += F::of(feature.weight.into()) * weights[offset + usize::from(index)];
            }
        }
    }

    /// Adds `residual`, times its feature's weight, to the gradient of each parameter that a row's bins name.
    pub(crate) fn scatter<F: Real>(
        &self,
        indices: ndarray::ArrayView1<'_, u16>,
        residual: F,
        gradient: &mut [F],
    ) {
        for ((&index, &offset), feature) in indices.iter().zip(&self.offsets).zip(&self.features) {
            gradient[offset + usize::from(index)] += F::of(feature.weight.into()) * residual;
        }
    }
}
