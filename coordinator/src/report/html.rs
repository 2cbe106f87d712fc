//! `report.html`: one page without scripts or anything from elsewhere. Every text of a study or a site is escaped.

mod guarantee;
mod spent;
pub(super) mod table;

use std::fmt::Write as _;

use super::curves;
use super::evidence;
use super::facts::Facts;
use super::json::{MetricEntry, SiteDetail, Summary, WarningEntry};
use super::matrix;
use super::plain;
use super::text::{count, escape, figure, or_dash, share};
use crate::study::StudyContext;
use crate::text::{duration, epsilon, time};
use table::Column::{self, Number, Text};
use table::table;

const STYLE: &str = include_str!("style.css");

/// The whole page.
pub(super) fn page(context: &StudyContext, facts: &Facts, summary: &Summary) -> String {
    let name = escape(&summary.study.name);
    let sections = [
        header(context, summary),
        cards(summary),
        plain::section(context, facts, summary),
        guarantee::section(context, summary),
        curves(summary),
        metrics(summary),
        spent::section(facts, summary),
        plain::checking(facts),
        evidence::unattacked(),
        participation(facts),
        sites(summary),
        warnings(summary),
        study_facts(context, facts, summary),
    ];
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width,initial-scale=1\"><meta name=\"color-scheme\" content=\"light dark\">\
         <title>{name}</title><style>{STYLE}</style></head><body><main>{}</main></body></html>\n",
        sections.concat()
    )
}

fn header(context: &StudyContext, summary: &Summary) -> String {
    let study = &summary.study;
    let description = context.study().study.description.trim();
    let mut html = format!(
        "<h1>{}<span class=\"badge {state}\">{state}</span></h1><p class=\"soft\">{} · {}</p>",
        escape(&study.name),
        escape(&study.consortium),
        escape(&study.id),
        state = escape(&study.state),
    );
    if !description.is_empty() {
        let _ = write!(html, "<p>{}</p>", escape(description));
    }
    if !study.detail.is_empty() {
        let _ = write!(html, "<p class=\"warn\">{}</p>", escape(&study.detail));
    }
    html
}

fn cards(summary: &Summary) -> String {
    let on = summary.evaluated_on();
    let cards = [
        (format!("AUROC, {on}{}", with_noise(summary)), or_dash(summary.shown_auroc())),
        (format!("AUPR, {on}"), or_dash(summary.aupr.map(share))),
        (format!("Brier score, {on}"), or_dash(summary.brier.map(share))),
        sites_card(summary),
        ("ε, replace".to_owned(), epsilon(summary.epsilon.replace)),
        ("ε, zero_out".to_owned(), epsilon(summary.epsilon.zero_out)),
        ("rounds".to_owned(), format!("{} / {}", summary.rounds, summary.study.rounds_planned)),
        ("training time".to_owned(), duration(summary.seconds)),
    ];
    let card = |(label, value): (String, String)| {
        format!("<div class=\"card\"><b>{value}</b><span>{}</span></div>", escape(&label))
    };
    format!("<div class=\"cards\">{}</div>", cards.map(card).concat())
}

fn with_noise(summary: &Summary) -> &'static str {
    if summary.auroc_error.is_some() { ", with noise" } else { "" }
}

/// Says so where the figures beside it are not of all sites.
fn sites_card(summary: &Summary) -> (String, String) {
    match summary.evaluated_sites {
        Some(some) if some < summary.sites => {
            ("sites evaluated".to_owned(), format!("{some} of {}", summary.sites))
        }
        _ => ("sites".to_owned(), summary.sites.to_string()),
    }
}

fn curves(summary: &Summary) -> String {
    format!(
        "<h2>Learning curves</h2><h3>Loss on the public batches</h3>{}{}{}",
        curves::loss(summary),
        curves::metric(summary, "AUROC", |entry| entry.auroc),
        curves::metric(summary, "AUPR", |entry| entry.aupr),
    )
}

fn metrics(summary: &Summary) -> String {
    let last: Vec<&MetricEntry> = summary.metrics.iter().filter(|entry| entry.of_final_model).collect();
    if last.is_empty() {
        return String::new();
    }
    let note = match &summary.evaluated {
        Some(on) => {
            let sites = summary.evaluated_sites.unwrap_or(0);
            format!(
                "Headline figures are those of cohort <code>{}</code>, pooled over {sites} of {} sites.",
                escape(&on.cohort),
                summary.sites
            )
        }
        None => String::new(),
    };
    format!(
        "<h2>The final model</h2><p class=\"soft small\">{}{note}</p>{}",
        pooled_from(summary),
        table(METRIC_COLUMNS, last.into_iter().map(metric_row))
    )
}

fn pooled_from(summary: &Summary) -> &'static str {
    match summary.counts {
        None => "Pooled from counts over 4,096 bins of the predicted score. ",
        Some(_) => {
            "Estimated from counts with noise, in the intervals that the study names; every patient counts once. Behind ± \
             stands the standard error by that noise alone: how other patients would differ is not in it. AUPR and Brier \
             score cannot be told from such counts. "
        }
    }
}

const METRIC_COLUMNS: [Column; 7] = [
    Text("cohort"),
    Text("site"),
    Number("records"),
    Number("positives"),
    Number("AUROC"),
    Number("AUPR"),
    Number("Brier score"),
];

fn metric_row(entry: &MetricEntry) -> [String; 7] {
    [
        escape(&entry.cohort),
        entry.site.as_deref().map_or_else(|| "<b>pooled</b>".to_owned(), escape),
        count(entry.records),
        entry.shown_positives(),
        or_dash(entry.shown_auroc()),
        or_dash(entry.aupr.map(share)),
        or_dash(entry.brier.map(share)),
    ]
}

fn participation(facts: &Facts) -> String {
    format!(
        "<h2>Who took part in which round</h2><p class=\"soft small\">One column per attempt of a round. What a site \
         reported in an abandoned attempt counts in the next one and is paid for once.</p>{}",
        matrix::render(&facts.participation)
    )
}

fn sites(summary: &Summary) -> String {
    let columns = [
        Text("site"),
        Text("state"),
        Number("units"),
        Number("records"),
        Number("rounds"),
        Number("missed"),
        Text("detail"),
    ];
    let row = |site: &SiteDetail| {
        [
            escape(&site.site),
            site.state.to_owned(),
            count(site.units),
            count(site.records),
            site.rounds_contributed.to_string(),
            site.rounds_missed.to_string(),
            escape(&site.detail),
        ]
    };
    format!("<h2>Sites</h2>{}", table(columns, summary.site_details.iter().map(row)))
}

fn warnings(summary: &Summary) -> String {
    if summary.warnings.is_empty() {
        return String::new();
    }
    let line = |warning: &WarningEntry| {
        let site =
            warning.site.as_deref().map_or_else(String::new, |site| format!("<b>{}</b>: ", escape(site)));
        format!("<p class=\"warn\">{site}{}</p>", escape(&warning.message))
    };
    format!("<h2>Warnings</h2>{}", summary.warnings.iter().map(line).collect::<String>())
}

fn study_facts(context: &StudyContext, facts: &Facts, summary: &Summary) -> String {
    let study = context.study();
    let plan = facts.plan.as_ref();
    let rows = [
        ("Mode", study.fusion.mode.to_string()),
        ("Parameters", count(context.model().parameters() as u64)),
        ("Privacy units", or_dash(plan.map(|plan| count(plan.total_units)))),
        ("Records", or_dash(plan.map(|plan| count(plan.total_records)))),
        ("Noise multiplier", or_dash(summary.noise_multiplier.map(figure))),
        ("Sampling probability", or_dash(summary.sampling_probability.map(figure))),
        ("Clip norm", figure(summary.clip_norm)),
        ("Local steps", study.training.local_steps.to_string()),
        ("Submitted", time(summary.study.submitted_ms)),
        ("Started", or_dash(summary.study.started_ms.map(time))),
        ("Ended", or_dash(summary.study.ended_ms.map(time))),
        ("Report made", time(facts.made_ms)),
        ("Study document, SHA-256", summary.study.digest.clone()),
        ("Model parameters, SHA-256", or_dash(summary.study.model_digest.clone())),
        ("Imputer, SHA-256", or_dash(summary.study.imputer_digest.clone())),
    ];
    let row = |(label, value): (&str, String)| {
        let class = if label.ends_with("SHA-256") { " class=\"digest\"" } else { "" };
        format!("<tr><th>{label}</th><td{class}>{}</td></tr>", escape(&value))
    };
    format!(
        "<h2>Study facts</h2><div class=\"wide\"><table>{}</table></div><details><summary>The study document as \
         submitted</summary><pre>{}</pre></details>",
        rows.map(row).concat(),
        escape(context.document().text())
    )
}
