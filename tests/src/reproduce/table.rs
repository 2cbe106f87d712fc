//! The table as Markdown.

use std::fmt::Write as _;

use super::mode::{DataName, ImputerName};
use super::summary::{Row, Spread};

/// One table per data set, rows in the order given.
#[must_use]
pub fn markdown(rows: &[Row]) -> String {
    let mut text = String::from(
        "Mean and deviation over seeds, on all sites' rows together. Epsilon is an upper bound from the charges in the \
         sites' ledgers, for one site's patient: every site adds its own noise.\n",
    );
    for data in DataName::ALL {
        let of_data: Vec<&Row> = rows.iter().filter(|row| row.data == data).collect();
        if let Some(first) = of_data.first() {
            // Writing to a String cannot fail, here and below.
            let _ = write!(text, "\n## {data}, {}, delta {:e}\n\n", sites(first.sites), first.delta);
            text.push_str(HEADER);
            of_data.into_iter().for_each(|row| line(&mut text, row));
        }
    }
    text
}

const HEADER: &str = "\
| mode | imputer | epsilon replace | epsilon zero_out | noise | rounds | test AUPR | test AUROC | val AUPR | seeds |
|---|---|---|---|---|---|---|---|---|---|
";

fn line(text: &mut String, row: &Row) {
    let epsilon = |figure: Option<f64>| figure.map_or("none".to_owned(), rounded_up);
    let _ = writeln!(
        text,
        "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
        row.recipe,
        row.imputer.map_or("-", ImputerName::as_str),
        epsilon(row.epsilon.map(|epsilon| epsilon.replace)),
        epsilon(row.epsilon.map(|epsilon| epsilon.zero_out)),
        row.noise_multiplier.map_or("-".to_owned(), |noise| format!("{noise:.4}")),
        row.rounds,
        spread(row.test.aupr),
        spread(row.test.auroc),
        spread(row.val.aupr),
        row.seeds.len(),
    );
}

fn sites(count: usize) -> String {
    if count == 1 { "1 site".to_owned() } else { format!("{count} sites") }
}

fn spread(spread: Spread) -> String {
    match spread.deviation {
        Some(deviation) => format!("{:.3} ± {deviation:.3}", spread.mean),
        None => format!("{:.3}", spread.mean),
    }
}

/// Outward at three decimals.
fn rounded_up(epsilon: f64) -> String {
    format!("{:.3}", (epsilon * 1e3).ceil() / 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reproduce::cell::Target;
    use crate::reproduce::mode::Recipe;
    use crate::reproduce::results::tests::result;
    use crate::reproduce::summary::rows;

    #[test]
    fn the_table_names_both_epsilons_and_rounds_them_up() {
        let results = [
            result(Recipe::Split, Target::Epsilon(0.9991), 1, 0.75),
            result(Recipe::Split, Target::Epsilon(0.9991), 2, 0.85),
            result(Recipe::HybridOnly, Target::None, 1, 0.6),
            result(Recipe::NonPrivate, Target::None, 1, 0.9),
        ];
        let text = markdown(&rows(&results));
        let wanted = "\n## sepsis, 8 sites, delta 1e-5\n\n".to_owned()
            + HEADER
            + "| split | - | 1.000 | 0.500 | 1.2500 | 10 | 0.800 ± 0.071 | 0.900 ± 0.035 | 0.790 ± 0.071 | 2 |\n\
               | hybrid-only | - | 0.000 | 0.000 | - | 10 | 0.600 | 0.800 | 0.590 | 1 |\n\
               | non-private | - | none | none | - | 10 | 0.900 | 0.950 | 0.890 | 1 |\n";
        assert!(text.ends_with(&wanted), "{text}\n{wanted}");
    }
}
