//! The scale on which a continuous feature is regressed.

use crate::schema::Transform;

/// A monotone map from a value to a number of order one. It follows from the schema alone: a transform says where the
/// feature varies, and regression should spend its accuracy there.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Target {
    /// `(x - center) / scale`.
    Affine {
        /// Subtracted first.
        center: f32,
        /// Divided by.
        scale: f32,
    },
    /// `(sign(x) ln(1 + |x|) - center) / scale`.
    SignedLog {
        /// Subtracted from the logarithm.
        center: f32,
        /// Divided by.
        scale: f32,
    },
    /// Piecewise linear between the ends of the range and the bin edges, equal length for every bin, on `[-2, 2]`.
    Knots(Vec<f32>),
}

impl Target {
    /// For a continuous column of that range and transform.
    pub(crate) fn new([low, high]: [f64; 2], transform: &Transform) -> Self {
        match transform {
            Transform::Scale { center, scale, .. } => {
                Target::Affine { center: *center as f32, scale: *scale as f32 }
            }
            Transform::SignedLog { center, scale, .. } => {
                Target::SignedLog { center: *center as f32, scale: *scale as f32 }
            }
            Transform::Bins { edges } => {
                let mut knots: Vec<f32> =
                    [&[low], edges.as_slice(), &[high]].concat().iter().map(|&k| k as f32).collect();
                knots.dedup();
                Target::Knots(knots)
            }
            Transform::Identity {} | Transform::OneHot {} => {
                Target::Affine { center: ((low + high) / 2.0) as f32, scale: ((high - low) / 4.0) as f32 }
            }
        }
    }

    /// The regression target of a value within the range.
    pub(crate) fn of(&self, value: f32) -> f32 {
        match self {
            Target::Affine { center, scale } => (value - center) / scale,
            Target::SignedLog { center, scale } => {
                (libm::log1pf(value.abs()).copysign(value) - center) / scale
            }
            Target::Knots(knots) => {
                let filled: f32 =
                    knots.windows(2).map(|k| ((value - k[0]) / (k[1] - k[0])).clamp(0.0, 1.0)).sum();
                let (center, scale) = knot_units(knots);
                (filled - center) / scale
            }
        }
    }

    /// The value of a prediction, not yet clipped to the range.
    pub(crate) fn value(&self, target: f32) -> f32 {
        match self {
            Target::Affine { center, scale } => target * scale + center,
            Target::SignedLog { center, scale } => {
                let log = target * scale + center;
                (libm::expf(log.abs()) - 1.0).copysign(log)
            }
            Target::Knots(knots) => {
                let (center, scale) = knot_units(knots);
                let filled = target * scale + center;
                let steps = knots.windows(2).enumerate();
                let rise: f32 = steps.map(|(i, k)| (filled - i as f32).clamp(0.0, 1.0) * (k[1] - k[0])).sum();
                knots[0] + rise
            }
        }
    }
}

/// Center and scale of the number of bins filled, 0 to K.
pub(crate) fn knot_units(knots: &[f32]) -> (f32, f32) {
    let bins = (knots.len() - 1) as f32;
    (bins / 2.0, bins / 4.0)
}
