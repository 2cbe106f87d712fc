//! Why a private step was refused or broken off.

use thiserror::Error;

use super::{MAX_CELLS, MAX_DIMENSION, MAX_UNITS, MAX_WIDTH};

/// Why a private step was refused or broken off; the charge stays spent.
///
/// No variant carries a value of the sample or of the sum.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum StepError {
    /// The charge pays for several releases, a step makes one.
    #[error("the charge's event has {steps} steps, a private step is one release; charge one event per step")]
    SeveralSteps {
        /// Steps of the charged event.
        steps: u32,
    },
    /// The number of units differs from what was charged, which would make the sampling another one.
    #[error("the step has {given} units but the charge names {charged}; charge and sample the same units")]
    UnitsDiffer {
        /// Units named by the charge.
        charged: u64,
        /// Units given to the step.
        given: usize,
    },
    /// More units than the integer sums are proved for.
    #[error("{units} units are more than the {MAX_UNITS} that the integer sums hold; split the site's data")]
    TooManyUnits {
        /// Units given to the step.
        units: usize,
    },
    /// The contributions have no coordinates, or too many.
    #[error(
        "dimension {dimension} is outside [1, {MAX_DIMENSION}]; choose which parameters take private gradient"
    )]
    Dimension {
        /// The refused dimension.
        dimension: usize,
    },
    /// The clip norm cannot be expressed in the single precision of the gradients.
    #[error("clip_norm {clip_norm} is outside [1e-30, 1e30]; rescale the loss")]
    ClipNorm {
        /// The refused clip norm.
        clip_norm: f64,
    },
    /// The noise would be too small or too large for the grid.
    #[error(
        "noise_multiplier {noise_multiplier} is outside [2^-10, 2^12]; the grid is too coarse or too fine for it"
    )]
    NoiseMultiplier {
        /// The refused multiplier.
        noise_multiplier: f64,
    },
    /// A linear block is empty or wider than exact inner products are proved for.
    #[error("a linear block of width {width} is outside [1, {MAX_WIDTH}]; use narrower layers")]
    Width {
        /// The refused width.
        width: usize,
    },
    /// A contribution does not have the shape of the sum.
    #[error(
        "a contribution has {found} {what} but the step needs {expected}; give it in the shape of the step"
    )]
    Shape {
        /// What was counted.
        what: &'static str,
        /// Number that the shape of the step asks for.
        expected: usize,
        /// Number found.
        found: usize,
    },
    /// The rows of a group are not cut into consecutive units.
    #[error("the unit offsets of a group do not ascend from 0; give the rows unit by unit")]
    UnitOffsets,
    /// The charge pays for another kind of release.
    #[error("the charge is for another kind of release than {expected}; charge what is released")]
    OtherEvent {
        /// The kind of event that the step consumes.
        expected: &'static str,
    },
    /// A table without cells, or with too many.
    #[error("a table of {cells} cells is outside [1, {MAX_CELLS}]; use fewer bins")]
    Cells {
        /// The refused number.
        cells: usize,
    },
    /// A record lies in no cell of the table.
    #[error("a record lies in a cell that the table does not have; this is a defect, please report it")]
    Cell,
    /// There were more contributions than sampled units.
    #[error("a contribution was added beyond the sampled units; add each sampled unit exactly once")]
    TooManyContributions,
    /// There were fewer contributions than sampled units.
    #[error("a sampled unit has no contribution; add each sampled unit exactly once before the release")]
    MissingContributions,
}
