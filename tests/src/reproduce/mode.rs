//! The modes by name: settings of one code path.

use std::fmt;
use std::str::FromStr;

use fusiondp_protocol::study::Mode;
use serde::{Deserialize, Serialize};

/// What is compared. Each is a study with other settings, never other code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Recipe {
    /// The study's own tower and additive sensitive head.
    Split,
    /// `split` whose head also learns from imputed values, which the private difference corrects.
    SplitHybrid,
    /// Hybrid gradient, private difference, consistency.
    #[serde(rename = "fusiondp")]
    FusionDp,
    /// `fusiondp` without consistency.
    Calibrated,
    /// `calibrated` on logistic regression: few weights, so little noise.
    CalibratedLinear,
    /// `fusiondp` whose first half of the rounds has no private part.
    WarmStart,
    /// Public columns alone first, then DP-SGD alone.
    TwoPhase,
    /// `calibrated` whose private gradient goes to some layers alone.
    Subset,
    /// `calibrated` whose private gradient goes to low-rank adapters.
    Adapters,
    /// `calibrated` whose private gradient is projected onto recent public ones.
    Projected,
    /// `two-phase` whose private gradient is projected onto the last public ones.
    ProjectedDpSgd,
    /// Hybrid gradient plus a weighted DP-SGD gradient.
    NaiveFusion,
    /// `fusiondp` with declared noise in place of imputed values.
    FeatureDp,
    /// Private gradient of the true view alone.
    DpSgd,
    /// Hybrid gradient alone.
    HybridOnly,
    /// Public columns alone: what can be had without touching a sensitive value.
    PublicOnly,
    /// True values without protection: what privacy costs.
    NonPrivate,
}

impl Recipe {
    /// Every recipe, in the order of tables.
    pub const ALL: [Recipe; 17] = [
        Recipe::Split,
        Recipe::SplitHybrid,
        Recipe::FusionDp,
        Recipe::Calibrated,
        Recipe::CalibratedLinear,
        Recipe::WarmStart,
        Recipe::TwoPhase,
        Recipe::Subset,
        Recipe::Adapters,
        Recipe::Projected,
        Recipe::ProjectedDpSgd,
        Recipe::NaiveFusion,
        Recipe::FeatureDp,
        Recipe::DpSgd,
        Recipe::HybridOnly,
        Recipe::PublicOnly,
        Recipe::NonPrivate,
    ];

    /// The name on the command line and in tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Recipe::Split => "split",
            Recipe::SplitHybrid => "split-hybrid",
            Recipe::FusionDp => "fusiondp",
            Recipe::Calibrated => "calibrated",
            Recipe::CalibratedLinear => "calibrated-linear",
            Recipe::WarmStart => "warm-start",
            Recipe::TwoPhase => "two-phase",
            Recipe::Subset => "subset",
            Recipe::Adapters => "adapters",
            Recipe::Projected => "projected",
            Recipe::ProjectedDpSgd => "projected-dp-sgd",
            Recipe::NaiveFusion => "naive-fusion",
            Recipe::FeatureDp => "feature-dp",
            Recipe::DpSgd => "dp-sgd",
            Recipe::HybridOnly => "hybrid-only",
            Recipe::PublicOnly => "public-only",
            Recipe::NonPrivate => "non-private",
        }
    }

    /// The study's mode.
    pub const fn mode(self) -> Mode {
        match self {
            Recipe::Split | Recipe::SplitHybrid | Recipe::FusionDp | Recipe::WarmStart => Mode::FusionDp,
            // The second phase is DP-SGD; a study whose mode has that name has no first one.
            Recipe::TwoPhase | Recipe::ProjectedDpSgd => Mode::FusionDp,
            Recipe::Calibrated | Recipe::CalibratedLinear => Mode::Calibrated,
            Recipe::Subset | Recipe::Adapters | Recipe::Projected => Mode::Calibrated,
            Recipe::NaiveFusion => Mode::NaiveFusion,
            Recipe::FeatureDp => Mode::FeatureDp,
            Recipe::DpSgd => Mode::DpSgd,
            // The tower of a split model reads public columns alone, and its head stays at zero.
            Recipe::HybridOnly | Recipe::PublicOnly => Mode::HybridOnly,
            Recipe::NonPrivate => Mode::NonPrivate,
        }
    }

    /// Whether noised sums leave the sites, so that a run has a target.
    pub const fn is_noised(self) -> bool {
        self.mode().has_private_part()
    }

    /// Whether the public part of a network sees public columns alone.
    pub const fn redacts(self) -> bool {
        matches!(self, Recipe::TwoPhase | Recipe::ProjectedDpSgd)
    }

    /// Whether a run depends on an imputer that may be chosen.
    pub const fn reads_imputed_values(self) -> bool {
        match self {
            Recipe::Split | Recipe::FeatureDp | Recipe::PublicOnly => false,
            _ if self.redacts() => false,
            _ => self.mode().has_hybrid_view(),
        }
    }
}

impl fmt::Display for Recipe {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

impl FromStr for Recipe {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        named(text, "mode", Self::ALL, Self::as_str)
    }
}

/// Where imputed values come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImputerName {
    /// The same declared constant for everybody: no imputation.
    Constant,
    /// Uniform draws from declared ranges.
    DeclaredNoise,
    /// The project's own network, fitted on `support.csv`.
    Network,
    /// Boosted trees fitted on `support.csv` by `deploy/imputers/fit_boosting.py`.
    Boosting,
    /// The file of imputed values beside the training data, `train_imputed*.csv`; by TabPFN in the shared data.
    File,
}

impl ImputerName {
    /// Every imputer, the least informed first.
    pub const ALL: [ImputerName; 5] = [
        ImputerName::Constant,
        ImputerName::DeclaredNoise,
        ImputerName::Network,
        ImputerName::Boosting,
        ImputerName::File,
    ];

    /// The name on the command line and in tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            ImputerName::Constant => "constant",
            ImputerName::DeclaredNoise => "declared-noise",
            ImputerName::Network => "network",
            ImputerName::Boosting => "boosting",
            ImputerName::File => "file",
        }
    }
}

impl fmt::Display for ImputerName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

impl FromStr for ImputerName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        named(text, "imputer", Self::ALL, Self::as_str)
    }
}

/// The data sets that settings are declared for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DataName {
    /// Sepsis in the setting of the FusionDP authors: pooled, their scaling, network, optimizer and noise.
    SepsisAuthors,
    /// Sepsis at many sites, preprocessing declared.
    Sepsis,
    /// Bank Marketing at many sites.
    Bank,
}

impl DataName {
    /// Every data set.
    pub const ALL: [DataName; 3] = [DataName::SepsisAuthors, DataName::Sepsis, DataName::Bank];

    /// The name on the command line, in settings and tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            DataName::SepsisAuthors => "sepsis-authors",
            DataName::Sepsis => "sepsis",
            DataName::Bank => "bank",
        }
    }
}

impl fmt::Display for DataName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

impl FromStr for DataName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        named(text, "data set", Self::ALL, Self::as_str)
    }
}

fn named<T: Copy, const N: usize>(
    text: &str,
    what: &str,
    all: [T; N],
    name: fn(T) -> &'static str,
) -> Result<T, String> {
    let found = all.into_iter().find(|&value| name(value) == text);
    found.ok_or_else(|| format!("no {what} {text:?}; there are {}", all.map(name).join(", ")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_are_read_and_written_alike() {
        for recipe in Recipe::ALL {
            assert_eq!(recipe.to_string().parse::<Recipe>().unwrap(), recipe);
            assert_eq!(serde_json::to_string(&recipe).unwrap(), format!("\"{recipe}\""));
        }
        for imputer in ImputerName::ALL {
            assert_eq!(imputer.to_string().parse::<ImputerName>().unwrap(), imputer);
            assert_eq!(serde_json::to_string(&imputer).unwrap(), format!("\"{imputer}\""));
        }
        for data in DataName::ALL {
            assert_eq!(data.to_string().parse::<DataName>().unwrap(), data);
            assert_eq!(serde_json::to_string(&data).unwrap(), format!("\"{data}\""));
        }
        assert!("fusion".parse::<Recipe>().unwrap_err().contains("fusiondp"));
    }

    #[test]
    fn every_study_mode_has_a_recipe() {
        for mode in Mode::ALL {
            assert!(Recipe::ALL.iter().any(|recipe| recipe.mode() == mode), "{mode}");
        }
    }
}
