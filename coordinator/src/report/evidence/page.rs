//! The page's section on attacks. It stands between two marks, so that it can be filled in long after the report was made.

use super::{AttackEvidence, AuditEvidence, AuditLine, Distinction, Inversion, Membership};
use crate::report::html::table::{
    Column::{Number, Text},
    table,
};
use crate::report::text::{count, escape};
use crate::text::epsilon;

const BEGIN: &str = "<!-- attacks -->";
const END: &str = "<!-- end of attacks -->";

/// A page in which the section has no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the page has no place for attacks; export the report again with a coordinator of this version")]
pub struct Unmarked;

/// The section as the coordinator makes it: it has no evidence.
pub(in crate::report) fn unattacked() -> String {
    section(None, None)
}

/// The section with its marks.
pub(super) fn section(audit: Option<&AuditEvidence>, attacks: Option<&AttackEvidence>) -> String {
    format!(
        "{BEGIN}<h2>Proof by attack</h2><p class=\"soft small\">A guarantee is worth as much as the code that is said to follow it. \
         Attacks are made outside the study, with data at hand, by whoever prepares this report, who has to be believed; anybody \
         with such data can repeat them.</p>{}{}{END}",
        audit.map_or_else(no_audit, releases),
        attacks.map_or_else(no_attacks, model)
    )
}

/// Puts a section in the place of the one that is there.
pub(super) fn insert(html: &str, section: &str) -> Result<String, Unmarked> {
    let (before, rest) = html.split_once(BEGIN).ok_or(Unmarked)?;
    let (_, after) = rest.split_once(END).ok_or(Unmarked)?;
    Ok([before, section, after].concat())
}

fn no_audit() -> String {
    "<p class=\"empty\">Nobody has attacked the releases of this study yet: <code>fusiondp-simulate audit --report DIR</code> \
     does.</p>"
        .to_owned()
}

fn no_attacks() -> String {
    "<p class=\"empty\">Nobody has attacked this model yet: <code>fusiondp-simulate attack --report DIR --data HOSPITALS [--imputer FILE]</code> \
     does.</p>"
        .to_owned()
}

/// Canaries in the releases.
fn releases(audit: &AuditEvidence) -> String {
    let honest = || audit.results.iter().filter(|line| line.fault.is_none());
    let verdict = match honest().find(|line| line.exceeds()) {
        Some(line) => format!(
            "<p class=\"warn\"><b>A lower bound exceeds the claim</b> ({}, {}). One in a hundred does so by chance: repeat the attack with \
             another seed, and do not rely on the figures of this report if it happens again.</p>",
            escape(&line.mechanism),
            line.relation
        ),
        None => format!("<p>The bounds stay below the claims. {}</p>", planted(audit)),
    };
    let columns = [
        Text("release"),
        Text("code"),
        Text("relation"),
        Number("claim ε ≤"),
        Number("right guesses"),
        Number("proved ε ≥"),
        Number("if Gaussian ε ≥"),
        Text("bound and │ claim"),
    ];
    format!(
        "<h3>The releases</h3><p>An adversary who may choose patients' contributions, sees every release and knows all but one secret \
         bit of each chosen patient guesses these bits. As many right guesses among the surest prove that ε is at least so large, \
         whatever the mechanism is. The other bound is by the wrong guesses of all bits; it is sharper, and holds if the mechanism is as \
         private as some Gaussian one and guesses err independently. Confidence {} % each.</p>{verdict}{}{}",
        // 0.01 gives 99.
        100.0 * (1.0 - audit.error_probability),
        table(columns, audit.results.iter().map(audit_row)),
        made(&audit.made_with, audit.seed)
    )
}

/// Whether the attack noticed the faults that were planted for it.
fn planted(audit: &AuditEvidence) -> String {
    let faults: Vec<&AuditLine> = audit.results.iter().filter(|line| line.fault.is_some()).collect();
    let missed: Vec<String> = faults
        .iter()
        .filter(|line| !line.exceeds())
        .filter_map(|line| Some(format!("{} in {}", escape(line.fault.as_ref()?), escape(&line.mechanism))))
        .collect();
    match (faults.len(), missed.len()) {
        (0, _) => {
            "No fault was planted, so it is not shown here that the attack would notice one.".to_owned()
        }
        (_, 0) => {
            "Where a fault was planted on purpose they exceed them: the attack would notice one.".to_owned()
        }
        (all, some) => format!(
            "Of {all} faults that were planted on purpose, {some} were not noticed with so few canaries: {}.",
            missed.join(", ")
        ),
    }
}

fn audit_row(line: &AuditLine) -> [String; 8] {
    [
        escape(&line.mechanism),
        line.fault
            .as_ref()
            .map_or_else(|| "as it is".to_owned(), |fault| format!("planted {}", escape(fault))),
        line.relation.to_string(),
        epsilon(line.claim.get()),
        format!("{} of {}", line.right, line.guesses),
        format!("{:.3}", line.lower_bound),
        format!("{:.3}", line.gaussian_bound),
        bar(line),
    ]
}

/// How far the larger bound reaches, and where the claim is.
fn bar(line: &AuditLine) -> String {
    const WIDTH: f64 = 120.0;
    let claim = line.claim.get();
    let bound = line.lower_bound.max(line.gaussian_bound);
    // The claim stands at two thirds of the width.
    let scale = WIDTH / (1.5 * claim.max(f64::MIN_POSITIVE));
    let color = match (&line.fault, line.exceeds()) {
        (None, false) => "--good",
        (None, true) => "--bad",
        // A bound above the claim is what a planted fault is there for.
        (Some(_), _) => "--c1",
    };
    let reach = (bound * scale).min(WIDTH);
    let at = claim * scale;
    format!(
        "<svg viewBox=\"0 0 {WIDTH} 14\" style=\"width:{WIDTH}px;display:inline-block\" role=\"img\" aria-label=\"bound {bound:.3} of \
         claim {claim:.3}\"><rect x=\"0\" y=\"3\" width=\"{reach:.1}\" height=\"8\" fill=\"var({color})\"/><line x1=\"{at:.1}\" \
         x2=\"{at:.1}\" y1=\"0\" y2=\"14\" stroke=\"var(--fg)\" stroke-width=\"1.5\"/></svg>"
    )
}

/// Attacks on the model.
fn model(attacks: &AttackEvidence) -> String {
    let mut html = format!(
        "<p class=\"soft small\">The figures of the model are computed from true values and leave without noise: no ε of this report \
         counts them, no more than metrics in the clear.</p><h3>The model: what it tells of sensitive values</h3><p>Each sensitive value of {} training records is guessed from public \
         columns, label and model. The true baseline is what an attacker knows without the model: the value that, on other \
         patients, most often goes with the imputer's guess. Shares of right guesses:</p>{}",
        count(attacks.reconstruction.first().map_or(0, |found| found.records) as u64),
        reconstruction(attacks)
    );
    if let Some(found) = &attacks.inversion {
        html.push_str(&inversion(found));
    }
    html.push_str(&membership(&attacks.membership));
    html.push_str(&robustness(attacks));
    html.push_str(&made(&attacks.made_with, attacks.seed));
    html
}

fn reconstruction(attacks: &AttackEvidence) -> String {
    let columns = [
        Text("column"),
        Number("values"),
        Number("most frequent"),
        Number("imputer"),
        Number("best without model"),
        Number("with model"),
        Number("gain"),
    ];
    let row = |found: &super::Reconstruction| {
        let share = |share: f64| format!("{share:.3}");
        [
            format!("<code>{}</code>", escape(&found.column)),
            found.slots.to_string(),
            share(found.mode),
            share(found.imputer),
            share(found.baseline),
            share(found.with_model),
            format!("{:+.3}", found.with_model - found.baseline),
        ]
    };
    table(columns, attacks.reconstruction.iter().map(row))
}

fn inversion(found: &Inversion) -> String {
    format!(
        "<p><b>From a site's updates</b>, in a run of this study that was trained for the attack. Somebody who has all noised updates of a \
         site and every other patient's record reads off <code>{}</code> of {} patients: right for {:.3} of them. Without the noise it would be {:.3}; always naming the most frequent \
         value is right for {:.3}.</p>",
        escape(&found.column),
        count(found.patients as u64),
        found.noised,
        found.without_noise,
        found.mode
    )
}

fn membership(found: &Membership) -> String {
    let row = |how: String, told: &Distinction| {
        let hits = 100.0 * told.hits_at_one_percent;
        [how, format!("{:.3}", told.auroc), format!("{:.3}", told.advantage), format!("{hits:.1}\u{a0}%")]
    };
    let mut rows = vec![row("by the loss".to_owned(), &found.by_loss)];
    if let Some(references) = &found.by_references {
        rows.push(row(format!("by {} reference models", references.models), &references.found));
    }
    let columns = [Text("attack"), Number("AUROC"), Number("advantage"), Number("found at 1 % false alarms")];
    format!(
        "<h3>The model: who was in the training data</h3><p>Membership is <b>not protected</b> by the promise for sensitive values. {} \
         training records against {} others; AUROC 0.5, advantage 0 and 1 % found mean that nothing is told.</p>{}",
        count(found.members as u64),
        count(found.others as u64),
        table(columns, rows.into_iter())
    )
}

fn robustness(attacks: &AttackEvidence) -> String {
    let mut cells = vec![["as they are".to_owned(), format!("{:.3}", attacks.auroc)]];
    for moved in &attacks.perturbed {
        cells.push([format!("moved by up to {}", moved.radius), format!("{:.3}", moved.auroc)]);
    }
    let worst = attacks.worst_group.as_ref().map(|group| {
        format!(
            "Worst group: <code>{}</code> {}, {} records ({} positive), AUROC {:.3}.",
            escape(&group.column),
            escape(&group.values),
            count(group.records as u64),
            count(group.positives as u64),
            group.auroc
        )
    });
    let worst = worst.unwrap_or_else(|| {
        "No group by a value of a sensitive column has enough records of either label to be judged by itself.".to_owned()
    });
    format!(
        "<h3>The model: how it holds</h3><p>AUROC on {} when an adversary moves every continuous public input of each patient within \
         these bounds (standard deviations, where the study scales by them):</p>{}<p>{worst}</p>",
        escape(&attacks.cohort),
        table([Text("inputs"), Number("AUROC")], cells.into_iter())
    )
}

fn made(with: &str, seed: u64) -> String {
    format!("<p class=\"soft small\">Made with {}, seed {seed}.</p>", escape(with))
}
