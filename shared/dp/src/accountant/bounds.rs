//! Epsilon enclosed from both sides.

use serde::Serialize;

use crate::params::Epsilon;

/// The true epsilon lies between these.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct EpsilonBounds {
    /// No correct accountant reports less.
    pub lower: Epsilon,
    /// What is reported.
    pub upper: Epsilon,
}

impl EpsilonBounds {
    /// How far the bounds are apart, relative to the upper one: 0 to 1, 0 where both are zero.
    #[must_use]
    pub fn gap(&self) -> f64 {
        match (self.lower.get(), self.upper.get()) {
            (_, upper) if upper <= 0.0 => 0.0,
            (_, upper) if upper.is_infinite() => 1.0,
            (lower, upper) => 1.0 - lower / upper,
        }
    }
}
