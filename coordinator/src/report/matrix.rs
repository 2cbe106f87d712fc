//! Who took part in which round, as inline SVG: one row per site, one column per attempt of a round.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use fusiondp_protocol::SiteId;

use super::drawing::Frame;
use super::text::escape;
use crate::round::reporting::SiteOutcome;
use crate::store::ParticipationRow;

const LEFT: f64 = 130.0;
const ROW: f64 = 20.0;
const GAP: f64 = 4.0;

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
    let height = rows.len() as f64 * (ROW + GAP) + Frame::BOTTOM;
    let frame = Frame { left: LEFT, right: 0.0, top: 0.0, height };
    let width = frame.inner_width() / columns.len() as f64;
    let mut svg = String::new();
    for (index, (site, outcomes)) in rows.iter().enumerate() {
        let top = index as f64 * (ROW + GAP);
        frame.side_tick(&mut svg, top + ROW / 2.0, &short(site.as_str()));
        row(&mut svg, site, outcomes, top, width);
    }
    let stride = columns.len().div_ceil(LABELS).max(1);
    for (index, (round, _)) in columns.iter().enumerate().step_by(stride) {
        frame.below_tick(&mut svg, LEFT + (index as f64 + 0.5) * width, &round.to_string());
    }
    frame.figure("Participation by site and round", "round", &svg, &legend(participation))
}

fn short(name: &str) -> String {
    match name.char_indices().nth(NAME_LENGTH) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name.to_owned(),
    }
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
    let mut start = 0;
    for run in outcomes.chunk_by(|left, right| left == right) {
        if let Some(outcome) = run[0] {
            // Writing to a String cannot fail.
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

fn legend(participation: &[ParticipationRow]) -> Vec<(String, String)> {
    let count = |outcome| participation.iter().filter(|row| row.outcome == outcome).count();
    let counted = LEGEND.map(|outcome| (outcome, count(outcome))).into_iter().filter(|(_, count)| *count > 0);
    counted.map(|(outcome, count)| (format!("box o-{outcome}"), format!("{outcome} ({count})"))).collect()
}
