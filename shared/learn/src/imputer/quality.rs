//! How well a fitted imputer predicts held-out cells.

use serde::{Deserialize, Serialize};

use crate::metrics;

/// Quality of one feature over held-out support records in which it is present.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FeatureQuality {
    /// Name of the column.
    pub feature: String,
    /// Held-out cells.
    pub cells: usize,
    /// The figures.
    pub quality: Quality,
}

/// Figures by kind of feature; a figure that does not exist, for lack of cells or of one class, is `None`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Quality {
    /// Continuous.
    Regression {
        /// Share of variance explained, <= 1; below 0 where the mean would do better.
        r2: Option<f64>,
        /// Mean absolute error in the unit of the column.
        mean_absolute_error: Option<f64>,
    },
    /// Binary.
    Binary {
        /// Area under the ROC curve.
        auroc: Option<f64>,
        /// Share of cells right at a threshold of one half.
        accuracy: Option<f64>,
    },
    /// Categorical.
    Categorical {
        /// Share of cells whose likeliest word is right.
        accuracy: Option<f64>,
    },
}

pub(super) fn regression(predicted: &[f32], actual: &[f32]) -> Quality {
    let count = actual.len() as f64;
    let mean = actual.iter().map(|&x| f64::from(x)).sum::<f64>() / count;
    let spread: f64 = actual.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum();
    let errors = || predicted.iter().zip(actual).map(|(&p, &x)| f64::from(p) - f64::from(x));
    let squared: f64 = errors().map(|error| error * error).sum();
    let absolute: f64 = errors().map(f64::abs).sum();
    Quality::Regression {
        r2: (spread > 0.0).then(|| 1.0 - squared / spread),
        mean_absolute_error: (count > 0.0).then(|| absolute / count),
    }
}

/// `probabilities` are of class 1.
pub(super) fn binary(probabilities: &[f32], actual: &[f32]) -> Quality {
    let predicted: Vec<f32> = probabilities.iter().map(|&p| f32::from(u8::from(p >= 0.5))).collect();
    Quality::Binary {
        auroc: metrics::auroc(probabilities, actual).ok(),
        accuracy: accuracy(&predicted, actual),
    }
}

pub(super) fn categorical(predicted: &[f32], actual: &[f32]) -> Quality {
    Quality::Categorical { accuracy: accuracy(predicted, actual) }
}

fn accuracy(predicted: &[f32], actual: &[f32]) -> Option<f64> {
    let right = predicted.iter().zip(actual).filter(|(p, x)| p == x).count();
    (!actual.is_empty()).then(|| right as f64 / actual.len() as f64)
}
