//! How the public and the private part combine.

use std::fmt;

use fusiondp_learn::model::PrivateLoss;
use serde::{Deserialize, Serialize};

use super::StudyError;
use super::range::{Check, out_of_range, positive, within};

/// The `[fusion]` section.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fusion {
    /// The named combination of public and private part.
    pub mode: Mode,
    /// Loss of the private part; without it the mode's own: `direct` for `dp-sgd` and `naive-fusion`, else `difference`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_loss: Option<PrivateLoss>,
    /// Weight of the private gradient (alpha), finite, > 0; 1 makes the sum unbiased.
    #[serde(default = "one")]
    pub calibration_weight: f64,
    /// Weight of the distance between the representations of both views (beta), finite, >= 0.
    #[serde(default)]
    pub consistency_weight: f64,
    /// Public scale of that distance (c_h), finite, > 0, in units of the last hidden layer.
    #[serde(default = "one")]
    pub representation_scale: f64,
    /// Clips the difference of the representations at `representation_scale`.
    #[serde(default)]
    pub representation_clip: bool,
    /// First rounds on the hybrid view alone, without privacy cost; below `training.rounds`.
    #[serde(default)]
    pub warmup_rounds: u32,
    /// In which rounds the public gradient moves the model.
    #[serde(default, skip_serializing_if = "PublicRounds::is_default")]
    pub public_rounds: PublicRounds,
    /// Number of recent public gradients (k) whose span the private gradient is projected onto before it is clipped and
    /// noised, 1 to 256 and at most `warmup_rounds`; without it, it is not projected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_directions: Option<u32>,
}

/// In which rounds sites send a public gradient, in a mode that has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PublicRounds {
    /// In all of them.
    #[default]
    All,
    /// In the warm-up rounds alone; those after them are DP-SGD.
    Warmup,
}

impl PublicRounds {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Named combinations: settings of one code path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Mode {
    /// Public gradient of the hybrid view, plus the private difference, with or without consistency.
    #[serde(rename = "fusiondp")]
    FusionDp,
    /// `fusiondp` without consistency.
    #[serde(rename = "calibrated")]
    Calibrated,
    /// Public gradient of the hybrid view, plus the private gradient of the true view, weighted: the plain sum that the
    /// calibrated difference corrects. A record counts in both.
    #[serde(rename = "naive-fusion")]
    NaiveFusion,
    /// `fusiondp` with declared noise in place of imputed values.
    #[serde(rename = "feature-dp")]
    FeatureDp,
    /// Private gradient of the true view alone, no public part.
    #[serde(rename = "dp-sgd")]
    DpSgd,
    /// Public gradient of the hybrid view alone: no private part, epsilon 0.
    #[serde(rename = "hybrid-only")]
    HybridOnly,
    /// Unprotected gradient of the true view: what privacy costs. Simulation only.
    #[serde(rename = "non-private")]
    NonPrivate,
}

impl Mode {
    /// Every mode.
    pub const ALL: [Mode; 7] = [
        Mode::FusionDp,
        Mode::Calibrated,
        Mode::NaiveFusion,
        Mode::FeatureDp,
        Mode::DpSgd,
        Mode::HybridOnly,
        Mode::NonPrivate,
    ];

    /// The name in a study document.
    pub const fn as_str(self) -> &'static str {
        match self {
            Mode::FusionDp => "fusiondp",
            Mode::Calibrated => "calibrated",
            Mode::NaiveFusion => "naive-fusion",
            Mode::FeatureDp => "feature-dp",
            Mode::DpSgd => "dp-sgd",
            Mode::HybridOnly => "hybrid-only",
            Mode::NonPrivate => "non-private",
        }
    }

    /// Whether sites send a gradient without noise, of the hybrid view (of the true view for `non-private`).
    pub const fn has_public_part(self) -> bool {
        !matches!(self, Mode::DpSgd)
    }

    /// Whether sites send a clipped and noised private sum, and charge for it.
    pub const fn has_private_part(self) -> bool {
        !matches!(self, Mode::HybridOnly | Mode::NonPrivate)
    }

    /// Whether the mode computes on a view whose sensitive cells are imputed or drawn.
    pub const fn has_hybrid_view(self) -> bool {
        !matches!(self, Mode::DpSgd | Mode::NonPrivate)
    }

    /// The private loss used when the study names none.
    const fn default_private_loss(self) -> PrivateLoss {
        match self {
            Mode::DpSgd | Mode::NaiveFusion => PrivateLoss::Direct,
            _ => PrivateLoss::Difference,
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

impl Fusion {
    /// Most directions of a projection.
    pub const MAX_DIRECTIONS: u32 = 256;

    /// Whether sites send a public gradient in a round with (`true`) or without a private part.
    pub const fn has_public_part(&self, private_part: bool) -> bool {
        self.mode.has_public_part() && (matches!(self.public_rounds, PublicRounds::All) || !private_part)
    }

    /// The private loss in force: as given, else the mode's own.
    pub fn private_loss(&self) -> PrivateLoss {
        self.private_loss.unwrap_or(self.mode.default_private_loss())
    }
}

impl Fusion {
    pub(super) fn validate(&self) -> Check {
        positive("fusion.calibration_weight", self.calibration_weight)?;
        positive("fusion.representation_scale", self.representation_scale)?;
        let weight = self.consistency_weight;
        if !(weight.is_finite() && weight >= 0.0) {
            return Err(out_of_range("fusion.consistency_weight", weight, "a finite number, at least 0"));
        }
        self.validate_phases()?;
        match (self.mode, self.private_loss) {
            (Mode::Calibrated, _) if weight > 0.0 => {
                return Err(StudyError::CalibratedWithConsistency { weight });
            }
            (mode @ Mode::Calibrated, Some(PrivateLoss::Direct)) => {
                return Err(StudyError::PrivateLossOfMode { mode, loss: "direct" });
            }
            (mode @ (Mode::DpSgd | Mode::NaiveFusion), Some(PrivateLoss::Difference)) => {
                return Err(StudyError::PrivateLossOfMode { mode, loss: "difference" });
            }
            _ => {}
        }
        if self.private_loss() == PrivateLoss::Direct && weight > 0.0 {
            return Err(StudyError::DirectWithConsistency { weight });
        }
        Ok(())
    }
}

impl Fusion {
    /// Rounds of one part alone need rounds of the other, and the loss that stands on its own.
    fn validate_phases(&self) -> Check {
        if let Some(directions) = self.private_directions {
            within("fusion.private_directions", directions, 1..=Self::MAX_DIRECTIONS, "1 to 256")?;
            if !(self.mode.has_public_part() && self.mode.has_private_part()) {
                return Err(StudyError::DirectionsMode { mode: self.mode });
            }
            if directions > self.warmup_rounds {
                return Err(StudyError::DirectionsWarmup { directions, warmup: self.warmup_rounds });
            }
        }
        if self.public_rounds == PublicRounds::All {
            return Ok(());
        }
        if self.warmup_rounds == 0 || !(self.mode.has_public_part() && self.mode.has_private_part()) {
            return Err(StudyError::PhasesMissing { mode: self.mode });
        }
        match self.private_loss() {
            PrivateLoss::Direct => Ok(()),
            PrivateLoss::Difference => Err(StudyError::PhaseLoss),
        }
    }
}

fn one() -> f64 {
    1.0
}
