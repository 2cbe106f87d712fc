//! AUPR against epsilon, one line per mode, as the reports draw their curves.

use fusiondp_coordinator::report::chart::{Below, Chart, Series};

use super::cell::Target;
use super::mode::{DataName, Recipe};
use super::summary::Row;

/// One data set's drawing as an SVG file: noised modes over epsilon, the others as dashed lines across. Where a mode has
/// several imputers the first of them is drawn. `None` for a data set without a sweep over epsilons.
#[must_use]
pub fn svg(rows: &[Row], data: DataName) -> Option<String> {
    let mut series = Vec::new();
    let last = rows.iter().filter(|row| row.data == data).filter_map(epsilon).fold(0.0, f64::max);
    if last == 0.0 {
        return None;
    }
    for recipe in Recipe::ALL {
        let of_mode = || rows.iter().filter(move |row| row.data == data && row.recipe == recipe);
        let Some(first) = of_mode().next() else { continue };
        let drawn = of_mode().filter(|row| row.imputer == first.imputer);
        let points = match recipe.is_noised() {
            true => sorted(drawn.filter_map(|row| Some((epsilon(row)?, row.test.aupr.mean))).collect()),
            false => vec![(0.0, first.test.aupr.mean), (last, first.test.aupr.mean)],
        };
        if !points.is_empty() {
            let name = recipe.to_string();
            series.push(Series { name, color: series.len(), dashed: !recipe.is_noised(), points });
        }
    }
    let title = format!("{data}: test AUPR, mean over seeds");
    let below = Below::Quantity("epsilon under replace");
    Chart { title: &title, below, y_label: "AUPR", from_zero: false, series }.file()
}

fn epsilon(row: &Row) -> Option<f64> {
    match row.target {
        Target::Epsilon(epsilon) => Some(epsilon),
        Target::Noise(_) | Target::None => None,
    }
}

fn sorted(mut points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    points.sort_by(|one, other| one.0.total_cmp(&other.0));
    points
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::reproduce::results::tests::result;
    use crate::reproduce::summary::rows;

    #[test]
    fn modes_are_lines_and_what_has_no_epsilon_goes_across() {
        let results = [
            result(Recipe::Split, Target::Epsilon(2.0), 1, 0.8),
            result(Recipe::Split, Target::Epsilon(0.5), 1, 0.7),
            result(Recipe::NonPrivate, Target::None, 1, 0.9),
            result(Recipe::PublicOnly, Target::None, 1, 0.6),
        ];
        let svg = svg(&rows(&results), DataName::Sepsis).unwrap();
        for part in
            [">split<", ">non-private<", ">public-only<", "line c0\"", "line c1 dashed", "line c2 dashed"]
        {
            assert!(svg.contains(part), "{part} in {svg}");
        }
        // From the smaller to the larger epsilon, whatever order the runs ended in.
        assert!(svg.contains("split: 0.7000</title>") && svg.find("0.7000<") < svg.find("0.8000<"), "{svg}");
        assert_eq!(super::svg(&rows(&results), DataName::Bank), None);
    }
}
