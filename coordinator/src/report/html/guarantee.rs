//! What the guarantee covers, and what it does not.

use fusiondp_dp::Protection;
use fusiondp_protocol::study::MetricRelease;

use super::table::{
    Column::{Number, Text},
    table,
};
use crate::report::json::{Counts, Summary};
use crate::report::text::{escape, figure};
use crate::study::StudyContext;
use crate::study::accounting::EpsilonPair;
use crate::text::epsilon;

/// The section.
pub(super) fn section(context: &StudyContext, summary: &Summary) -> String {
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
