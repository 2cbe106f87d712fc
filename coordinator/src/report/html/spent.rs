//! What each site has spent.

use fusiondp_protocol::StudyState;

use super::table::{
    Column::{Number, Text},
    table,
};
use crate::report::facts::Facts;
use crate::report::json::{SiteDetail, Summary};
use crate::report::text::{escape, figure, or_dash};
use crate::report::{curves, plain};
use crate::study::accounting::EpsilonPair;
use crate::text::epsilon;

/// The section.
pub(super) fn section(facts: &Facts, summary: &Summary) -> String {
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
         {compared}</p>{}{}<h3>By round</h3>{}{}",
        table(columns, enrolled.iter().map(|site| epsilon_row(site))),
        records_by_site(&enrolled),
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

/// What whole records lose at each site, in a study that protects them.
fn records_by_site(enrolled: &[&SiteDetail]) -> String {
    let row = |site: &&SiteDetail| {
        let (spent, claimed) = site.records_epsilon.zip(site.records_epsilon_claimed)?;
        Some([
            escape(&site.site),
            epsilon(spent.replace),
            epsilon(spent.zero_out),
            epsilon(claimed.replace),
            epsilon(claimed.zero_out),
        ])
    };
    let rows: Vec<[String; 5]> = enrolled.iter().filter_map(row).collect();
    if rows.is_empty() {
        return String::new();
    }
    let columns = [
        Text("site"),
        Number("this study, replace"),
        Number("this study, zero_out"),
        Number("as the site said, replace"),
        Number("as the site said, zero_out"),
    ];
    format!("<h3>Whole records</h3>{}", table(columns, rows.into_iter()))
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
