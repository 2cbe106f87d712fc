//! `report.html`: one page without scripts or anything from elsewhere. Every text of a study or a site is escaped.

use std::fmt::Write as _;

use fusiondp_dp::Protection;
use fusiondp_protocol::StudyState;
use fusiondp_protocol::study::MetricRelease;

use super::curves;
use super::evidence;
use super::facts::Facts;
use super::json::{Counts, MetricEntry, SiteDetail, Summary, WarningEntry};
use super::matrix;
use super::plain;
use super::text::{count, escape, figure, or_dash, share};
use crate::study::StudyContext;
use crate::study::accounting::EpsilonPair;
use crate::text::{duration, epsilon, time};

use Column::{Number, Text};

const STYLE: &str = include_str!("style.css");

/// The whole page.
pub(super) fn page(context: &StudyContext, facts: &Facts, summary: &Summary) -> String {
    let name = escape(&summary.study.name);
    let sections = [
        header(context, summary),
        cards(summary),
        plain::section(context, facts, summary),
        guarantee(context, summary),
        curves(summary),
        metrics(summary),
        privacy(facts, summary),
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

fn guarantee(context: &StudyContext, summary: &Summary) -> String {
    let study = context.study();
    let delta = figure(summary.delta);
    let unit = match &study.privacy.unit_column {
        Some(column) => format!("everybody named in column <code>{}</code>", escape(column)),
        None => "every single record".to_owned(),
    };
    let sensitive: Vec<String> =
        study.schema.sensitive().map(|column| format!("<code>{}</code>", escape(&column.name))).collect();
    let claim = if study.fusion.mode.has_private_part() {
        format!(
            "<p>Protected are the sensitive values of {unit}: {}. Whoever sees every update that left the sites, and the model, and \
             knows all else of that person, learns at most as much as (ε, δ)-differential privacy with \
             ε = <b>{}</b> and δ = {delta} allows. <em>replace</em> means that the values change from anything to \
             anything; <em>zero_out</em> that they are used or imputed values stand in for them. All figures are upper \
             bounds, rounded up. A task that brought no update counts as one charge. The authority is each site's \
             ledger: a site that crashed again and again within one task may have spent more.</p>{}",
            sensitive.join(", "),
            summary.headline(),
            overlap(summary)
        )
    } else {
        match study.fusion.mode.has_hybrid_view() {
            true => "<p>No true sensitive value took part in training: the study has no private part and costs no \
                     privacy.</p>"
                .to_owned(),
            false => "<p class=\"warn\">This study protects nothing: it trains on true values without noise. Such a \
                      study runs in simulations only.</p>"
                .to_owned(),
        }
    };
    format!(
        "<h2>What the guarantee covers</h2>{claim}{}<h3>What it does not cover</h3>{}",
        whole_records(summary, &delta) + &counts(summary),
        uncovered(context)
    )
}

/// The second tier.
fn whole_records(summary: &Summary, delta: &str) -> String {
    let Some(spent) = summary.records_epsilon else { return String::new() };
    let how = summary.record_protection.map_or_else(
        || "Nothing is computed from them but the noised sums.".to_owned(),
        |how| {
            format!(
                "Gradients of the public columns are clipped to {} per unit and noised as well (noise multiplier {}, sampling \
                 probability {}).",
                figure(how.clip_norm),
                figure(how.noise_multiplier),
                figure(how.sampling_probability)
            )
        },
    );
    format!(
        "<p><b>Second tier: whole records.</b> {how} So everything in a unit's records, labels and public columns included, may \
         change from anything to anything with ε = <b>{}</b> (replace), or be absent with ε = <b>{}</b> (zero_out), at \
         δ = {delta}. These figures count both parts. How many units and records each site has is public.</p>",
        epsilon(spent.replace),
        epsilon(spent.zero_out)
    )
}

/// What metrics with noise cost, beside training.
fn counts(summary: &Summary) -> String {
    let Some(counts) = &summary.counts else { return String::new() };
    let columns = [Text("cohort"), Number("tables"), Number("ε, replace"), Number("ε, zero_out")];
    let rows = counts.cohorts.iter().map(|cohort| {
        let EpsilonPair { replace, zero_out } = cohort.epsilon;
        [escape(&cohort.cohort), cohort.tables.to_string(), epsilon(replace), epsilon(zero_out)]
    });
    format!(
        "<h3>Metrics with noise</h3><p>Metrics left as counts of patients by outcome and predicted score, each with noise of \
         deviation {} patients. A patient of a cohort who is in no other data loses at most this at δ = {}, label included:</p>{}\
         <p class=\"soft small\">{} Each hospital decides whether it counts both on one account. Tables that never arrived are in the \
         sites' ledgers alone.</p>",
        figure(counts.noise_multiplier),
        figure(summary.delta),
        table(columns, rows),
        together(counts)
    )
}

/// Training and metrics of one patient.
fn together(counts: &Counts) -> String {
    let of = |whose: &str, pair: EpsilonPair| {
        let (replace, zero_out) = (epsilon(pair.replace), epsilon(pair.zero_out));
        format!(
            "A patient who is in the training data and in every cohort loses at most ε = {replace} (replace), {zero_out} (zero_out) of \
             {whose} by training and metrics together. "
        )
    };
    let pairs = [
        ("sensitive values", counts.epsilon_with_training),
        ("whole records", counts.records_epsilon_with_training),
    ];
    let known: String = pairs.into_iter().filter_map(|(whose, pair)| Some(of(whose, pair?))).collect();
    if known.is_empty() {
        return "What a patient loses who is in the training data and in every cohort is not told here: some charges of training \
                were not mirrored."
            .to_owned();
    }
    known
}

fn overlap(summary: &Summary) -> String {
    match summary.max_overlap {
        1 => "<p class=\"soft small\">Sites are declared to hold disjoint patients; the figure is the largest of all \
              sites.</p>"
            .to_owned(),
        sites => format!(
            "<p class=\"soft small\">Up to {sites} sites may hold the same person: the figure composes the charges of \
             the worst {sites}.</p>"
        ),
    }
}

fn uncovered(context: &StudyContext) -> String {
    let study = context.study();
    let label = study.schema.label().map_or("the label", |column| column.name.as_str());
    let public = match study.schema.public().count() {
        1 => "1 column".to_owned(),
        columns => format!("{columns} columns"),
    };
    let metrics = match study.evaluation.release {
        MetricRelease::Summary => {
            "<li>Metrics. Sites sent counts of true outcomes by predicted score, in the clear.</li>"
        }
        MetricRelease::None => "<li>Metrics. None left the sites in this study.</li>",
        // They are covered, with a figure of their own.
        MetricRelease::Noisy => "",
    };
    let tier = match context.protects() {
        Protection::SensitiveValues => "",
        Protection::WholeRecords => " The figures of the second tier alone count them.",
    };
    format!(
        "<ul><li>Labels. <code>{}</code> of every record is treated as known to an attacker.{tier}</li>\
         <li>Public features. They enter training as they are: {public}.{tier}</li>\
         <li>Membership. That somebody's record is part of a site's data is not hidden.{tier}</li>\
         <li>The support data that an imputer was fitted on: its patients' sensitive values shaped the imputer.</li>\
         {metrics}\
         <li>Tuning. Settings that were chosen by looking at earlier results on the same data reveal something of it \
         that no figure here counts; each earlier study has its own cost, which the sites' ledgers add up.</li></ul>",
        escape(label)
    )
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

fn privacy(facts: &Facts, summary: &Summary) -> String {
    let enrolled: Vec<&SiteDetail> = summary.site_details.iter().filter(|site| site.units > 0).collect();
    let planned = summary.planned_epsilon.map_or_else(String::new, |planned| {
        format!(
            "The plan allows one site ε = {} (replace), {} (zero_out) at δ = {}. ",
            epsilon(planned.replace),
            epsilon(planned.zero_out),
            figure(summary.delta)
        )
    });
    let columns = [
        Text("site"),
        Number("this study, replace"),
        Number("this study, zero_out"),
        Number("all studies, replace"),
        Number("all studies, zero_out"),
        Text("mirror"),
    ];
    // No study finishes on figures that were not compared; of others the last updates may not have been.
    let compared = match facts.study.state {
        StudyState::Finished => "At the end they agreed with the mirrored charges.",
        _ => "The study has not finished: the latest have not been compared with the mirrored charges.",
    };
    format!(
        "<h2>Privacy spent</h2><p class=\"soft small\">{planned}Figures are the sites' own, from their ledgers. \
         {compared}</p>{}<h3>By round</h3>{}{}",
        table(columns, enrolled.iter().map(|site| epsilon_row(site))),
        curves::epsilon(&enrolled),
        plain::curve(summary)
    )
}

fn epsilon_row(site: &SiteDetail) -> [String; 6] {
    let all = |of: fn(&EpsilonPair) -> f64| or_dash(site.data_epsilon.as_ref().map(|pair| epsilon(of(pair))));
    [
        escape(&site.site),
        epsilon(site.epsilon.replace),
        epsilon(site.epsilon.zero_out),
        all(|pair| pair.replace),
        all(|pair| pair.zero_out),
        mirror(site),
    ]
}

fn mirror(site: &SiteDetail) -> String {
    match (site.mirror_complete, site.unreported_attempts) {
        (true, _) => "complete".to_owned(),
        (false, 0) => "has gaps".to_owned(),
        (false, tasks) => format!(
            "{tasks} without an answer; claimed {}, {}",
            epsilon(site.epsilon_claimed.replace),
            epsilon(site.epsilon_claimed.zero_out)
        ),
    }
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

/// Heading of a column.
#[derive(Clone, Copy)]
pub(super) enum Column {
    Text(&'static str),
    /// To the right.
    Number(&'static str),
}

impl Column {
    fn cell(self, tag: &str, html: &str) -> String {
        let class = if matches!(self, Number(_)) { " class=\"n\"" } else { "" };
        format!("<{tag}{class}>{html}</{tag}>")
    }
}

/// A table of cells that are HTML already.
pub(super) fn table<const N: usize>(columns: [Column; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let head = columns.map(|column| match column {
        Text(title) | Number(title) => column.cell("th", title),
    });
    let body = rows.map(|cells| {
        let cells = columns.iter().zip(cells).map(|(column, html)| column.cell("td", &html));
        format!("<tr>{}</tr>", cells.collect::<String>())
    });
    format!("<div class=\"wide\"><table><tr>{}</tr>{}</table></div>", head.concat(), body.collect::<String>())
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
