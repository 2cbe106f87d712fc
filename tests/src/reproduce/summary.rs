//! Means and deviations over seeds.

use serde::Serialize;

use super::cell::{Cell, Target};
use super::mode::{DataName, ImputerName, Recipe};
use super::results::{CellResult, CohortMetrics, EpsilonPair};

/// Mean and deviation over seeds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// Mean.
    pub mean: f64,
    /// Deviation of the sample, with n - 1; `None` for a single seed.
    pub deviation: Option<f64>,
}

/// Spreads of one cohort's metrics.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct CohortSpread {
    /// Average precision.
    pub aupr: Spread,
    /// Area under the receiver operating characteristic.
    pub auroc: Spread,
    /// Mean squared error of the probability.
    pub brier: Spread,
}

/// The runs of one setting over its seeds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// Data set.
    pub data: DataName,
    /// Mode.
    #[serde(rename = "mode")]
    pub recipe: Recipe,
    /// Where imputed values come from.
    pub imputer: Option<ImputerName>,
    /// What the noise was calibrated to.
    pub target: Target,
    /// Seeds, ascending.
    pub seeds: Vec<u64>,
    /// Number of sites.
    pub sites: usize,
    /// Rounds.
    pub rounds: u32,
    /// Largest epsilon of the runs, from the charges.
    pub epsilon: Option<EpsilonPair>,
    /// Mass that the guarantee leaves out.
    pub delta: f64,
    /// Noise deviation over the clip norm, at each site.
    pub noise_multiplier: Option<f64>,
    /// Rate of the secret sample.
    pub sampling_probability: f64,
    /// On the validation cohort.
    pub val: CohortSpread,
    /// On the test cohort.
    pub test: CohortSpread,
}

/// One row per setting, in the order of first appearance.
#[must_use]
pub fn rows(results: &[CellResult]) -> Vec<Row> {
    let mut groups: Vec<Vec<&CellResult>> = Vec::new();
    for result in results {
        match groups.iter_mut().find(|group| same_setting(&group[0].cell, &result.cell)) {
            Some(group) => group.push(result),
            None => groups.push(vec![result]),
        }
    }
    let mut rows: Vec<Row> = groups.into_iter().map(|group| row(&group)).collect();
    rows.sort_by_key(|row| (row.data, row.recipe, row.imputer));
    rows
}

fn same_setting(one: &Cell, other: &Cell) -> bool {
    let key = |cell: &Cell| (cell.data, cell.recipe, cell.imputer);
    key(one) == key(other) && one.target == other.target
}

fn row(group: &[&CellResult]) -> Row {
    let first = group[0];
    let mut seeds: Vec<u64> = group.iter().map(|result| result.cell.seed).collect();
    seeds.sort_unstable();
    Row {
        data: first.cell.data,
        recipe: first.cell.recipe,
        imputer: first.cell.imputer,
        target: first.cell.target,
        seeds,
        sites: first.sites,
        rounds: first.rounds,
        epsilon: group.iter().map(|result| result.epsilon).reduce(larger).flatten(),
        delta: first.delta,
        noise_multiplier: first.noise_multiplier,
        sampling_probability: first.sampling_probability,
        val: cohort(group, |result| result.val),
        test: cohort(group, |result| result.test),
    }
}

fn larger(one: Option<EpsilonPair>, other: Option<EpsilonPair>) -> Option<EpsilonPair> {
    let (one, other) = (one?, other?);
    Some(EpsilonPair { replace: one.replace.max(other.replace), zero_out: one.zero_out.max(other.zero_out) })
}

fn cohort(group: &[&CellResult], of: fn(&CellResult) -> CohortMetrics) -> CohortSpread {
    let spread_of = |metric: fn(CohortMetrics) -> f64| {
        spread(&group.iter().map(|result| metric(of(result))).collect::<Vec<_>>())
    };
    CohortSpread {
        aupr: spread_of(|metrics| metrics.aupr),
        auroc: spread_of(|metrics| metrics.auroc),
        brier: spread_of(|metrics| metrics.brier),
    }
}

fn spread(values: &[f64]) -> Spread {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|value| (value - mean) * (value - mean)).sum();
    let deviation = (values.len() > 1).then(|| (squares / (count - 1.0)).sqrt());
    Spread { mean, deviation }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reproduce::results::tests::result;

    #[test]
    fn seeds_of_one_setting_make_one_row() {
        let one = Target::Epsilon(1.0);
        let results = [
            result(Recipe::DpSgd, one, 2, 0.5),
            result(Recipe::Split, one, 1, 0.8),
            result(Recipe::Split, one, 2, 0.7),
            result(Recipe::Split, Target::Epsilon(2.0), 1, 0.9),
        ];
        let rows = rows(&results);
        let named: Vec<_> = rows.iter().map(|row| (row.recipe, row.target, row.seeds.len())).collect();
        assert_eq!(
            named,
            [(Recipe::Split, one, 2), (Recipe::Split, Target::Epsilon(2.0), 1), (Recipe::DpSgd, one, 1)]
        );
        let aupr = rows[0].test.aupr;
        assert!((aupr.mean - 0.75).abs() < 1e-12);
        assert!(aupr.deviation.is_some_and(|deviation| (deviation - 0.005_f64.sqrt()).abs() < 1e-12));
        assert_eq!(rows[2].test.aupr.deviation, None);
    }

    #[test]
    fn a_run_without_protection_has_no_epsilon() {
        let results = [result(Recipe::NonPrivate, Target::None, 1, 0.8)];
        assert_eq!(rows(&results)[0].epsilon, None);
        let results = [result(Recipe::HybridOnly, Target::None, 1, 0.8)];
        assert_eq!(rows(&results)[0].epsilon.map(|epsilon| epsilon.replace), Some(0.0));
    }
}
