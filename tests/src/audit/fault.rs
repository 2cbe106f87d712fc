//! Faults that are planted around the mechanisms, to show that the attack notices them.
//!
//! The product has no switch for any of them: each is made here, from outside, out of correct parts used wrongly.

use std::fmt;
use std::str::FromStr;

use fusiondp_dp::NeighboringRelation;
use serde::{Deserialize, Serialize};

/// A way to claim more privacy than there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// The noise has half of the deviation that is charged.
    HalfNoise,
    /// Contributions of four times the clip norm are not clipped.
    NoClipping,
    /// `replace` is claimed with the sensitivity of `zero_out`: of a sum C in place of 2C, of a table 1 in place of sqrt 2.
    HalfSensitivity,
    /// Sums are divided by the size that the secret sample happened to have.
    RealizedDivisor,
    /// Two rounds share their noise.
    ReusedNoise,
    /// A unit of two records adds two to a table of counts.
    CountedPerRecord,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::HalfNoise,
        Self::NoClipping,
        Self::HalfSensitivity,
        Self::RealizedDivisor,
        Self::ReusedNoise,
        Self::CountedPerRecord,
    ];

    /// What the canaries' bits decide.
    pub(super) fn relation(self) -> NeighboringRelation {
        match self {
            Self::RealizedDivisor => NeighboringRelation::ZeroOut,
            _ => NeighboringRelation::Replace,
        }
    }

    /// The relation whose epsilon is claimed.
    pub(super) fn claimed_relation(self) -> NeighboringRelation {
        match self {
            Self::HalfSensitivity => NeighboringRelation::ZeroOut,
            other => other.relation(),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::HalfNoise => "half-noise",
            Self::NoClipping => "no-clipping",
            Self::HalfSensitivity => "half-sensitivity",
            Self::RealizedDivisor => "realized-divisor",
            Self::ReusedNoise => "reused-noise",
            Self::CountedPerRecord => "counted-per-record",
        })
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|fault| fault.to_string() == name).ok_or_else(|| {
            let known: Vec<String> = Self::ALL.iter().map(ToString::to_string).collect();
            format!("no such fault; choose among {}", known.join(", "))
        })
    }
}
