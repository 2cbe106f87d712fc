//! The grid on which contributions are summed.

use crate::params::ClipNorm;

/// log2 of the number of grid steps in one clip norm.
const LOG2_STEPS: i32 = 28;

/// Multiples of `C * 2^-28`, where `C` is the clip norm.
///
/// Sites and coordinator derive the grid from the same clip norm, so sums travel as integers and lose nothing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Grid {
    clip_norm: ClipNorm,
}

impl Grid {
    /// The clip norm in grid steps, 2^28.
    pub const STEPS_PER_CLIP_NORM: i64 = 1 << LOG2_STEPS;

    /// The grid that belongs to a clip norm.
    #[must_use]
    pub fn for_clip_norm(clip_norm: ClipNorm) -> Self {
        Self { clip_norm }
    }

    /// Length of one grid step, in units of the gradient: `C * 2^-28`, exact for every clip norm that a step accepts.
    #[must_use]
    pub fn step(self) -> f64 {
        self.clip_norm.get() / Self::steps_per_clip_norm()
    }

    /// Grid steps per unit of the gradient.
    pub(super) fn steps_per_unit(self) -> f64 {
        Self::steps_per_clip_norm() / self.clip_norm.get()
    }

    /// `STEPS_PER_CLIP_NORM` as a double.
    pub(super) const fn steps_per_clip_norm() -> f64 {
        Self::STEPS_PER_CLIP_NORM as f64
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_step_is_an_exact_fraction(clip in 1e-30..1e30_f64) {
            let step = Grid::for_clip_norm(ClipNorm::new(clip).unwrap()).step();
            prop_assert_eq!(step * 268_435_456.0, clip);
        }
    }
}
