#![allow(clippy::unwrap_used)]
use std::num::NonZeroU32;

use fusiondp_dp::{DpEvent, NeighboringRelation, NoiseMultiplier, SamplingProbability, epsilon};
use fusiondp_protocol::{Digest, Plan, SiteSize, StudyDocument, StudyState};

use super::facts::Spent;
use super::*;
use crate::round::RoundKey;
use crate::round::reporting::SiteOutcome;
use crate::store::{
    Claim, MetricRow, ParticipationRow, RoundRow, Standing, StudyRow, StudySiteRow, UpdateRow, WarningRow,
};
use crate::study::StudyContext;

fn context() -> SharedContext {
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
        mirror_gaps: 0,
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
        complete,
        broken: None,
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
            plan: Some(plan(context)),
            stop_requested: false,
            public_loss: None,
            enrolment_deadline_ms: Some(1),
            submitted_ms: 1,
            started_ms: Some(1_000),
            ended_ms: None,
        },
        sites: claims.iter().map(|claim| site(claim.site.as_str(), claim.epsilon_replace)).collect(),
        rounds: Vec::new(),
        participation: Vec::new(),
        updates: Vec::new(),
        metrics: Vec::new(),
        warnings: Vec::new(),
        claims,
        model: None,
        made_ms: 3_500,
    }
}

fn spent_of(facts: &Facts, overlap: u32) -> Spent {
    facts.spent(&facts.exposures().unwrap(), overlap).unwrap()
}

#[test]
fn a_task_that_nobody_answered_may_have_been_charged_for() {
    let context = context();
    let mut facts = facts(&context, vec![claim("a", 2, true), claim("b", 2, true)]);
    let step = plan(&context).step_event().unwrap();
    facts.claims[1].events = vec![step; 2];
    let row = |round, attempt, outcome| ParticipationRow {
        round,
        attempt,
        site: "b".parse().unwrap(),
        outcome,
        detail: String::new(),
    };
    // The first round is a warm-up; what was reported, late or refused has no further charge.
    facts.participation = vec![
        row(1, 1, SiteOutcome::Missing),
        row(2, 1, SiteOutcome::Reported),
        row(3, 1, SiteOutcome::Late),
        row(4, 1, SiteOutcome::Missing),
        row(4, 2, SiteOutcome::Failed),
        row(5, 1, SiteOutcome::Working),
        row(6, 1, SiteOutcome::Refused),
    ];
    let exposures = facts.exposures().unwrap();
    assert_eq!((exposures[0].unanswered, exposures[1].unanswered), (0, 3));
    assert_eq!(exposures[0].at_most.replace, facts.claims[0].epsilon_replace);
    let five = [step; 5];
    let at_most = (exposures[1].at_most.replace, exposures[1].at_most.zero_out);
    let composed = crate::study::audit::merged(&five);
    let expected =
        (spent(&composed, NeighboringRelation::Replace), spent(&composed, NeighboringRelation::ZeroOut));
    assert_eq!(at_most, expected);
    let files = write(&context, &facts).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&files[1].bytes).unwrap();
    assert_eq!(json["epsilon"]["replace"].as_f64(), Some(expected.0.max(facts.claims[0].epsilon_replace)));
    let detail = &json["site_details"][1];
    assert_eq!((&detail["unanswered_tasks"], &detail["mirror_complete"]), (&3.into(), &false.into()));
    assert!(detail["epsilon_at_most"]["replace"].as_f64() > detail["epsilon"]["replace"].as_f64());
    let warnings = json["warnings"].to_string();
    assert!(warnings.contains("3 private task(s) were not answered"), "{warnings}");
}

#[test]
fn disjoint_patients_lose_the_largest_figure_and_shared_ones_the_worst_sites_together() {
    let context = context();
    let claims = vec![claim("a", 5, true), claim("b", 4, true), claim("c", 1, true)];
    let facts = facts(&context, claims);
    let single = spent_of(&facts, 1);
    assert_eq!(single.replace, facts.claims[0].epsilon_replace);
    let both = spent_of(&facts, 2);
    let nine = claim("x", 9, true);
    assert_eq!((both.replace, both.zero_out), (nine.epsilon_replace, nine.epsilon_zero_out));
    assert!(!both.at_larger_delta);
}

#[test]
fn charges_that_were_not_seen_are_added_up_and_said_to_be() {
    let context = context();
    let facts = facts(&context, vec![claim("a", 5, false), claim("b", 4, true)]);
    let both = spent_of(&facts, 2);
    assert_eq!(both.replace, facts.claims[0].epsilon_replace + facts.claims[1].epsilon_replace);
    assert!(both.at_larger_delta);
}

#[test]
fn a_study_that_has_hardly_begun_has_a_report_without_a_model() {
    let context = context();
    let files = write(&context, &facts(&context, vec![claim("a", 5, true)])).unwrap();
    assert_eq!(
        files.iter().map(|file| file.name).collect::<Vec<_>>(),
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
        brier: 0.06,
        log_loss: 0.2,
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
    facts.metrics.clear();
    assert_eq!(json::summary(&context, &facts).unwrap().evaluated_on(), "not evaluated");
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
    assert_eq!(page.matches("<svg").count(), 5, "loss, AUROC, AUPR, epsilon, participation");
    for nonsense in ["NaN", "inf ", "<script", "http:", "https:", " src="] {
        assert!(!page.contains(nonsense), "{nonsense}");
    }
}
