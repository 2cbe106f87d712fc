//! What leaves a site with a charge, as the attack tells it apart.

use std::fmt;

use fusiondp_dp::Released;
use serde::{Deserialize, Serialize};

use super::Fault;

/// A kind of noised release, or all that a study plans together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mechanism {
    /// Sums of what units' true values make, over a secret sample.
    PrivateSum,
    /// Sums of clipped gradients of the public loss, in a study that protects whole records (ADR 17).
    PublicSum,
    /// Tables of counts (ADR 16).
    Counts,
    /// All kinds that a study plans, composed: one bit of a unit decides what it adds to each of them.
    Together,
}

impl Mechanism {
    /// The kind of a release.
    #[must_use]
    pub fn of(released: &Released) -> Self {
        match released {
            Released::PrivateSum => Self::PrivateSum,
            Released::PublicSum => Self::PublicSum,
            Released::Counts { .. } => Self::Counts,
        }
    }

    /// The faults that can be planted around it.
    #[must_use]
    pub fn faults(self) -> &'static [Fault] {
        match self {
            Self::PrivateSum => &[
                Fault::HalfNoise,
                Fault::NoClipping,
                Fault::HalfSensitivity,
                Fault::RealizedDivisor,
                Fault::ReusedNoise,
            ],
            // A divisor takes one run per canary, and a study has hundreds of public sums: left to the private ones.
            Self::PublicSum => {
                &[Fault::HalfNoise, Fault::NoClipping, Fault::HalfSensitivity, Fault::ReusedNoise]
            }
            Self::Counts => {
                &[Fault::HalfNoise, Fault::CountedPerRecord, Fault::HalfSensitivity, Fault::ReusedNoise]
            }
            Self::Together => &[Fault::HalfNoise, Fault::HalfSensitivity],
        }
    }
}

impl fmt::Display for Mechanism {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::PrivateSum => "private sum",
            Self::PublicSum => "public sum",
            Self::Counts => "counts",
            Self::Together => "together",
        })
    }
}
