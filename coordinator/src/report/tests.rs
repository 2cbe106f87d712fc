#![allow(clippy::unwrap_used)]
use std::num::NonZeroU32;

use fusiondp_dp::{DpEvent, NeighboringRelation, NoiseMultiplier, SamplingProbability, epsilon};
use fusiondp_protocol::{Digest, Plan, SiteSize, StudyDocument, StudyState};

use super::*;
use crate::store::{Claim, Standing, StudyRow, StudySiteRow};
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

#[test]
fn disjoint_patients_lose_the_largest_figure_and_shared_ones_the_worst_sites_together() {
    let context = context();
    let claims = vec![claim("a", 5, true), claim("b", 4, true), claim("c", 1, true)];
    let facts = facts(&context, claims);
    let single = facts.spent(1).unwrap();
    assert_eq!(single.replace, facts.claims[0].epsilon_replace);
    let both = facts.spent(2).unwrap();
    let nine = claim("x", 9, true);
    assert_eq!((both.replace, both.zero_out), (nine.epsilon_replace, nine.epsilon_zero_out));
    assert!(!both.at_larger_delta);
}

#[test]
fn charges_that_were_not_seen_are_added_up_and_said_to_be() {
    let context = context();
    let facts = facts(&context, vec![claim("a", 5, false), claim("b", 4, true)]);
    let both = facts.spent(2).unwrap();
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
