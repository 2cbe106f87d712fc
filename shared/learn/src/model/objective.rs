//! The private loss of a privacy unit.

use serde::{Deserialize, Serialize};

use super::ModelError;

/// Which loss of a record is differentiated, clipped and noised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PrivateLoss {
    /// `loss(f(x), y) - loss(f(x_hyb), y) + beta ||h(x) - h(x_hyb)||^2 / c_h^2`: zero where the imputer is right.
    #[default]
    Difference,
    /// `loss(f(x), y)`.
    Direct,
}

/// The private loss and its public constants.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PrivateObjective {
    /// Which loss.
    pub loss: PrivateLoss,
    /// Weight beta of the squared distance between the hidden representations of both views; at least 0. Read by
    /// [`PrivateLoss::Difference`] only.
    pub consistency_weight: f64,
    /// Scale c_h of that distance; above 0, a public constant.
    pub representation_scale: f64,
    /// Whether the difference of the representations is clipped to norm c_h, so that its gradient is zero beyond.
    pub representation_clip: bool,
}

impl Default for PrivateObjective {
    /// The difference loss without a consistency term.
    fn default() -> Self {
        Self {
            loss: PrivateLoss::Difference,
            consistency_weight: 0.0,
            representation_scale: 1.0,
            representation_clip: false,
        }
    }
}

impl PrivateObjective {
    /// The loss of the real view alone, as in DP-SGD.
    pub fn direct() -> Self {
        Self { loss: PrivateLoss::Direct, ..Self::default() }
    }

    /// Checks the ranges of the constants.
    ///
    /// # Errors
    /// A negative or non-finite weight, or a scale that is not finite and positive.
    pub fn validate(&self) -> Result<(), ModelError> {
        let refuse = |field, value, range| Err(ModelError::Objective { field, value, range });
        if !(self.consistency_weight >= 0.0 && self.consistency_weight.is_finite()) {
            return refuse("consistency_weight", self.consistency_weight, "at least 0");
        }
        if !(self.representation_scale > 0.0 && self.representation_scale.is_finite()) {
            return refuse("representation_scale", self.representation_scale, "above 0");
        }
        Ok(())
    }

    /// Whether the difference of the hidden representations enters the loss.
    pub(crate) fn has_consistency(&self) -> bool {
        self.loss == PrivateLoss::Difference && self.consistency_weight > 0.0
    }

    /// Consistency term of a record and the factor of `h(x) - h(x_hyb)` in its derivative by `h(x)`, from the squared
    /// distance of both.
    pub(crate) fn consistency(&self, squared_distance: f64) -> (f64, f64) {
        let scale = self.representation_scale * self.representation_scale;
        // Beyond the clip the scaled-down difference has constant norm c_h.
        if self.representation_clip && squared_distance > scale {
            return (self.consistency_weight, 0.0);
        }
        (self.consistency_weight * squared_distance / scale, 2.0 * self.consistency_weight / scale)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_constants_outside_their_ranges() {
        let with = |weight, scale| PrivateObjective {
            consistency_weight: weight,
            representation_scale: scale,
            ..PrivateObjective::default()
        };
        assert!(with(0.5, 0.9).validate().is_ok());
        for (weight, scale) in
            [(-1.0, 1.0), (f64::NAN, 1.0), (f64::INFINITY, 1.0), (0.0, 0.0), (0.0, f64::NAN)]
        {
            assert!(with(weight, scale).validate().is_err(), "{weight} {scale}");
        }
    }

    #[test]
    fn a_clipped_distance_has_constant_loss_and_no_gradient() {
        let objective = PrivateObjective {
            consistency_weight: 0.5,
            representation_scale: 2.0,
            representation_clip: true,
            ..PrivateObjective::default()
        };
        assert_eq!(objective.consistency(1.0), (0.125, 0.25));
        assert_eq!(objective.consistency(4.1), (0.5, 0.0));
    }
}
