//! What came of the attacks, for people.

use std::fmt::Write as _;

use fusiondp_coordinator::report::chart::{Below, Chart, Series};

use super::Attacks;

/// A section of Markdown.
#[must_use]
pub fn markdown(attacks: &Attacks) -> String {
    let mut text = String::from("## Attacks on this model\n\n");
    let Attacks { epsilon, seed, auroc, membership, .. } = attacks;
    // Writing to a string cannot fail.
    let _ = writeln!(text, "Study \"{}\", replace epsilon {epsilon:.3}, seed {seed}.\n", attacks.study);
    let _ = writeln!(
        text,
        "| sensitive column | most frequent | imputer | best without model | with model | gain |"
    );
    let _ = writeln!(text, "|---|---|---|---|---|---|");
    for found in &attacks.reconstruction {
        let _ = writeln!(
            text,
            "| {} ({} values) | {:.3} | {:.3} | {:.3} | {:.3} | {:+.3} |",
            found.column,
            found.slots,
            found.mode,
            found.imputer,
            found.baseline,
            found.with_model,
            found.with_model - found.baseline,
        );
    }
    if let Some(found) = &attacks.inversion {
        let _ = writeln!(
            text,
            "\nFrom all noised updates and all other patients' records, {} of {} patients: right for {:.3}; without noise it would \
             be {:.3}; always the most frequent value: {:.3}.",
            found.column, found.patients, found.noised, found.without_noise, found.mode
        );
    }
    let _ = writeln!(
        text,
        "\nMembership is not protected. By the loss alone: AUROC {:.3}, advantage {:.3}.\n",
        membership.auroc, membership.advantage
    );
    let _ = write!(text, "AUROC {auroc:.3}");
    for moved in &attacks.perturbed {
        let _ = write!(text, "; inputs moved by {}: {:.3}", moved.radius, moved.auroc);
    }
    text.push_str(".\n");
    if let Some(group) = &attacks.worst_group {
        let _ = writeln!(
            text,
            "Worst group: {} slot {} ({} records, {} positive), AUROC {:.3}.",
            group.column, group.slot, group.records, group.positives, group.auroc
        );
    }
    text
}

/// Shares of right guesses by sensitive column, in schema order; `None` without columns.
#[must_use]
pub fn svg(attacks: &Attacks) -> Option<String> {
    let line = |name: &str, color, dashed, share: fn(&super::Reconstruction) -> f64| Series {
        name: name.to_owned(),
        color,
        dashed,
        points: attacks.reconstruction.iter().enumerate().map(|(i, r)| ((i + 1) as f64, share(r))).collect(),
    };
    let series = vec![
        line("most frequent", 2, true, |found| found.mode),
        line("best without model", 0, false, |found| found.baseline),
        line("with model", 1, false, |found| found.with_model),
    ];
    let title = "Right guesses of sensitive values";
    let (below, y_label) = (Below::Quantity("sensitive column, in schema order"), "share");
    Chart { title, below, y_label, from_zero: true, series }
        .file()
        .filter(|_| !attacks.reconstruction.is_empty())
}
