//! `accountant curve`.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use fusiondp_dp::{Epsilon, NeighboringRelation, PrivacyProfile};
use fusiondp_runtime::files::write_atomic;
use fusiondp_runtime::outln;
use serde_json::{Value, json};

use super::super::table::Table;
use super::percent;
use super::steps::StepFlags;
use crate::report::chart::{Below, Chart, Series};
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

type Profiles = [(NeighboringRelation, PrivacyProfile); 2];

impl Curve {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let releases = self.steps.releases()?;
        let profile = |relation| PrivacyProfile::of_steps(&releases.steps, relation);
        let profiles = [
            (NeighboringRelation::Replace, profile(NeighboringRelation::Replace)?),
            (NeighboringRelation::ZeroOut, profile(NeighboringRelation::ZeroOut)?),
        ];
        for (path, chart) in [(&self.plot, profile_chart(&profiles)), (&self.trade_off, trade_off(&profiles))]
        {
            let Some(path) = path else { continue };
            let svg = chart.file().context("there is no finite epsilon to draw")?;
            write_atomic(path, svg.as_bytes())?;
        }
        match self.json {
            true => outln!("{}", serde_json::to_string_pretty(&as_json(&profiles))?)?,
            false => print(&profiles)?,
        }
        Ok(())
    }
}

fn as_json(profiles: &Profiles) -> Value {
    let one = |(relation, profile): &(NeighboringRelation, PrivacyProfile)| {
        let mu = profile.equivalent_gaussian();
        let miss =
            |rate: f64| json!({"false_alarms": rate, "missed_at_least": profile.least_miss_rate(rate)});
        let value = json!({
            "profile": profile,
            "gaussian_mu": mu.is_finite().then_some(mu),
            "largest_advantage": profile.largest_advantage(),
            "trade_off": rates().map(miss).collect::<Vec<_>>(),
        });
        (relation.to_string(), value)
    };
    profiles.iter().map(one).collect::<serde_json::Map<_, _>>().into()
}

fn print(profiles: &Profiles) -> anyhow::Result<()> {
    let [(_, replace), (_, zero_out)] = profiles;
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

fn profile_chart(profiles: &Profiles) -> Chart<'static> {
    let series = profiles.iter().enumerate().map(|(color, (relation, profile))| {
        let point = |point: &fusiondp_dp::ProfilePoint| (point.epsilon.get(), point.delta.log10());
        let mut points: Vec<(f64, f64)> =
            profile.points().iter().map(point).filter(|point| point.0.is_finite() && point.0 > 0.0).collect();
        points.reverse();
        Series { name: relation.to_string(), color, dashed: false, points }
    });
    Chart {
        title: "Privacy profile: log10 of delta against epsilon",
        below: Below::Quantity("epsilon"),
        y_label: "log10 delta",
        from_zero: false,
        series: series.filter(|series| !series.points.is_empty()).collect(),
    }
}

fn trade_off(profiles: &Profiles) -> Chart<'static> {
    let curve = |(color, (relation, profile)): (usize, &(NeighboringRelation, PrivacyProfile))| {
        let points = rates().map(|rate| (rate, profile.least_miss_rate(rate))).collect();
        Series { name: relation.to_string(), color, dashed: false, points }
    };
    let mut series: Vec<Series> = profiles.iter().enumerate().map(curve).collect();
    let guessing = vec![(0.0, 1.0), (1.0, 0.0)];
    series.push(Series { name: "guessing".to_owned(), color: series.len(), dashed: true, points: guessing });
    Chart {
        title: "Trade-off: what any attack misses at least, against its false alarms",
        below: Below::Quantity("rate of false alarms"),
        y_label: "rate of misses",
        from_zero: true,
        series,
    }
}

/// Rates of false alarms, denser near 0.
fn rates() -> impl Iterator<Item = f64> {
    (0..=100).map(|step| (f64::from(step) / 100.0).powi(2))
}
