//! Why no epsilon or noise multiplier could be given.

use thiserror::Error;

/// Why no epsilon or noise multiplier could be given.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum AccountantError {
    /// The events sum to more steps than the error bounds are proved for.
    #[error("the events have more than {limit} steps in total; that many releases cannot be accounted for")]
    TooManySteps {
        /// Most steps in total.
        limit: u64,
    },
    /// A discretization interval that is not a positive number.
    #[error("interval {interval} is outside (0, inf); give the spacing of the privacy loss grid")]
    Interval {
        /// The refused interval.
        interval: f64,
    },
    /// A fixed interval needs a grid too large to transform.
    #[error("interval {interval} needs more than {limit} grid points; choose a coarser or the adaptive one")]
    GridTooLarge {
        /// The interval in force.
        interval: f64,
        /// Most grid points.
        limit: usize,
    },
    /// Calibration to no bound at all.
    #[error("target epsilon is infinite, which every noise multiplier meets; give a finite target")]
    UnboundedTarget,
    /// No permitted noise multiplier reaches the target.
    #[error(
        "target epsilon {target} is not reached even with noise multiplier {largest}; raise it or take fewer steps"
    )]
    UnreachableTarget {
        /// The target epsilon.
        target: f64,
        /// The largest multiplier tried.
        largest: f64,
    },
}
