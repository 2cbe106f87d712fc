//! `accountant epsilon`.

use clap::Args;
use fusiondp_dp::{
    EpsilonBounds, NeighboringRelation, PldAccountant, epsilon_of_steps, gaussian_mu, largest_odds_factor,
    largest_posterior,
};
use fusiondp_runtime::outln;
use serde_json::{Value, json};

use super::super::table::Table;
use super::percent;
use super::steps::{Releases, StepFlags, meaning};
use crate::text;

/// Prior probabilities for which the posterior is shown.
const PRIORS: [f64; 3] = [0.01, 0.1, 0.5];

/// Epsilon of planned or past releases, enclosed from both sides.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fusiondp-coordinator accountant epsilon --noise-multiplier 1.0474 --sampling-probability 0.008955 --steps 1443 \\
      --delta 1e-5
  fusiondp-coordinator accountant epsilon --events events.json --json")]
pub(in crate::cli) struct EpsilonCommand {
    #[command(flatten)]
    steps: StepFlags,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// The figures of one relation.
struct Row {
    relation: NeighboringRelation,
    bounds: EpsilonBounds,
    mu: f64,
}

impl EpsilonCommand {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let releases = self.steps.releases()?;
        let rows = NeighboringRelation::ALL
            .into_iter()
            .map(|relation| Row::of(&releases, relation))
            .collect::<anyhow::Result<Vec<_>>>()?;
        match self.json {
            true => {
                let relations = rows.iter().map(|row| (row.relation.to_string(), row.json()));
                let report = json!({
                    "delta": releases.delta,
                    "relations": relations.collect::<serde_json::Map<_, _>>(),
                });
                outln!("{}", serde_json::to_string_pretty(&report)?)?;
            }
            false => print(&releases, &rows)?,
        }
        Ok(())
    }
}

impl Row {
    fn of(releases: &Releases, relation: NeighboringRelation) -> anyhow::Result<Self> {
        let enclosed = PldAccountant::default().bounds(&releases.steps, releases.delta, relation)?;
        // What a ledger and a report would say, which may be lower than this accountant's own bound.
        let upper = epsilon_of_steps(&releases.steps, releases.delta, relation)?;
        let mu = gaussian_mu(upper, releases.delta.get());
        Ok(Self { relation, bounds: EpsilonBounds { lower: enclosed.lower, upper }, mu })
    }

    fn json(&self) -> Value {
        let posterior =
            |prior: f64| json!({"prior": prior, "most": largest_posterior(prior, self.bounds.upper)});
        json!({
            "epsilon": self.bounds.upper,
            "certified_lower_bound": self.bounds.lower,
            "gap": self.bounds.gap(),
            "gaussian_mu": finite(self.mu),
            "largest_odds_factor": finite(largest_odds_factor(self.bounds.upper)),
            "posterior": PRIORS.map(posterior),
        })
    }
}

/// A number, or null where there is no finite one.
fn finite(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}

fn print(releases: &Releases, rows: &[Row]) -> anyhow::Result<()> {
    let mut table =
        Table::new(["relation", "epsilon", "not below", "gap", "Gaussian mu", "odds grow at most"]);
    for Row { relation, bounds, mu } in rows {
        table.row([
            relation.to_string(),
            text::epsilon(bounds.upper.get()),
            format!("{:.4}", bounds.lower.get()),
            percent(bounds.gap()),
            finite(*mu).map_or_else(|| "none".to_owned(), |mu| format!("{mu:.4}")),
            finite(largest_odds_factor(bounds.upper))
                .map_or_else(|| "without limit".to_owned(), |factor| format!("{factor:.2} times")),
        ]);
    }
    outln!("at delta {}:\n{table}", releases.delta)?;
    for row in rows {
        outln!("{}: {}", row.relation, meaning(row.relation))?;
        let posterior = |prior: f64| {
            let most = 100.0 * largest_posterior(prior, row.bounds.upper);
            format!("{most:.1} % of what was held {:.0} % likely", 100.0 * prior)
        };
        outln!("  an attacker can become sure to at most {}", PRIORS.map(posterior).join(", "))?;
    }
    outln!(
        "each but with probability delta; \"not below\" is certified: no correct accountant reports less"
    )?;
    Ok(())
}
