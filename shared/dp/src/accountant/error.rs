//! Why no epsilon or noise multiplier could be given.

use thiserror::Error;

use crate::params::ParameterError;

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
    #[error("target epsilon is infinite, which everything meets; give a finite target")]
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
    /// No sampling probability that is tried reaches the target.
    #[error(
        "target epsilon {target} is not reached even at sampling probability 2^-40; raise it, the noise or take fewer steps"
    )]
    UnreachableByRate {
        /// The target epsilon.
        target: f64,
    },
    /// One step costs more than the target.
    #[error("one step alone costs more than target epsilon {target}; raise the noise, or the target")]
    UnreachableBySteps {
        /// The target epsilon.
        target: f64,
    },
    /// A search left the range of its parameter.
    #[error(transparent)]
    Parameter(#[from] ParameterError),
}
