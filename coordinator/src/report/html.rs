//! `report.html`: one page without scripts or anything from elsewhere. Every text of a study or a site is escaped.

use std::fmt::Write as _;

use fusiondp_protocol::study::MetricRelease;

use super::chart::{Chart, Series};
use super::facts::Facts;
use super::json::{EpsilonPair, EpsilonPoint, MetricEntry, SiteDetail, Summary};
use super::matrix;
use super::text::{count, escape, figure, or_dash, share};
use crate::study::StudyContext;
use crate::text::{duration, epsilon, time};

const STYLE: &str = include_str!("style.css");

/// Site curves that a chart shows beside the pooled one; more would hide it.
const MAX_SITE_CURVES: usize = 8;

/// The whole page.
pub(super) fn page(context: &StudyContext, facts: &Facts, summary: &Summary) -> String {
    let name = escape(&summary.study.name);
    let sections = [
        header(context, summary),
        cards(summary),
        guarantee(context, summary),
        curves(summary),
        metrics(summary),
        privacy(summary),
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
        (format!("AUROC, {on}"), or_dash(summary.auroc.map(share))),
        (format!("AUPR, {on}"), or_dash(summary.aupr.map(share))),
        (format!("Brier score, {on}"), or_dash(summary.brier.map(share))),
        ("sites".to_owned(), summary.sites.to_string()),
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
            "<p>Protected are the sensitive values of {unit}: {}. Whoever sees everything that left the sites, and \
             knows all else of that person, learns at most as much as (ε, δ)-differential privacy with \
             ε = <b>{}</b> and δ = {delta} allows. <em>replace</em> means that the values change from anything to \
             anything; <em>zero_out</em> that they are used or imputed values stand in for them. All figures are upper \
             bounds, rounded up; they count one charge for every task that a site did not answer. The account that \
             decides is each site's own ledger, where a site that crashed within a task may have charged for it more \
             than once.</p>{}",
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
    format!("<h2>What the guarantee covers</h2>{claim}<h3>What it does not cover</h3>{}", uncovered(context))
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
            "Metrics. Sites sent counts of true outcomes by predicted score, in the clear."
        }
        MetricRelease::None => "Metrics. None left the sites in this study.",
    };
    format!(
        "<ul><li>Labels. <code>{}</code> of every record is treated as known to an attacker.</li>\
         <li>Public features. They enter training as they are: {public}.</li>\
         <li>Membership. That somebody's record is part of a site's data is not hidden.</li>\
         <li>The support data that an imputer was fitted on: its patients' sensitive values shaped the imputer.</li>\
         <li>{metrics}</li>\
         <li>Tuning. Settings that were chosen by looking at earlier results on the same data reveal something of it \
         that no figure here counts; each earlier study has its own cost, which the sites' ledgers add up.</li></ul>",
        escape(label)
    )
}

fn curves(summary: &Summary) -> String {
    let loss = summary.losses.iter().map(|loss| (f64::from(loss.round), loss.public_loss)).collect();
    let series = vec![Series { name: "public loss".to_owned(), color: 0, dashed: false, points: loss }];
    let chart =
        Chart { title: "Mean public loss by round", y_label: "public loss, nats", from_zero: false, series };
    format!(
        "<h2>Learning curves</h2><h3>Loss on the public batches</h3>{}{}{}",
        chart.render(),
        metric_chart(summary, "AUROC", |entry| entry.auroc),
        metric_chart(summary, "AUPR", |entry| entry.aupr),
    )
}

/// One figure over the rounds: pooled by cohort, and each site's own.
fn metric_chart(summary: &Summary, name: &str, of: fn(&MetricEntry) -> Option<f64>) -> String {
    let mut keys: Vec<(&str, Option<&str>)> =
        summary.metrics.iter().map(|entry| (entry.cohort.as_str(), entry.site.as_deref())).collect();
    keys.sort_by_key(|(cohort, site)| (site.is_some(), *cohort, *site));
    keys.dedup();
    let mut series = Vec::new();
    for (cohort, site) in keys {
        let matches = |entry: &&MetricEntry| entry.cohort == cohort && entry.site.as_deref() == site;
        let point = |entry: &MetricEntry| of(entry).map(|value| (f64::from(entry.round), value));
        let points: Vec<(f64, f64)> = summary.metrics.iter().filter(matches).filter_map(point).collect();
        // A single value is in the table and no curve; many sites would hide the pooled line.
        if points.len() < 2 || (site.is_some() && series.len() > MAX_SITE_CURVES) {
            continue;
        }
        let name = site.map_or_else(|| format!("{cohort}, pooled"), |site| format!("{cohort}, {site}"));
        series.push(Series { name, color: series.len(), dashed: site.is_some(), points });
    }
    if series.is_empty() {
        return String::new();
    }
    let title = format!("{name} by round");
    let chart = Chart { title: &title, y_label: name, from_zero: false, series };
    format!("<h3>{name}</h3>{}", chart.render())
}

fn metrics(summary: &Summary) -> String {
    let last: Vec<&MetricEntry> = summary.metrics.iter().filter(|entry| entry.of_final_model).collect();
    if last.is_empty() {
        return String::new();
    }
    let row = |entry: &&MetricEntry| {
        format!(
            "<tr><td>{}</td><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>\
             <td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
            escape(&entry.cohort),
            entry.site.as_deref().map_or_else(|| "<b>pooled</b>".to_owned(), escape),
            count(entry.records),
            count(entry.positives),
            or_dash(entry.auroc.map(share)),
            or_dash(entry.aupr.map(share)),
            share(entry.brier)
        )
    };
    let note = match &summary.evaluated {
        Some(on) => {
            format!("Headline figures are those of cohort <code>{}</code>, pooled.", escape(&on.cohort))
        }
        None => String::new(),
    };
    format!(
        "<h2>The final model</h2><p class=\"soft small\">Pooled from counts over 4,096 bins of the predicted score. {note}\
         </p><div class=\"wide\"><table><tr><th>cohort</th><th>site</th><th class=\"n\">records</th>\
         <th class=\"n\">positives</th><th class=\"n\">AUROC</th><th class=\"n\">AUPR</th><th class=\"n\">Brier</th></tr>{}\
         </table></div>",
        last.iter().map(row).collect::<String>()
    )
}

fn privacy(summary: &Summary) -> String {
    let enrolled: Vec<&SiteDetail> = summary.site_details.iter().filter(|site| site.units > 0).collect();
    let chart = Chart {
        title: "Epsilon spent by site and round",
        y_label: "ε",
        from_zero: true,
        series: epsilon_curves(&enrolled),
    };
    let planned = summary.planned_epsilon.map_or_else(String::new, |planned| {
        format!(
            "The plan allows one site ε = {} (replace), {} (zero_out) at δ = {}. ",
            epsilon(planned.replace),
            epsilon(planned.zero_out),
            figure(summary.delta)
        )
    });
    format!(
        "<h2>Privacy spent</h2><p class=\"soft small\">{planned}Figures are the sites' own, from their ledgers, compared \
         with the mirrored charges.</p><div class=\"wide\"><table><tr><th>site</th>\
         <th class=\"n\">this study, replace</th><th class=\"n\">this study, zero_out</th>\
         <th class=\"n\">all studies, replace</th><th class=\"n\">all studies, zero_out</th><th>mirror</th></tr>{}</table>\
         </div><h3>By round</h3>{}",
        enrolled.iter().map(|site| epsilon_row(site)).collect::<String>(),
        chart.render()
    )
}

fn epsilon_row(site: &SiteDetail) -> String {
    let all = |of: fn(&EpsilonPair) -> f64| or_dash(site.data_epsilon.as_ref().map(|pair| epsilon(of(pair))));
    format!(
        "<tr><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>\
         <td class=\"n\">{}</td><td>{}</td></tr>",
        escape(&site.site),
        epsilon(site.epsilon_at_most.replace),
        epsilon(site.epsilon_at_most.zero_out),
        all(|pair| pair.replace),
        all(|pair| pair.zero_out),
        match (site.mirror_complete, site.unanswered_tasks) {
            (true, _) => "complete".to_owned(),
            (false, 0) => "has gaps".to_owned(),
            (false, tasks) => format!("{tasks} task(s) unanswered"),
        }
    )
}

/// Both figures of each site by round.
fn epsilon_curves(enrolled: &[&SiteDetail]) -> Vec<Series> {
    let mut series = relation_curves(enrolled, "replace", false, |point| point.replace);
    series.extend(relation_curves(enrolled, "zero_out", true, |point| point.zero_out));
    series
}

/// One figure of each site by round; sites with the same figures share a line.
fn relation_curves(
    enrolled: &[&SiteDetail],
    relation: &str,
    dashed: bool,
    of: fn(&EpsilonPoint) -> f64,
) -> Vec<Series> {
    let points = |site: &SiteDetail| -> Vec<(f64, f64)> {
        site.epsilon_by_round.iter().map(|point| (f64::from(point.round), of(point))).collect()
    };
    let mut sites: Vec<&SiteDetail> = enrolled.to_vec();
    sites.sort_by_key(|site| points(site).iter().map(|point| point.1.to_bits()).collect::<Vec<_>>());
    let groups = sites.chunk_by(|left, right| points(left) == points(right));
    let curve = |(color, group): (usize, &[&SiteDetail])| {
        let names: Vec<&str> = group.iter().map(|site| site.site.as_str()).collect();
        let who = if names.len() > 2 { format!("{} sites", names.len()) } else { names.join(" and ") };
        Series { name: format!("{who}, {relation}"), color, dashed, points: points(group[0]) }
    };
    groups.take(MAX_SITE_CURVES).enumerate().map(curve).collect()
}

fn participation(facts: &Facts) -> String {
    format!(
        "<h2>Who took part in which round</h2><p class=\"soft small\">One column per attempt of a round. What a site \
         reported in an abandoned attempt counts in the next one and is paid for once.</p>{}",
        matrix::render(&facts.participation)
    )
}

fn sites(summary: &Summary) -> String {
    let row = |site: &SiteDetail| {
        format!(
            "<tr><td>{}</td><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>\
             <td class=\"n\">{}</td><td>{}</td></tr>",
            escape(&site.site),
            site.state,
            count(site.units),
            count(site.records),
            site.rounds_contributed,
            site.rounds_missed,
            escape(&site.detail)
        )
    };
    format!(
        "<h2>Sites</h2><div class=\"wide\"><table><tr><th>site</th><th>state</th><th class=\"n\">units</th>\
         <th class=\"n\">records</th><th class=\"n\">rounds</th><th class=\"n\">missed</th><th>detail</th></tr>{}</table></div>",
        summary.site_details.iter().map(row).collect::<String>()
    )
}

fn warnings(summary: &Summary) -> String {
    if summary.warnings.is_empty() {
        return String::new();
    }
    let line = |warning: &super::json::WarningEntry| {
        let site =
            warning.site.as_deref().map_or_else(String::new, |site| format!("<b>{}</b>: ", escape(site)));
        format!("<p class=\"warn\">{site}{}</p>", escape(&warning.message))
    };
    format!("<h2>Warnings</h2>{}", summary.warnings.iter().map(line).collect::<String>())
}

fn study_facts(context: &StudyContext, facts: &Facts, summary: &Summary) -> String {
    let study = context.study();
    let plan = facts.study.plan.as_ref();
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
