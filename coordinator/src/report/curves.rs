//! The curves of a report: what is drawn over the rounds.

use super::chart::{Below, Chart, Series};
use super::json::{EpsilonPoint, MetricEntry, SiteDetail, Summary};

/// Site curves that a chart shows beside the pooled one; more would hide it.
const MAX_SITE_CURVES: usize = 8;

/// The loss on the public batches.
pub(super) fn loss(summary: &Summary) -> String {
    let points = summary.losses.iter().map(|loss| (f64::from(loss.round), loss.public_loss)).collect();
    let series = vec![Series { name: "public loss".to_owned(), color: 0, dashed: false, points }];
    Chart {
        title: "Mean public loss by round",
        below: Below::Rounds,
        y_label: "public loss, nats",
        from_zero: false,
        series,
    }
    .render()
}

/// One figure over the rounds: pooled by cohort, and each site's own.
pub(super) fn metric(summary: &Summary, name: &str, of: fn(&MetricEntry) -> Option<f64>) -> String {
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
    let chart = Chart { title: &title, below: Below::Rounds, y_label: name, from_zero: false, series };
    format!("<h3>{name}</h3>{}", chart.render())
}

/// Both figures of each site by round.
pub(super) fn epsilon(enrolled: &[&SiteDetail]) -> String {
    let mut series = relation_curves(enrolled, "replace", false, |point| point.replace);
    series.extend(relation_curves(enrolled, "zero_out", true, |point| point.zero_out));
    Chart {
        title: "Epsilon spent by site and round",
        below: Below::Rounds,
        y_label: "ε",
        from_zero: true,
        series,
    }
    .render()
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
