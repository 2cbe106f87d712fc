//! `accountant curve`.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use fusiondp_dp::{Epsilon, NeighboringRelation, PrivacyProfile};
use fusiondp_runtime::files::write_atomic;
use fusiondp_runtime::outln;

use super::super::table::Table;
use super::percent;
use super::steps::StepFlags;
use crate::report::profile::Profiles;
use crate::text;

/// Rates of false alarms in the table; the drawing has more.
const FALSE_ALARMS: [f64; 4] = [0.001, 0.01, 0.05, 0.1];

/// The whole curve: epsilon at many deltas, trade-off, equivalent Gaussian mechanism.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  fusiondp-coordinator accountant curve --noise-multiplier 21.1 --sampling-probability 1 --steps 8 --delta 1e-5 \\
      --plot profile.svg --trade-off trade-off.svg")]
pub(in crate::cli) struct Curve {
    #[command(flatten)]
    steps: StepFlags,
    /// Draw delta against epsilon into this SVG file.
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
    /// Draw what any attack misses against its false alarms into this SVG file.
    #[arg(long, value_name = "FILE.svg")]
    trade_off: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Curve {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let releases = self.steps.releases()?;
        let profiles = Profiles::of_steps(&releases.steps)?;
        for (path, chart) in
            [(&self.plot, profiles.profile_chart()), (&self.trade_off, profiles.trade_off_chart())]
        {
            let Some(path) = path else { continue };
            let svg = chart.file().context("there is no finite epsilon to draw")?;
            write_atomic(path, svg.as_bytes())?;
        }
        match self.json {
            true => outln!("{}", serde_json::to_string_pretty(&profiles.to_json())?)?,
            false => print(&profiles)?,
        }
        Ok(())
    }
}

fn print(profiles: &Profiles) -> anyhow::Result<()> {
    let replace = profiles.of(NeighboringRelation::Replace);
    let zero_out = profiles.of(NeighboringRelation::ZeroOut);
    let mut table = Table::new(["delta", "epsilon, replace", "epsilon, zero_out"]);
    for (one, other) in replace.points().iter().zip(zero_out.points()) {
        let shown = |epsilon: Epsilon| text::epsilon(epsilon.get());
        table.row([format!("{:.1e}", one.delta), shown(one.epsilon), shown(other.epsilon)]);
    }
    outln!("{table}")?;
    let mut table = Table::new(["any attack", "replace", "zero_out"]);
    for rate in FALSE_ALARMS {
        let missed = |profile: &PrivacyProfile| percent(profile.least_miss_rate(rate));
        let label = format!("misses, at {:.1} % false alarms, at least", 100.0 * rate);
        table.row([label, missed(replace), missed(zero_out)]);
    }
    let advantage = |profile: &PrivacyProfile| percent(profile.largest_advantage());
    table.row(["hits minus false alarms, at most".to_owned(), advantage(replace), advantage(zero_out)]);
    let mu = |profile: &PrivacyProfile| match profile.equivalent_gaussian() {
        mu if mu.is_finite() => format!("{mu:.4}"),
        _ => "none".to_owned(),
    };
    table.row(["mu of the equivalent Gaussian mechanism".to_owned(), mu(replace), mu(zero_out)]);
    outln!("{table}")?;
    Ok(())
}
