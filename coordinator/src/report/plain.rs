//! What an ethics board reads first: the guarantee in plain words, and how to check it.

use fusiondp_dp::{Epsilon, NeighboringRelation, largest_odds_factor, largest_posterior};
use fusiondp_protocol::study::MetricRelease;

use super::facts::Facts;
use super::json::Summary;
use super::profile::Profiles;
use super::text::{count, escape, figure};
use crate::study::StudyContext;
use crate::text::epsilon;

/// How likely something was held before, in the table of what an attacker can become sure of.
const PRIORS: [f64; 4] = [0.01, 0.1, 0.5, 0.9];

/// Rate of false alarms at which the text says what an attack can hit.
const FALSE_ALARMS: f64 = 0.05;

/// The section; empty for a study that releases nothing private.
pub(super) fn section(context: &StudyContext, facts: &Facts, summary: &Summary) -> String {
    if !context.study().fusion.mode.has_private_part() {
        return String::new();
    }
    format!(
        "<h2>In plain words</h2>{}{}{}{}",
        done(context, facts, summary),
        sure(summary),
        summary.profiles.as_ref().map_or_else(String::new, |profiles| noticed(summary, profiles)),
        limits(summary)
    )
}

fn done(context: &StudyContext, facts: &Facts, summary: &Summary) -> String {
    let sensitive: Vec<String> = context
        .study()
        .schema
        .sensitive()
        .map(|column| format!("<code>{}</code>", escape(&column.name)))
        .collect();
    let units = facts.plan.as_ref().map_or(0, |plan| plan.total_units);
    format!(
        "<p>{} sites trained one model together on {} {}. No site has handed over a record. Of their values of {} nothing \
         left a site but sums over randomly drawn patients, with each patient's part limited and random noise added; what \
         was computed from the sums since, the model included, is covered by the same promise.{}</p>",
        summary.sites,
        count(units),
        unit(context),
        sensitive.join(", "),
        released(context)
    )
}

/// What else left.
fn released(context: &StudyContext) -> &'static str {
    match context.study().evaluation.release {
        MetricRelease::Summary => {
            " Outside the promise, sites also sent counts that tell how well the model does on patients set aside for that."
        }
        MetricRelease::Noisy => {
            " Beside that, sites sent counts that tell how well the model does, with random noise on each: their cost is told below."
        }
        MetricRelease::None => "",
    }
}

fn unit(context: &StudyContext) -> String {
    match &context.study().privacy.unit_column {
        Some(column) => {
            format!("patients (whoever has an entry of their own in <code>{}</code>)", escape(column))
        }
        None => "records, each protected by itself".to_owned(),
    }
}

/// The posterior reading of both epsilons.
fn sure(summary: &Summary) -> String {
    let relations = [
        (
            NeighboringRelation::Replace,
            "between any two values that the patient could have",
            summary.epsilon.replace,
        ),
        (
            NeighboringRelation::ZeroOut,
            "between the patient's true values and imputed ones",
            summary.epsilon.zero_out,
        ),
    ];
    let head: String =
        PRIORS.iter().map(|prior| format!("<th class=\"n\">{}</th>", percent(*prior))).collect();
    let rows: String = relations
        .iter()
        .map(|(relation, question, loss)| {
            // What cannot be an epsilon is no bound at all.
            let bound = Epsilon::new(*loss).unwrap_or(Epsilon::INFINITE);
            let cell =
                |prior: &f64| format!("<td class=\"n\">{}</td>", percent(largest_posterior(*prior, bound)));
            let factor = largest_odds_factor(bound);
            let factor = if factor.is_finite() { format!("{factor:.2}") } else { "no limit".to_owned() };
            format!(
                "<tr><td class=\"wrap\">{question} ({relation}, ε = {})</td><td class=\"n\">{factor}</td>{}</tr>",
                epsilon(*loss),
                PRIORS.iter().map(cell).collect::<String>()
            )
        })
        .collect();
    format!(
        "<p>Somebody sees every update that left the sites, and the model, knows everything else of a patient, and tries to decide \
         about the sensitive values. Their odds change by no more than this factor, so they end at most this sure, if they had \
         been so sure before:</p>\
         <div class=\"wide\"><table><tr><th>deciding</th><th class=\"n\">factor</th>{head}</tr>{rows}</table></div>\
         <p class=\"soft small\">But for a chance of δ = {} in which no such limit is promised.</p>",
        figure(summary.delta)
    )
}

fn noticed(summary: &Summary, profiles: &Profiles) -> String {
    let profile = profiles.of(summary.headline_relation);
    let hits = 1.0 - profile.least_miss_rate(FALSE_ALARMS);
    format!(
        "<p>An attack that wrongly suspects {} of the patients finds at most {} of those it is after; guessing finds {}. Under \
         <em>{}</em>, no attack is better than guessing by more than {} (hits minus false alarms).</p>",
        percent(FALSE_ALARMS),
        percent(hits.min(1.0)),
        percent(FALSE_ALARMS),
        summary.headline_relation,
        percent(profile.largest_advantage())
    )
}

fn limits(summary: &Summary) -> String {
    let overlap = match summary.max_overlap {
        1 => "no patient is held by two sites, as the study declares".to_owned(),
        sites => format!("no patient is held by more than {sites} sites, as the study declares"),
    };
    format!(
        "<p>This holds if {overlap}, and if each site's own software did what its receipts say. It does not speak of labels, of \
         public columns, of whether somebody was a patient at all, and of what was published beside the model: see below.{}</p>",
        if summary.records_epsilon.is_some() {
            " A second, weaker promise of this study does speak of labels and public columns: see the second tier."
        } else {
            ""
        }
    )
}

/// How anybody can check the figures.
pub(super) fn checking(facts: &Facts) -> String {
    let keys: String = facts
        .sites
        .iter()
        .filter_map(|site| {
            let key = site.ledger_key?;
            Some(format!("<tr><td>{}</td><td class=\"digest\">{key}</td></tr>", escape(site.site.as_str())))
        })
        .collect();
    if keys.is_empty() {
        return String::new();
    }
    format!(
        "<h2>How to check this report</h2><p>Each update that left a site has a receipt beside this page, signed by the site. \
         <code>fusiondp-coordinator receipts verify DIR --ca ca.pem</code> recomputes the epsilons above from nothing but these, without \
         network, and checks under the consortium's authority that each key is the named hospital's. Without <code>--ca</code> the keys \
         are as the coordinator recorded them; each hospital tells its own (<code>fusiondp-site ledger verify</code>):</p><div class=\"wide\"><table><tr><th>site</th><th>ledger key</th></tr>\
         {keys}</table></div>"
    )
}

/// The privacy curve as drawings.
pub(super) fn curve(summary: &Summary) -> String {
    let Some(profiles) = &summary.profiles else { return String::new() };
    format!(
        "<h3>The whole curve</h3><p class=\"soft small\">One ε at one δ is a point of it. The second drawing is the same curve as an \
         attack sees it: what it misses at least, at each rate of false alarms.</p>{}{}",
        profiles.profile_chart().render(),
        profiles.trade_off_chart().render()
    )
}

/// Percent, rounded up in the last digit so that no bound is understated.
fn percent(share: f64) -> String {
    let percent = (1_000.0 * share).ceil() / 10.0;
    format!("{percent:.1}\u{a0}%")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percents_are_never_understated() {
        assert_eq!(percent(0.05), "5.0\u{a0}%");
        assert_eq!(percent(0.731_05), "73.2\u{a0}%");
        assert_eq!(percent(1.0), "100.0\u{a0}%");
    }
}
