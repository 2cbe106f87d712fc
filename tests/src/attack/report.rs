//! What came of the attacks, for people.

use std::fmt::Write as _;

use fusiondp_coordinator::report::chart::{Below, Chart, Series};
use fusiondp_coordinator::report::evidence::{AttackEvidence, Distinction, Reconstruction};

/// A section of Markdown.
#[must_use]
pub fn markdown(attacks: &AttackEvidence) -> String {
    let mut text = String::from("## Attacks on this model\n\n");
    let AttackEvidence { epsilon, seed, auroc, membership, .. } = attacks;
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
    text.push_str("\nMembership is not protected.");
    let told = |found: &Distinction| {
        format!(
            "AUROC {:.3}, advantage {:.3}, {:.1} % found at 1 % false alarms",
            found.auroc,
            found.advantage,
            100.0 * found.hits_at_one_percent
        )
    };
    let _ = write!(text, " By the loss alone: {}.", told(&membership.by_loss));
    if let Some(references) = &membership.by_references {
        let _ = write!(text, " By {} reference models: {}.", references.models, told(&references.found));
    }
    text.push_str("\n\n");
    let _ = write!(text, "AUROC {auroc:.3}");
    for moved in &attacks.perturbed {
        let _ = write!(text, "; inputs moved by {}: {:.3}", moved.radius, moved.auroc);
    }
    text.push_str(".\n");
    if let Some(group) = &attacks.worst_group {
        let _ = writeln!(
            text,
            "Worst group: {} {} ({} records, {} positive), AUROC {:.3}.",
            group.column, group.values, group.records, group.positives, group.auroc
        );
    }
    text
}

/// Shares of right guesses by sensitive column, in schema order; `None` without columns.
#[must_use]
pub fn svg(attacks: &AttackEvidence) -> Option<String> {
    let line = |name: &str, color, dashed, share: fn(&Reconstruction) -> f64| Series {
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
