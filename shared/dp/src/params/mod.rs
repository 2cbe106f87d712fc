//! Validated parameters of the privacy guarantee.
//!
//! Every type has a private field, one checked constructor and the same check on deserialization, so a value that
//! exists is a value in range. All are small `Copy` types; `get` gives the plain number for arithmetic.

mod epsilon;
mod hex_bytes;

pub use epsilon::Epsilon;
pub(crate) use hex_bytes::hex_bytes;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

/// Why a value was refused as a parameter.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum ParameterError {
    /// A number lies outside the range of its parameter, or is not a number.
    #[error("{name} is {value}, which is outside {range}; give a number inside that range")]
    OutOfRange {
        /// Name of the parameter, in snake case.
        name: &'static str,
        /// The refused value.
        value: f64,
        /// The permitted range in interval notation.
        range: &'static str,
    },
    /// A text is not the hexadecimal form of a fixed number of bytes.
    #[error("{name} must be {digits} hexadecimal digits; got {found} characters, or another character")]
    NotHexadecimal {
        /// Name of the parameter, in snake case.
        name: &'static str,
        /// How many digits the parameter has.
        digits: usize,
        /// Length of the refused text in bytes.
        found: usize,
    },
    /// An epsilon was given as a text other than `infinity`.
    #[error("epsilon is a text of {length} characters; give a number, or the text \"infinity\"")]
    NotAnEpsilon {
        /// Length of the refused text in bytes.
        length: usize,
    },
}

/// Declares a newtype over `f64` that is checked once and for all.
macro_rules! scalar {
    ($(#[$doc:meta])* $name:ident, $label:literal, $range:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
        #[serde(try_from = "f64", into = "f64")]
        pub struct $name(f64);

        impl $name {
            #[doc = concat!("Checks that `value` lies in ", $range, ".")]
            ///
            /// # Errors
            /// [`ParameterError::OutOfRange`] for every other value, NaN included.
            pub fn new(value: f64) -> Result<Self, ParameterError> {
                let valid: fn(f64) -> bool = $valid;
                if valid(value) {
                    Ok(Self(value))
                } else {
                    Err(ParameterError::OutOfRange { name: $label, value, range: $range })
                }
            }

            /// The plain number.
            #[must_use]
            pub fn get(self) -> f64 {
                self.0
            }
        }

        impl TryFrom<f64> for $name {
            type Error = ParameterError;

            fn try_from(value: f64) -> Result<Self, Self::Error> {
                Self::new(value)
            }
        }

        impl From<$name> for f64 {
            fn from(parameter: $name) -> f64 {
                parameter.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

scalar! {
    /// Probability that the bound epsilon does not hold, in `(0, 1)`.
    Delta, "delta", "(0, 1)", |v| v > 0.0 && v < 1.0
}

scalar! {
    /// Standard deviation of the noise on a sum, divided by the clip norm; finite and above zero.
    NoiseMultiplier, "noise_multiplier", "(0, inf)", |v| v > 0.0 && v.is_finite()
}

scalar! {
    /// Largest Euclidean norm of one unit's contribution, in units of the gradient; finite and above zero.
    ClipNorm, "clip_norm", "(0, inf)", |v| v > 0.0 && v.is_finite()
}

scalar! {
    /// Probability with which Poisson sampling takes each unit, in `(0, 1]`.
    SamplingProbability, "sampling_probability", "(0, 1]", |v| v > 0.0 && v <= 1.0
}

impl SamplingProbability {
    /// Everybody takes part.
    pub const ONE: Self = Self(1.0);
}

/// Which pairs of data sets the guarantee makes indistinguishable.
///
/// A figure for epsilon means nothing without its relation; both are always reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NeighboringRelation {
    /// The sensitive values of one unit change from anything to anything else.
    Replace,
    /// One unit's private contribution is present or absent.
    ZeroOut,
}

impl NeighboringRelation {
    /// Both relations, the headline first.
    pub const ALL: [Self; 2] = [Self::Replace, Self::ZeroOut];
}

impl std::fmt::Display for NeighboringRelation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Replace => "replace",
            Self::ZeroOut => "zero_out",
        })
    }
}

hex_bytes! {
    /// A SHA-256 digest; 64 lower-case hexadecimal digits as text.
    Digest, 32, "digest"
}

impl Digest {
    /// The digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self::from_bytes(Sha256::digest(bytes).into())
    }
}

#[cfg(test)]
mod tests;
