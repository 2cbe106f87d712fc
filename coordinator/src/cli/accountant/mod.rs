//! `accountant`: what releases cost, for who plans a study or checks a report, without a coordinator.

mod calibrate;
mod curve;
mod epsilon;
mod steps;

use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(super) enum AccountantCommand {
    /// Epsilon of planned or past releases, enclosed from both sides.
    Epsilon(epsilon::EpsilonCommand),
    /// Noise, sampling probability or number of steps for a target epsilon.
    Calibrate(calibrate::Calibrate),
    /// The whole curve: epsilon at many deltas, trade-off, equivalent Gaussian mechanism; as a table or a drawing.
    Curve(curve::Curve),
}

impl AccountantCommand {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Epsilon(command) => command.run(),
            Self::Calibrate(command) => command.run(),
            Self::Curve(command) => command.run(),
        }
    }
}

/// Percent with as many digits as say something.
fn percent(share: f64) -> String {
    format!("{:.3} %", 100.0 * share)
}
