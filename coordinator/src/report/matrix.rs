//! Who took part in which round, as inline SVG: one row per site, one column per attempt of a round.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use fusiondp_protocol::SiteId;

use super::text::escape;
use crate::round::reporting::SiteOutcome;
use crate::store::ParticipationRow;

const WIDTH: f64 = 760.0;
const LEFT: f64 = 130.0;
const ROW: f64 = 20.0;
const GAP: f64 = 4.0;
const BOTTOM: f64 = 34.0;

/// Longer names are cut; a tooltip shows them whole.
const NAME_LENGTH: usize = 18;

/// Column labels, about.
const LABELS: usize = 8;

/// Outcomes in the order of the legend.
const LEGEND: [SiteOutcome; 6] = [
    SiteOutcome::Reported,
    SiteOutcome::Working,
    SiteOutcome::Late,
    SiteOutcome::Missing,
    SiteOutcome::Failed,
    SiteOutcome::Refused,
];

/// The matrix with its legend.
pub(super) fn render(participation: &[ParticipationRow]) -> String {
    let mut columns: Vec<(u32, u32)> = participation.iter().map(|row| (row.round, row.attempt)).collect();
    columns.dedup();
    if columns.is_empty() {
        return "<p class=\"empty\">No round has begun.</p>".to_owned();
    }
    let rows = rows(participation, &columns);
    let width = (WIDTH - LEFT) / columns.len() as f64;
    let height = rows.len() as f64 * (ROW + GAP) + BOTTOM;
    let mut svg = String::new();
    // Writing to a String cannot fail.
    let _ = write!(
        svg,
        "<figure><svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"Participation by site and round\">"
    );
    for (index, (site, outcomes)) in rows.iter().enumerate() {
        row(&mut svg, site, outcomes, index as f64 * (ROW + GAP), width);
    }
    column_labels(&mut svg, &columns, width, height);
    svg.push_str("</svg>");
    legend(&mut svg, participation);
    svg.push_str("</figure>");
    svg
}

/// Outcomes of each site by column; `None` where it was not selected.
fn rows<'a>(
    participation: &'a [ParticipationRow],
    columns: &[(u32, u32)],
) -> BTreeMap<&'a SiteId, Vec<Option<SiteOutcome>>> {
    let place: BTreeMap<(u32, u32), usize> =
        columns.iter().enumerate().map(|(index, column)| (*column, index)).collect();
    let mut rows: BTreeMap<&SiteId, Vec<Option<SiteOutcome>>> = BTreeMap::new();
    for entry in participation {
        let outcomes = rows.entry(&entry.site).or_insert_with(|| vec![None; columns.len()]);
        if let Some(index) = place.get(&(entry.round, entry.attempt)) {
            outcomes[*index] = Some(entry.outcome);
        }
    }
    rows
}

/// One row; equal neighbors become one rectangle, so that a thousand rounds stay a small drawing.
fn row(svg: &mut String, site: &SiteId, outcomes: &[Option<SiteOutcome>], top: f64, width: f64) {
    let mut name: String = site.as_str().chars().take(NAME_LENGTH).collect();
    if name.len() < site.as_str().len() {
        name.push('…');
    }
    let _ = write!(
        svg,
        "<text class=\"tick\" x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
        LEFT - 8.0,
        top + ROW * 0.7,
        escape(&name)
    );
    let mut start = 0;
    for run in outcomes.chunk_by(|left, right| left == right) {
        if let Some(outcome) = run[0] {
            let _ = write!(
                svg,
                "<rect class=\"o-{outcome}\" x=\"{:.2}\" y=\"{top:.1}\" width=\"{:.2}\" height=\"{ROW}\">\
                 <title>{}: {outcome}</title></rect>",
                LEFT + start as f64 * width,
                run.len() as f64 * width,
                escape(site.as_str())
            );
        }
        start += run.len();
    }
}

fn column_labels(svg: &mut String, columns: &[(u32, u32)], width: f64, height: f64) {
    let stride = columns.len().div_ceil(LABELS).max(1);
    for (index, (round, _)) in columns.iter().enumerate().step_by(stride) {
        let _ = write!(
            svg,
            "<text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{round}</text>",
            LEFT + (index as f64 + 0.5) * width,
            height - BOTTOM + 14.0
        );
    }
    let _ = write!(
        svg,
        "<text class=\"label\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">round</text>",
        LEFT + (WIDTH - LEFT) / 2.0,
        height - 2.0
    );
}

fn legend(svg: &mut String, participation: &[ParticipationRow]) {
    svg.push_str("<figcaption class=\"legend\">");
    for outcome in LEGEND {
        let count = participation.iter().filter(|row| row.outcome == outcome).count();
        if count > 0 {
            let _ = write!(svg, "<span><i class=\"box o-{outcome}\"></i>{outcome} ({count})</span>");
        }
    }
    svg.push_str("</figcaption>");
}
