#![allow(clippy::unwrap_used)]
use std::num::NonZeroU32;

use fusiondp_dp::{DpEvent, NeighboringRelation, NoiseMultiplier, Protection, SamplingProbability, epsilon};
use fusiondp_protocol::chunks::encode_f32;
use fusiondp_protocol::{Digest, Plan, SiteSize, StudyDocument, StudyState};

use super::*;
use crate::round::RoundKey;
use crate::round::reporting::SiteOutcome;
use crate::store::{
    Claim, MetricRow, ModelRow, ParticipationRow, RoundRow, Standing, StoredPlan, StudyRow, StudySiteRow,
    UpdateRow, WarningRow,
};
use crate::study::StudyContext;

pub(super) fn context() -> SharedContext {
    let text = crate::study::testing::STUDY.replace("name = \"small\"", "name = \"<b>\"");
    std::sync::Arc::new(StudyContext::new(StudyDocument::from_bytes(text.as_bytes()).unwrap()).unwrap())
}

fn plan(context: &StudyContext) -> Plan {
    let size = |id: &str| SiteSize { site: id.parse().unwrap(), units: 100, records: 200 };
    Plan::derive(context.document(), &[size("a"), size("b")]).unwrap()
}

fn site(id: &str, epsilon_replace: f64) -> StudySiteRow {
    StudySiteRow {
        site: id.parse().unwrap(),
        standing: Standing::Enrolled,
        detail: "\"quoted\" & <marked>".into(),
        units: 100,
        records: 200,
        ledger_head: Some(Digest::of(b"x")),
        rounds_contributed: 5,
        rounds_missed: 0,
        epsilon_replace,
        epsilon_zero_out: epsilon_replace / 2.0,
        records_replace: 0.0,
        records_zero_out: 0.0,
        mirror_gaps: 0,
        ledger_key: None,
    }
}

fn claim(id: &str, steps: u32, complete: bool) -> Claim {
    let event = DpEvent::PoissonSampledGaussian {
        noise_multiplier: NoiseMultiplier::new(2.0).unwrap(),
        sampling_probability: SamplingProbability::new(0.08).unwrap(),
        steps: NonZeroU32::new(steps).unwrap(),
    };
    let epsilon_replace = spent(&[event], NeighboringRelation::Replace);
    let epsilon_zero_out = spent(&[event], NeighboringRelation::ZeroOut);
    Claim {
        site: id.parse().unwrap(),
        epsilon_replace,
        epsilon_zero_out,
        events: vec![event],
        records: crate::store::RecordClaim::default(),
        unreported: 0,
        complete,
    }
}

fn spent(events: &[DpEvent], relation: NeighboringRelation) -> f64 {
    epsilon(events, fusiondp_dp::Delta::new(1e-5).unwrap(), relation).unwrap().get()
}

fn facts(context: &StudyContext, claims: Vec<Claim>) -> Facts {
    Facts {
        consortium: "C & D".into(),
        study: StudyRow {
            id: context.id().clone(),
            name: context.study().study.name.clone(),
            digest: context.digest(),
            state: StudyState::Running,
            detail: String::new(),
            rounds: 6,
            rounds_applied: 0,
            model_version: 0,
            final_version: 0,
            plan: Some(StoredPlan::of(&plan(context))),
            stop_requested: false,
            public_loss: None,
            enrolment_deadline_ms: Some(1),
            submitted_ms: 1,
            started_ms: Some(1_000),
            ended_ms: None,
        },
        plan: Some(plan(context)),
        sites: claims.iter().map(|claim| site(claim.site.as_str(), claim.epsilon_replace)).collect(),
        rounds: Vec::new(),
        participation: Vec::new(),
        updates: Vec::new(),
        metrics: Vec::new(),
        counts: Vec::new(),
        warnings: Vec::new(),
        claims,
        model: None,
        made_ms: 3_500,
    }
}

/// Facts of two sites and of a model whose parameters are all `value`.
pub(super) fn facts_with_model(context: &StudyContext, value: f32) -> Facts {
    let mut parameters = Vec::new();
    encode_f32(&vec![value; context.model().parameters()], &mut parameters);
    let model = ModelRow { digest: Digest::of(&parameters), parameters };
    Facts { model: Some(model), ..facts(context, vec![claim("a", 5, true), claim("b", 4, true)]) }
}

#[test]
fn disjoint_patients_lose_the_largest_figure_and_shared_ones_the_worst_sites_together() {
    let context = context();
    let claims = vec![claim("a", 5, true), claim("b", 4, true), claim("c", 1, true)];
    let facts = facts(&context, claims);
    let single = facts.spent(Protection::SensitiveValues, 1).unwrap();
    assert_eq!(single.total.replace, facts.claims[0].epsilon_replace);
    let both = facts.spent(Protection::SensitiveValues, 2).unwrap();
    let nine = claim("x", 9, true);
    assert_eq!((both.total.replace, both.total.zero_out), (nine.epsilon_replace, nine.epsilon_zero_out));
    assert!(!both.at_larger_delta);
}

#[test]
fn charges_that_were_not_seen_are_added_up_and_said_to_be() {
    let context = context();
    let facts = facts(&context, vec![claim("a", 5, false), claim("b", 4, true)]);
    let both = facts.spent(Protection::SensitiveValues, 2).unwrap();
    assert_eq!(both.total.replace, facts.claims[0].epsilon_replace + facts.claims[1].epsilon_replace);
    assert!(both.at_larger_delta);
}

#[test]
fn a_task_that_brought_no_update_counts_as_charged() {
    let context = context();
    let mut silent = claim("a", 5, true);
    silent.unreported = 2;
    let mut never_heard = claim("b", 1, true);
    (never_heard.epsilon_replace, never_heard.epsilon_zero_out) = (0.0, 0.0);
    never_heard.events.clear();
    never_heard.unreported = 1;
    let facts = facts(&context, vec![silent, never_heard, claim("c", 6, true)]);
    // The plan of these tests samples less than the claims do, so the sums are composed of two kinds of events.
    let step = facts.plan.as_ref().unwrap().step_event().unwrap();
    let of = |events: &[DpEvent]| spent(events, NeighboringRelation::Replace);
    let seven = of(&[facts.claims[0].events[0], step.merged_with(&step).unwrap()]);
    let spent = facts.spent(Protection::SensitiveValues, 1).unwrap();
    assert!(seven > facts.claims[0].epsilon_replace);
    assert_eq!(spent.sites[&facts.claims[0].site].replace, seven);
    assert_eq!(spent.sites[&facts.claims[1].site].replace, of(&[step]));
    assert_eq!(
        spent.sites[&facts.claims[2].site].replace, facts.claims[2].epsilon_replace,
        "answered everything"
    );
    assert_eq!(spent.total.replace, seven.max(facts.claims[2].epsilon_replace));

    let summary = json::summary(&context, &facts).unwrap();
    let json = serde_json::to_value(&summary).unwrap();
    assert_eq!(json["site_details"][0]["unreported_attempts"], 2);
    assert_eq!(json["site_details"][0]["mirror_complete"], false);
    assert_eq!(json["site_details"][0]["epsilon_claimed"]["replace"], facts.claims[0].epsilon_replace);
    let warned: Vec<_> = summary.warnings.iter().filter_map(|one| one.site.as_deref()).collect();
    assert_eq!(warned, ["a", "b"]);
    assert!(html::page(&context, &facts, &summary).contains("2 without an answer"));
}

#[test]
fn a_study_that_has_hardly_begun_has_a_report_without_a_model() {
    let context = context();
    let files = write(&context, &facts(&context, vec![claim("a", 5, true)])).unwrap();
    assert_eq!(
        files.iter().map(|file| file.name.as_str()).collect::<Vec<_>>(),
        ["report.html", "report.json", "study.toml"]
    );
    let html = String::from_utf8(files[0].bytes.clone()).unwrap();
    assert!(html.contains("&lt;b&gt;") && html.contains("C &amp; D"));
    assert!(html.contains("&quot;quoted&quot; &amp; &lt;marked&gt;") && !html.contains("<marked>"));
    let json: serde_json::Value = serde_json::from_slice(&files[1].bytes).unwrap();
    assert_eq!((json["seconds"].as_f64(), json["auroc"].as_f64()), (Some(2.5), None));
    assert_eq!(json["site_details"][0]["state"], "enrolled");
}

fn metric(site: Option<&str>, round: u32, cohort: &str, model_version: u64) -> MetricRow {
    MetricRow {
        model_version,
        round,
        cohort: cohort.parse().unwrap(),
        site: site.map(|site| site.parse().unwrap()),
        records: 1_234,
        positives: 200,
        auroc: Some(0.9 - 0.5 / f64::from(round)),
        aupr: Some(0.8 - 0.5 / f64::from(round)),
        brier: Some(0.06),
        log_loss: Some(0.2),
        noise: None,
    }
}

fn outcome(round: u32, site: usize) -> SiteOutcome {
    match (round, site) {
        (4, 1) => SiteOutcome::Late,
        (7..=9, 2) => SiteOutcome::Missing,
        (11, 0) => SiteOutcome::Failed,
        (14, 3) => SiteOutcome::Refused,
        (20, 0) => SiteOutcome::Working,
        _ => SiteOutcome::Reported,
    }
}

/// Twenty rounds of five sites to which everything happened that can.
fn eventful(context: &StudyContext) -> Facts {
    let names = ["hospital-a", "hospital-b", "a-hospital-with-a-very-long-name", "d", "e"];
    let claims = names.iter().map(|name| claim(name, 20, true)).collect();
    let mut facts = facts(context, claims);
    for round in 1..=20_u32 {
        let key = RoundKey { round, attempt: 1, model_version: u64::from(round) };
        facts.rounds.push(RoundRow {
            key,
            phase: fusiondp_protocol::RoundPhase::Finished,
            detail: String::new(),
            opened_ms: 1,
            deadline_ms: None,
            ended_ms: Some(2),
            public_loss: Some(0.2 + 0.5 / f64::from(round)),
        });
        for attempt in 1..=1 + u32::from(round == 8) {
            for (index, name) in names.iter().enumerate().filter(|(index, _)| *index != 3 || round < 15) {
                let (site, outcome) = (name.parse().unwrap(), outcome(round, index));
                facts.participation.push(ParticipationRow {
                    round,
                    attempt,
                    site,
                    outcome,
                    detail: String::new(),
                });
            }
        }
        for (index, name) in names.iter().enumerate() {
            let epsilon = f64::from(round).sqrt() / 5.0 * (1.0 + index as f64 / 50.0);
            facts.updates.push(UpdateRow {
                round,
                site: name.parse().unwrap(),
                late: false,
                public_loss: 0.3,
                events: 1,
                epsilon_replace: epsilon,
                epsilon_zero_out: epsilon / 2.0,
                data_epsilon_replace: epsilon * 1.5,
                data_epsilon_zero_out: epsilon * 0.75,
                received_ms: 1,
            });
        }
        if round.is_multiple_of(5) {
            let sites = names.iter().map(|name| Some(*name)).chain([None]);
            facts.metrics.extend(sites.map(|site| metric(site, round, "val", u64::from(round))));
        }
    }
    facts.study.rounds_applied = 20;
    let message = "site <x> has a gap in its mirrored ledger".to_owned();
    facts.warnings = vec![WarningRow { site: Some("hospital-b".parse().unwrap()), message, at_ms: 5 }];
    facts
}

#[test]
fn figures_that_are_not_the_final_ones_say_which_they_are() {
    let context = context();
    let mut facts = eventful(&context);
    let summary = json::summary(&context, &facts).unwrap();
    let json = serde_json::to_value(&summary).unwrap();
    assert_eq!(json["evaluated"], serde_json::json!({ "cohort": "val", "round": 20, "final": false }));
    assert!(html::page(&context, &facts, &summary).contains("AUROC, val, round 20<"));

    facts.study.final_version = 21;
    facts.metrics.push(metric(None, 20, "test", 21));
    let summary = json::summary(&context, &facts).unwrap();
    let page = html::page(&context, &facts, &summary);
    assert!(page.contains("AUROC, test<") && page.contains("those of cohort <code>test</code>"));
    facts.metrics.extend(["hospital-a", "d"].map(|site| metric(Some(site), 20, "test", 21)));
    let summary = json::summary(&context, &facts).unwrap();
    assert!(html::page(&context, &facts, &summary).contains("<b>2 of 5</b><span>sites evaluated<"));
    assert_eq!(summary.evaluated_sites, Some(2));
    facts.metrics.clear();
    assert_eq!(json::summary(&context, &facts).unwrap().evaluated_on(), "not evaluated");
}

#[test]
fn a_comparison_is_claimed_only_where_it_was_made() {
    let context = context();
    let mut facts = eventful(&context);
    let page = |facts: &Facts| html::page(&context, facts, &json::summary(&context, facts).unwrap());
    for state in [StudyState::Running, StudyState::Stopped, StudyState::Failed] {
        facts.study.state = state;
        assert!(page(&facts).contains("have not been compared with the mirrored charges"), "{state}");
    }
    facts.study.state = StudyState::Finished;
    assert!(page(&facts).contains("they agreed with the mirrored charges"));
}

#[test]
fn the_page_shows_every_outcome_warning_and_curve() {
    let context = context();
    let facts = eventful(&context);
    let summary = json::summary(&context, &facts).unwrap();
    let page = html::page(&context, &facts, &summary);
    for (outcome, count) in
        [("working", 1), ("reported", 91), ("late", 1), ("missing", 4), ("failed", 1), ("refused", 1)]
    {
        assert!(page.contains(&format!("</i>{outcome} ({count})<")), "{outcome}");
    }
    assert!(page.contains("site &lt;x&gt; has a gap") && !page.contains("<x>"));
    assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
    assert_eq!(
        page.matches("<svg").count(),
        7,
        "loss, AUROC, AUPR, epsilon, profile, trade-off, participation"
    );
    for nonsense in ["NaN", "inf ", "<script", "http:", "https:", " src="] {
        assert!(!page.contains(nonsense), "{nonsense}");
    }
}

/// The plain words say what follows from the epsilon, and nothing better.
#[test]
fn plain_words_follow_from_the_figures() {
    let context = context();
    let mut facts = eventful(&context);
    let key = fusiondp_dp::LedgerKey::from_seed([1; 32]).public();
    facts.sites[0].ledger_key = Some(key);
    let summary = json::summary(&context, &facts).unwrap();
    let page = html::page(&context, &facts, &summary);
    let epsilon = fusiondp_dp::Epsilon::new(summary.epsilon.replace).unwrap();
    let sure = 100.0 * fusiondp_dp::largest_posterior(0.5, epsilon);
    let said = format!("{:.1}\u{a0}%", (10.0 * sure).ceil() / 10.0);
    assert!(
        page.contains("In plain words") && page.contains(&format!("<td class=\"n\">{said}</td>")),
        "{said}"
    );
    let factor = format!("{:.2}", fusiondp_dp::largest_odds_factor(epsilon));
    assert!(page.contains(&format!("<td class=\"n\">{factor}</td>")), "{factor}");
    assert!(page.contains("receipts verify DIR") && page.contains(&key.to_string()));

    let json = serde_json::to_value(&summary).unwrap();
    let points = json["privacy_curve"]["replace"]["profile"].as_array().unwrap();
    let at = |delta: f64| points.iter().find(|point| point["delta"].as_f64() == Some(delta)).unwrap();
    assert_eq!(
        at(1e-5)["epsilon"].as_f64().unwrap(),
        spent(&facts.claims[0].events, NeighboringRelation::Replace)
    );
    // Where charges are missing no curve is drawn.
    facts.claims[0].complete = false;
    let summary = json::summary(&context, &facts).unwrap();
    assert!(summary.profiles.is_none() && serde_json::to_value(&summary).unwrap()["privacy_curve"].is_null());
}

#[test]
fn the_model_card_says_what_the_report_says() {
    let context = context();
    let mut facts = eventful(&context);
    facts.study.final_version = 21;
    facts.metrics.push(metric(None, 20, "test", 21));
    let summary = json::summary(&context, &facts).unwrap();
    let card = card::markdown(&context, &summary);
    let column = &context.study().schema.sensitive().next().unwrap().name;
    for part in [
        &format!("| `{column}` | sensitive | protected by the guarantee below |"),
        &crate::text::epsilon(summary.epsilon.replace),
        &crate::text::epsilon(summary.epsilon.zero_out),
        "| test | **pooled** |",
        "| hospital-a | 100 | 200 |",
        &summary.study.digest,
        "## What is not protected",
    ] {
        assert!(card.contains(part), "{part}: {card}");
    }
    assert!(!card.contains("NaN") && !card.contains('\t'), "{card}");
}

/// A study with noisy metrics whose site `a` has sent two tables of `test`, and `b` one of it and one of `val`.
fn noisy() -> (SharedContext, Facts) {
    use crate::study::testing::{counts_charge, noisy_counts, noisy_document};
    let document = noisy_document();
    let table = |cohort: &str| noisy_counts(&[1, 2, 3, 4], counts_charge(&document, cohort)).charge;
    let counts = [("a", "test"), ("a", "test"), ("b", "test"), ("b", "val")]
        .map(|(site, cohort)| (site.parse().unwrap(), table(cohort)));
    let context: SharedContext = std::sync::Arc::new(StudyContext::new(document.clone()).unwrap());
    let mut facts = facts(&context, vec![claim("a", 5, true), claim("b", 4, true)]);
    facts.counts = counts.to_vec();
    facts.study.final_version = 21;
    let noise = Some(crate::store::MetricNoise { auroc_error: Some(0.0432), positives_error: 17.3 });
    facts.metrics.push(MetricRow {
        aupr: None,
        brier: None,
        log_loss: None,
        noise,
        ..metric(None, 20, "test", 21)
    });
    (context, facts)
}

#[test]
fn noisy_metrics_cost_what_their_tables_cost_alone_and_with_training() {
    let (context, facts) = noisy();
    let delta = context.study().privacy.delta;
    let table = facts.counts[0].1.entry.charge().event;
    let tables = |count: u32| table.with_steps(NonZeroU32::new(count).unwrap());
    let of = |events: &[DpEvent]| spent(events, NeighboringRelation::Replace);
    let disjoint = facts.counts_spent(delta, 1, false).unwrap().unwrap();
    let cohorts: Vec<_> = disjoint.cohorts.iter().map(|one| (one.cohort.as_str(), one.tables)).collect();
    assert_eq!(cohorts, [("test", 2), ("val", 1)]);
    assert_eq!(disjoint.cohorts[0].epsilon.replace, of(&[tables(2)]));
    assert_eq!(disjoint.cohorts[1].epsilon.replace, of(&[tables(1)]));
    assert_eq!(disjoint.with_training.unwrap().replace, of(&[facts.claims[0].events[0], tables(2)]));
    let shared = facts.counts_spent(delta, 2, false).unwrap().unwrap();
    assert_eq!((shared.cohorts[0].tables, shared.cohorts[1].tables), (3, 1));
    let nine = claim("x", 9, true).events[0];
    assert_eq!(shared.with_training.unwrap().replace, of(&[nine, tables(4)]));
}

/// Whole records lose by the tables too, and by public sums; a site with charges that nobody has seen leaves no figure.
#[test]
fn tables_count_with_training_in_both_tiers_and_never_with_half_of_it() {
    let (context, mut facts) = noisy();
    let delta = context.study().privacy.delta;
    let (table, private) = (facts.counts[0].1.entry.charge().event, facts.claims[0].events[0]);
    let noise_multiplier = NoiseMultiplier::new(3.0).unwrap();
    let public = DpEvent::GaussianHistogram { noise_multiplier, steps: NonZeroU32::new(7).unwrap() };
    facts.claims[0].records.events = vec![private, public];
    facts.claims[1].records.events = vec![private.with_steps(NonZeroU32::new(6).unwrap())];
    let spent_of = |facts: &Facts| facts.counts_spent(delta, 1, true).unwrap().unwrap();
    let of = |events: &[DpEvent]| spent(events, NeighboringRelation::Replace);
    let tables = table.with_steps(NonZeroU32::new(2).unwrap());
    // One site has most of one kind, the other of the other kind: no figure below either.
    let worst = [private.with_steps(NonZeroU32::new(6).unwrap()), public, tables];
    assert_eq!(spent_of(&facts).records_with_training.unwrap().replace, of(&worst));
    assert_eq!(facts.counts_spent(delta, 1, false).unwrap().unwrap().records_with_training, None);
    facts.claims[1].complete = false;
    let unknown = spent_of(&facts);
    assert_eq!((unknown.with_training, unknown.records_with_training), (None, None));
    let html = html::page(&context, &facts, &json::summary(&context, &facts).unwrap());
    assert!(html.contains("some charges of training were not mirrored"), "{html}");
}

#[test]
fn a_report_of_noisy_metrics_names_error_and_cost_and_does_not_call_them_uncovered() {
    let (context, facts) = noisy();
    let summary = json::summary(&context, &facts).unwrap();
    let (html, card) = (html::page(&context, &facts, &summary), card::markdown(&context, &summary));
    for text in [&html, &card] {
        assert!(text.contains("± 0.0432") && text.contains("± 17"), "{text}");
        assert!(
            text.contains(&crate::text::epsilon(summary.counts.as_ref().unwrap().cohorts[0].epsilon.replace))
        );
        assert!(!text.contains("in the clear") && !text.contains("none left"), "{text}");
    }
    assert!(html.contains("AUROC, test, with noise") && !html.contains("<li>Metrics"), "{html}");
    let json = serde_json::to_value(&summary).unwrap();
    assert_eq!((json["auroc_error"].as_f64(), json["aupr"].as_f64()), (Some(0.0432), None));
    assert_eq!(json["metrics"][0]["noisy"], true);
    assert_eq!(json["counts"]["cohorts"][0]["tables"], 2);
}
