//! `model-card.md`: what somebody needs to know who meets the model without the study.
//!
//! Sections as in Mitchell et al. 2019 ("Model Cards for Model Reporting"), from the stored facts alone: nothing is said that
//! the coordinator does not know.

use std::fmt::Write as _;

use fusiondp_learn::schema::{Column, Role};
use fusiondp_protocol::study::MetricRelease;

use super::json::{MetricEntry, Summary};
use super::text::{count, figure, or_dash, share};
use crate::study::StudyContext;
use crate::text::{epsilon, time};

/// The card as Markdown.
pub(super) fn markdown(context: &StudyContext, summary: &Summary) -> String {
    [
        details(context, summary),
        use_of(context),
        inputs(context),
        training(context, summary),
        performance(summary),
        privacy(context, summary),
        caveats(context),
    ]
    .join("\n")
}

fn details(context: &StudyContext, summary: &Summary) -> String {
    let study = &summary.study;
    let mut text = format!("# Model card: {}\n\n", plain(&study.name));
    let description = context.study().study.description.trim();
    if !description.is_empty() {
        let _ = writeln!(text, "{}\n", plain(description));
    }
    let rows = [
        ("consortium", plain(&study.consortium)),
        ("study", study.id.clone()),
        ("model", format!("{}, {} parameters", kind(context), count(context.model().parameters() as u64))),
        ("state of the study", study.state.clone()),
        ("trained", or_dash(study.ended_ms.or(study.started_ms).map(time))),
        ("parameters, SHA-256", or_dash(study.model_digest.clone())),
        ("study document, SHA-256", study.digest.clone()),
        ("imputer, SHA-256", or_dash(study.imputer_digest.clone())),
        ("made with", concat!("fusiondp-coordinator ", env!("CARGO_PKG_VERSION")).to_owned()),
    ];
    text.push_str("| | |\n|---|---|\n");
    for (label, value) in rows {
        let _ = writeln!(text, "| {label} | {value} |");
    }
    text
}

fn kind(context: &StudyContext) -> &'static str {
    use fusiondp_learn::model::ModelSpec;
    match context.study().model {
        ModelSpec::Linear {} => "linear",
        ModelSpec::Mlp { .. } => "mlp",
        ModelSpec::Split { .. } => "split: a public tower and an additive head for the sensitive columns",
    }
}

fn use_of(context: &StudyContext) -> String {
    let label = context.study().schema.label().map_or("the label", |column| column.name.as_str());
    format!(
        "## Use\n\n`model.onnx` takes one input a column with raw values and returns `logit` and `probability` of `{label}`. The \
         study's transforms are inside. It was made for the question and the patients of this study; whoever uses it \
         elsewhere has to evaluate it there first. It decides nothing by itself.\n"
    )
}

fn inputs(context: &StudyContext) -> String {
    let mut text = "## Inputs\n\n| column | role in training | |\n|---|---|---|\n".to_owned();
    for column in context.study().schema.columns.iter().filter(|column| column.is_feature()) {
        let _ = writeln!(text, "| `{}` | {} | {} |", column.name, role(column), meaning(column.role));
    }
    text
}

fn role(column: &Column) -> &'static str {
    match column.role {
        Role::Public => "public",
        Role::Sensitive => "sensitive",
        Role::Label => "label",
        Role::UnitId => "unit id",
    }
}

fn meaning(role: Role) -> &'static str {
    match role {
        Role::Sensitive => "protected by the guarantee below",
        _ => "treated as known to an attacker",
    }
}

fn training(context: &StudyContext, summary: &Summary) -> String {
    let mut text =
        "## Training data\n\n| site | privacy units | records | rounds |\n|---|---|---|---|\n".to_owned();
    for site in summary.site_details.iter().filter(|site| site.units > 0) {
        let (units, records) = (count(site.units), count(site.records));
        let _ = writeln!(text, "| {} | {units} | {records} | {} |", site.site, site.rounds_contributed);
    }
    let _ = writeln!(
        text,
        "\nMode `{}`, {} of {} rounds. Records stayed at the sites; the coordinator has seen none.",
        context.study().fusion.mode,
        summary.rounds,
        summary.study.rounds_planned
    );
    text
}

fn performance(summary: &Summary) -> String {
    let last: Vec<&MetricEntry> = summary.metrics.iter().filter(|entry| entry.of_final_model).collect();
    if last.is_empty() {
        return "## Performance\n\nNot measured: no metrics of the final model left the sites.\n".to_owned();
    }
    let mut text = "## Performance\n\n| cohort | site | records | positives | AUROC | AUPR | Brier score |\n|---|---|---|---|---|---|---|\n".to_owned();
    for entry in last {
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {} |",
            entry.cohort,
            entry.site.as_deref().unwrap_or("**pooled**"),
            count(entry.records),
            entry.shown_positives(),
            or_dash(entry.shown_auroc()),
            or_dash(entry.aupr.map(share)),
            or_dash(entry.brier.map(share))
        );
    }
    if summary.counts.is_some() {
        text.push_str(
            "\nEstimated from counts of patients with noise; behind ± stands the standard error by the noise alone.\n",
        );
    }
    text.push_str(
        "\nSites differ as the table shows. Sub-groups, changed inputs and attacks are not measured in the study: where \
         somebody has measured them, attacks.json and report.html say so.\n",
    );
    text
}

fn privacy(context: &StudyContext, summary: &Summary) -> String {
    if !context.study().fusion.mode.has_private_part() {
        return "## Privacy\n\nNo release was protected by noise: see report.html.\n".to_owned();
    }
    let unit = context
        .study()
        .privacy
        .unit_column
        .as_deref()
        .map_or_else(|| "single record".to_owned(), |column| format!("patient (`{column}`)"));
    format!(
        "## Privacy\n\n(ε, δ)-differential privacy of the sensitive columns of each {unit}, for the updates that left the sites and for \
         this model, at δ = {}:\n\n| relation | ε, upper bound |\n|---|---|\n| replace: values change from anything to anything | \
         {} |\n| zero_out: values are used, or imputed ones stand in | {} |\n{}\n{} as the study declares. \
         `fusiondp-coordinator receipts verify` recomputes the figures from the signed receipts beside this card.\n{}",
        figure(summary.delta),
        epsilon(summary.epsilon.replace),
        epsilon(summary.epsilon.zero_out),
        whole_records(summary),
        overlap(summary.max_overlap),
        counts(summary)
    )
}

/// Rows of the second tier.
fn whole_records(summary: &Summary) -> String {
    summary.records_epsilon.map_or_else(String::new, |spent| {
        format!(
            "| whole records, replace: labels and public columns change too | {} |\n| whole records, zero_out | {} |\n",
            epsilon(spent.replace),
            epsilon(spent.zero_out)
        )
    })
}

/// What metrics with noise cost.
fn counts(summary: &Summary) -> String {
    let Some(counts) = &summary.counts else { return String::new() };
    let mut text = "\nMetrics left as counts with noise, at a cost of their own:\n\n| patient | ε, replace | ε, zero_out |\n|---|---|---|\n".to_owned();
    let cohorts = counts.cohorts.iter().map(|one| (format!("of cohort {} alone", one.cohort), one.epsilon));
    let both = [
        ("of the training data and of every cohort", counts.epsilon_with_training),
        ("the same, whole records", counts.records_epsilon_with_training),
    ];
    let both = both.into_iter().filter_map(|(patient, pair)| Some((patient.to_owned(), pair?)));
    for (patient, pair) in cohorts.chain(both) {
        let _ = writeln!(text, "| {patient} | {} | {} |", epsilon(pair.replace), epsilon(pair.zero_out));
    }
    text
}

fn overlap(sites: u32) -> String {
    match sites {
        1 => "No patient is held by two sites,".to_owned(),
        sites => format!("No patient is held by more than {sites} sites,"),
    }
}

fn caveats(context: &StudyContext) -> String {
    let metrics = match context.study().evaluation.release {
        MetricRelease::Summary => "the metrics above, which left the sites in the clear, ",
        MetricRelease::None => "metrics (none left the sites), ",
        MetricRelease::Noisy => "",
    };
    format!(
        "## What is not protected\n\nLabels, public columns, membership, the patients an imputer was fitted on, {metrics}and \
         settings that were chosen by earlier results on the same data.\n"
    )
}

/// A text of a study in one line of Markdown.
fn plain(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|").replace('<', "&lt;")
}
