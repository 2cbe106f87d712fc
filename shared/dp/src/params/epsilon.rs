//! The privacy loss bound.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::ParameterError;

const RANGE: &str = "[0, inf]";
const INFINITY_TEXT: &str = "infinity";

/// An upper bound on the privacy loss, in `[0, inf]`; infinity says that no finite bound holds.
///
/// JSON has no infinity, so the unbounded value is serialized as the text `"infinity"`.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Epsilon(f64);

impl Epsilon {
    /// No privacy loss at all.
    pub const ZERO: Self = Self(0.0);
    /// No finite bound.
    pub const INFINITE: Self = Self(f64::INFINITY);

    /// Checks that `value` lies in `[0, inf]`.
    ///
    /// # Errors
    /// [`ParameterError::OutOfRange`] for a negative value or NaN.
    pub fn new(value: f64) -> Result<Self, ParameterError> {
        if value >= 0.0 {
            // Adding zero turns -0.0 into 0.0, which has one text form.
            Ok(Self(value + 0.0))
        } else {
            Err(ParameterError::OutOfRange { name: "epsilon", value, range: RANGE })
        }
    }

    /// The plain number, possibly infinite.
    #[must_use]
    pub fn get(self) -> f64 {
        self.0
    }

    /// Whether a finite bound holds.
    #[must_use]
    pub fn is_finite(self) -> bool {
        self.0.is_finite()
    }

    /// The smaller of two valid bounds, which is a valid bound.
    #[must_use]
    pub fn min(self, other: Self) -> Self {
        Self(self.0.min(other.0))
    }

    /// The larger of two bounds.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self(self.0.max(other.0))
    }

    /// The bound rounded up to 24 significant bits.
    ///
    /// Processors and C libraries differ in the last bits of transcendental functions and transforms. After this
    /// rounding, sites and coordinator get the same bits for the same events but with a probability of about 1e-5.
    pub(crate) fn coarsened(self) -> Self {
        const DROPPED: u64 = (1 << 29) - 1;
        // Rounding up the bit pattern of a nonnegative double rounds up its value; infinity has no dropped bits.
        Self(f64::from_bits((self.0.to_bits() + DROPPED) & !DROPPED))
    }

    /// The least number of `decimals` decimal places that is not below the bound: what a report may print.
    #[must_use]
    pub fn rounded_up(self, decimals: u32) -> f64 {
        let scale = i32::try_from(decimals).map_or(f64::INFINITY, |places| 10_f64.powi(places));
        let scaled = self.0 * scale;
        // Above 2^53 every double is already an integer count of the last place.
        if scaled.is_nan() || scaled > 9.0e15 {
            return self.0;
        }
        let mut count = scaled.round();
        while count / scale < self.0 {
            count += 1.0;
        }
        count / scale
    }
}

impl TryFrom<f64> for Epsilon {
    type Error = ParameterError;

    fn try_from(value: f64) -> Result<Self, Self::Error> {
        Self::new(value)
    }
}

impl From<Epsilon> for f64 {
    fn from(epsilon: Epsilon) -> f64 {
        epsilon.0
    }
}

impl fmt::Display for Epsilon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_finite() { fmt::Display::fmt(&self.0, f) } else { f.pad(INFINITY_TEXT) }
    }
}

impl Serialize for Epsilon {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.is_finite() {
            serializer.serialize_f64(self.0)
        } else {
            serializer.serialize_str(INFINITY_TEXT)
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum NumberOrText {
    Number(f64),
    Text(String),
}

impl<'de> Deserialize<'de> for Epsilon {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let parsed = match NumberOrText::deserialize(deserializer)? {
            NumberOrText::Number(value) => Self::new(value),
            NumberOrText::Text(text) if text == INFINITY_TEXT => Ok(Self::INFINITE),
            NumberOrText::Text(text) => Err(ParameterError::NotAnEpsilon { length: text.len() }),
        };
        parsed.map_err(serde::de::Error::custom)
    }
}
